"""Whatever stands in a snapshot, the overview shows it: anybody who may write an XCom can put anything there."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from submission_examples import example_snapshot

from airflow_claude_batch._airflow.snapshot_values import values_of
from airflow_claude_batch._airflow.states import State
from airflow_claude_batch._airflow.submissions import FoundSubmission
from airflow_claude_batch._airflow.task_rows import TaskKey
from airflow_claude_batch.batch.land.snapshot import SnapshotState, read_snapshot
from airflow_claude_batch.web.overview import overview_of
from airflow_claude_batch.web.overview_filters import Filters
from airflow_claude_batch.web.overview_lines import lines_of
from airflow_claude_batch.web.templating import render_page

pytestmark = pytest.mark.airflow

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
HTML = "<script>alert('&\"')</script>"

texts = st.sampled_from([HTML, "", "0.5", "1e999999", "-1", "NaN", "9" * 400, "\ud800", "\x00", "ended"]) | st.text()
numbers = st.sampled_from([0, -1, 1, 2**31, 2**63, 10**400, True, math.nan, math.inf, -0.5, 1e308]) | st.integers()
times = st.sampled_from(
    ["2026-11-30T10:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2999-01-01T00:00:00Z", ""]
)
json_values = st.recursive(
    st.none() | texts | numbers | times,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
counts = st.dictionaries(st.sampled_from(["succeeded", "errored", HTML]), st.integers(-5, 2**70), max_size=3)
models = st.dictionaries(
    texts, json_values | st.fixed_dictionaries({"usd": texts | st.none(), "counts": counts | json_values}), max_size=30
)
points = st.fixed_dictionaries({"lower": texts, "expected": texts, "upper": texts})
estimates = st.fixed_dictionaries(
    {}, optional={"usd": points | json_values, "models": models | json_values, "expected_seconds": json_values}
)
fields = {
    "state": st.sampled_from(list(SnapshotState)),
    "request_count": st.integers(0, 2**32 - 1),
    "part_count": st.integers(0, 2**32 - 1),
    "landed_parts": st.integers(0, 2**32 - 1),
    "created_at": times,
    "ended_at": times,
    "reason": texts,
    "failure": texts,
    "usual": st.tuples(numbers, numbers, numbers),
    "estimate": estimates | json_values,
    "counts": counts,
    "by_model": models,
    "cost": st.fixed_dictionaries({}, optional={"usd": json_values, "unknown_answers": json_values}) | json_values,
    "reused": json_values,
    "parts": st.lists(
        st.fixed_dictionaries(
            {"state": st.sampled_from(["unconfirmed", "in_progress", "ended", "landed", "dropped"])},
            optional={"created_at": times, "expires_at": times, "requests": numbers, "batch_id": texts},
        ),
        max_size=3,
    ),
}
#: A snapshot, some of whose fields are anything.
snapshots = st.builds(
    lambda state, changes: {**example_snapshot(3, state, NOW), **changes},
    st.sampled_from(["waiting", "ended"]),
    st.fixed_dictionaries({}, optional=fields) | st.dictionaries(st.sampled_from(sorted(fields)), json_values),
)
task_states = st.sampled_from(["success", "failed", "deferred", "running", None, "up_for_retry", "skipped"])


def page_of(value: Any, task_state: str | None) -> str | None:
    """Render the overview with one snapshot. None if it is no snapshot."""
    snapshot = read_snapshot(value)
    if snapshot is None:
        return None
    found = FoundSubmission(TaskKey("dag", "run", "send"), task_state, 1, NOW, snapshot, None)
    overview = replace(overview_of(lines_of([found], NOW), Filters(), dag_ids=["dag"]), shows_errors={"dag"})
    return render_page("overview.html.j2", overview=overview, State=State)


@settings(max_examples=150, deadline=None)
@given(snapshots, task_states)
def test_any_snapshot_makes_a_page(value: dict[str, Any], task_state: str | None) -> None:
    page = page_of(value, task_state)
    if page is not None:
        assert page.encode()
        assert page.count("<script") == 1, "that of the layout"
        assert 'class="name"' in page


@pytest.mark.parametrize(
    "usual", [(math.nan, 1.0, 2), (-1.0, 5.0, 1), (5.0, 1.0, 1), (1.0, math.inf, 1), (1.0, 2.0, 0)]
)
def test_an_odd_usual_duration_gives_way_to_the_estimates(usual: tuple[float, float, int]) -> None:
    snapshot = read_snapshot({**example_snapshot(0, "waiting", NOW), "usual": usual})
    values = values_of(snapshot, None)
    assert values.usual == (timedelta(minutes=15), timedelta(minutes=50), 5)


def test_amounts_that_are_none_are_unknown_and_not_zero() -> None:
    value = example_snapshot(0, "ended", NOW)
    value |= {"cost": {"usd": "1e5"}, "by_model": {"m": {"usd": "-3", "counts": {}}}}
    page = page_of(value, "success")
    assert page is not None
    assert re.search(r'data-label="cost">unknown<', page)
    assert "≥ $0.00" in page


def test_long_texts_are_cut() -> None:
    value = {**example_snapshot(3, "waiting", NOW, "x" * 100_000), "by_model": {"y" * 10_000: {}}}
    page = page_of(value, "failed")
    assert page is not None
    assert len(page) < 20_000
