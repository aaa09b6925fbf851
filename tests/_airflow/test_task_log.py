"""The log lines about the outcome of a submission."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from airflow_claude_batch._airflow.task_log import log_manifest
from airflow_claude_batch.batch.land.manifest import Manifest

pytestmark = pytest.mark.airflow


def manifest(counts: dict[str, int], **fields: Any) -> Manifest:
    usage = {"input_tokens": 5, "output_tokens": 5}
    values = {
        "submission_id": "s",
        "status": "ended",
        "batch_ids": ["msgbatch_1"],
        "request_count": sum(counts.values()),
        "counts": counts,
        "results_path": "/data/results.jsonl",
        "usage": usage,
        "cost": {"usd": "0.0021", "estimated_usd": "0.004"},
        "by_model": {"claude-haiku-5-5": {"counts": counts, "usage": usage, "usd": "0.0021"}},
        **fields,
    }
    return Manifest(**values)


@pytest.mark.parametrize(
    ("counts", "fields", "says"),
    [
        (
            {"succeeded": 1},
            {},
            "Nothing was sent: the answer was there. Nothing is billed now; the cost of 0.002100 USD",
        ),
        ({"succeeded": 1200, "errored": 0}, {}, "Nothing was sent: all 1,200 answers were there. Nothing is billed"),
        (
            {"succeeded": 2, "errored": 1},
            {},
            "3 requests had their rows: 2 succeeded, 1 errored. Nothing is billed now",
        ),
        (
            {"errored": 1},
            {"cost": {"usd": None}},
            "1 request had its row: 1 errored. Nothing is billed now; the cost of",
        ),
        ({"missing": 3}, {"status": "in_progress"}, "Nothing was sent now: an earlier try had sent every request."),
    ],
    ids=["one", "all", "some errored", "unknown cost", "in progress"],
)
def test_attempt_that_found_everything_done_says_that_nothing_was_sent_or_billed(
    counts: dict[str, int], fields: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    log_manifest(manifest(counts, **fields), is_old=True)

    assert says in caplog.text
    assert "Bill:" not in caplog.text


def test_attempt_that_landed_something_logs_its_bill(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    log_manifest(manifest({"succeeded": 2}))

    assert "Bill:" in caplog.text
    assert "Nothing was sent" not in caplog.text


def test_reused_answers_are_told_with_their_days_and_what_they_cost_first(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    told = {"first_usd": "1.25", "oldest_at": "2026-11-20T09:00:00Z", "newest_at": "2026-11-22T09:00:00Z"}
    log_manifest(manifest({"succeeded": 950}, reused={"requests": 949, **told}))
    assert "949 answers were reused from the answer store, answered between 2026-11-20 and 2026-11-22." in caplog.text
    assert "Nothing is billed for them; they cost 1.25 USD then." in caplog.text
    one = {"requests": 1, "first_usd": None, "oldest_at": told["newest_at"], "newest_at": told["newest_at"]}
    log_manifest(manifest({"succeeded": 1}, reused=one))
    assert "1 answer was reused from the answer store, answered on 2026-11-22." in caplog.text
    assert "Nothing is billed for it; it cost an unknown amount then." in caplog.text


def test_bill_is_split_by_way_and_says_what_may_have_been_paid_for_twice(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    direct = {"answers": 45, "usd": "0.2", "batch_usd": "0.4", "unseen": 8}

    log_manifest(manifest({"succeeded": 300}, direct=direct))

    assert "message batches 0.40 USD, and 45 requests asked directly at full price 0.20 USD." in caplog.text
    assert "8 requests were in flight when a process of this task ended. They may have been answered" in caplog.text
