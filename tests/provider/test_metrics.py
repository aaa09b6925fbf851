"""What Airflow's Stats are told."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from airflow_claude_batch import metrics
from airflow_claude_batch.batch.manifest import Manifest

NOW = datetime(2026, 11, 23, tzinfo=UTC)


class RecordingStats:
    """Keeps what Airflow's Stats would send on."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.timers: dict[str, timedelta] = {}

    def incr(self, name: str, count: int = 1, *, tags: dict[str, str] | None = None) -> None:
        self.counters[",".join([name, *(f"{key}={value}" for key, value in (tags or {}).items())])] += count

    def timing(self, name: str, value: timedelta) -> None:
        self.timers[name] = value


@pytest.fixture
def stats(monkeypatch: pytest.MonkeyPatch) -> RecordingStats:
    recording = RecordingStats()
    monkeypatch.setattr(metrics, "Stats", recording)
    return recording


def manifest(status: str) -> Manifest:
    return Manifest(
        submission_id="s",
        status=status,
        batch_ids=["msgbatch_1"],
        request_count=3,
        counts={"succeeded": 2, "errored": 1, "expired": 0},
        results_path="/r",
        usage={"input_tokens": 70, "output_tokens": 30, "cache_read_input_tokens": 0, "web_search_requests": 1},
        cost={"usd": "0.0125"},
        created_at=NOW,
        ended_at=NOW + timedelta(minutes=7),
    )


def test_an_ended_submission_is_counted_by_outcome_tokens_and_money(stats: RecordingStats) -> None:
    metrics.report(manifest("ended"))

    assert stats.counters == {
        "claude_batch.submissions,status=ended": 1,
        "claude_batch.rows,outcome=succeeded": 2,
        "claude_batch.rows,outcome=errored": 1,
        "claude_batch.tokens,kind=input": 70,
        "claude_batch.tokens,kind=output": 30,
        "claude_batch.cost_microusd": 12_500,
    }
    assert stats.timers == {"claude_batch.turnaround": timedelta(minutes=7)}


def test_a_submission_that_is_handed_on_counts_no_rows_yet(stats: RecordingStats) -> None:
    metrics.report(manifest("in_progress"))

    assert stats.counters == {"claude_batch.submissions,status=in_progress": 1}
