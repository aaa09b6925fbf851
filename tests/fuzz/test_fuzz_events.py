"""Fuzz trigger arguments and events from Airflow's database: of this release, of another, or of any other shape."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from fuzzing import fuzzed, json_values, mutated, texts
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch import triggers
from airflow_claude_batch._airflow.task_loop import apply_wait_result
from airflow_claude_batch.api import evidence
from airflow_claude_batch.batch.wait.wait_result import BatchState, WaitResult
from airflow_claude_batch.exceptions import BatchError, ClaudeBatchError
from airflow_claude_batch.triggers import MessageBatchTrigger

EVENT = WaitResult(
    "error",
    {"msgbatch_1": BatchState("ended", {"succeeded": 3}, "2026-11-22T09:00:00+00:00")},
    "no",
    "NotFoundError",
    ("msgbatch_2",),
).to_event()

KWARGS = MessageBatchTrigger(
    "claude_default",
    batch_ids=["msgbatch_1"],
    open_batch_ids=["msgbatch_1", "msgbatch_2"],
    until="2026-11-22T09:00:00+00:00",
    submitted_at="2026-11-21T09:00:00+00:00",
).serialize()[1]


class Work:
    """Records which batches are marked as lost."""

    def __init__(self) -> None:
        self.lost_ids: list[str] = []

    def mark_lost(self, batch_id: str, reason: str) -> None:
        self.lost_ids.append(batch_id)


@fuzzed
@given(data=st.data())
def test_any_event_is_read_and_applied_or_raises_our_error(data: st.DataObject) -> None:
    event = data.draw(json_values) if data.draw(st.booleans()) else mutated(EVENT, data.draw)
    result = WaitResult.from_event(event)
    assert result.status in ("ended", "due", "error")
    assert all(isinstance(batch_id, str) for batch_id in (*result.batches, *result.lost))
    json.dumps(result.to_event())
    assert WaitResult.from_event(json.loads(json.dumps(result.to_event()))) == result
    work = Work()
    try:
        apply_wait_result(result, work, "a_task")  # type: ignore[arg-type]
    except BatchError as error:
        assert "a_task" in str(error)
    assert work.lost_ids == (list(result.lost) if result.status == "error" else [])


@fuzzed
@given(
    without=st.sets(st.sampled_from(sorted(set(KWARGS) - {"claude_conn_id", "batch_ids"}))),
    more=st.dictionaries(texts.filter(lambda name: name not in KWARGS and name != "self"), json_values, max_size=3),
)
def test_arguments_of_older_and_newer_releases_make_the_same_trigger(without: set[str], more: dict[str, Any]) -> None:
    stored = {**{name: value for name, value in KWARGS.items() if name not in without}, **more}
    path, kept = MessageBatchTrigger(**stored).serialize()

    assert path == "airflow_claude_batch.triggers.MessageBatchTrigger"
    assert set(kept) == set(KWARGS)
    assert {name: kept[name] for name in KWARGS if name not in without} == {
        name: KWARGS[name] for name in KWARGS if name not in without
    }


@fuzzed
@given(data=st.data())
def test_trigger_with_any_arguments_fires_exactly_once(data: st.DataObject) -> None:
    """The task resumes and reports the error instead of waiting for ever."""
    stored = mutated(KWARGS, data.draw)
    if not isinstance(stored, dict) or not isinstance(stored.get("batch_ids"), list):
        return  # Airflow's triggerer fails the task of a trigger that cannot be built
    if not isinstance(stored.get("open_batch_ids"), list | None):
        return
    stored["claude_conn_id"] = "no_such_connection"
    stored["until"] = stored.get("until") or "2026-11-22T09:00:00+00:00"

    async def fire() -> list[Any]:
        return [event.payload async for event in MessageBatchTrigger(**stored).run()]

    (payload,) = asyncio.run(asyncio.wait_for(fire(), 20))
    result = WaitResult.from_event(json.loads(json.dumps(payload)))
    assert result.status in ("error", "due")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "STARTUP_DELAY_SECONDS", 0.0)
    monkeypatch.setattr(evidence, "LASTING", timedelta(0))
    monkeypatch.setattr(evidence, "LASTING_POLLS", 1)


def test_batch_error_is_one_of_our_errors() -> None:
    assert issubclass(BatchError, ClaudeBatchError)


def test_fuzzed_text_can_be_logged() -> None:
    logging.getLogger("airflow_claude_batch").warning("a lone surrogate: %s", "\ud800")
