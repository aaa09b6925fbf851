"""How far the batches have come, in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_claude_batch.batch.wait.history import History
from airflow_claude_batch.batch.wait.progress import Known, progress, usual_in_words, usual_of
from airflow_claude_batch.batch.wait.wait_result import BatchState

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
RUNNING, ENDED = BatchState("in_progress", {"processing": 300}), BatchState("ended", {"succeeded": 190, "errored": 10})


@pytest.mark.parametrize(
    ("known", "ended", "open_", "says"),
    [
        (Known(), [], {"a": RUNNING}, "Message batch a is still in progress, 2 hours after it was created."),
        (
            Known(),
            [ENDED],
            {"a": RUNNING},
            "1 of 2 message batches has ended, with 200 of 500 requests. Message batch a is still in progress,",
        ),
        (
            Known(2, 1000),
            [ENDED],
            {"a": RUNNING, "b": RUNNING},
            "3 of 5 message batches have ended, with 1,200 of 1,800 requests. 2 message batches are still in progress,",
        ),
        (Known(1, 1), [], {"a": None}, "1 of 2 message batches has ended, with 1 request. Message batch a is"),
        (Known(1), [], {"a": None}, "1 of 2 message batches has ended. Message batch a is still in progress"),
        (
            Known(),
            [],
            {"a": BatchState("in_progress", {"processing": 1, "succeeded": 1})},
            "1 of 2 requests have ended.",
        ),
        (Known(), [], {"a": BatchState("in_progress", {"succeeded": 1})}, "1 of 1 request has ended."),
        (
            Known(usual=(720, 2400, 5)),
            [],
            {"a": RUNNING},
            "The last 5 message batches of this task took 12 minutes to 40",
        ),
    ],
)
def test_progress_counts_what_has_ended_and_tells_the_age_of_the_others(
    known: Known, ended: list[BatchState], open_: dict[str, BatchState | None], says: str
) -> None:
    assert says in progress(known, ended, open_, NOW - timedelta(hours=2), NOW)


def test_age_that_is_not_known_is_not_told() -> None:
    assert progress(Known(), [], {"a": None}, None, NOW) == "Message batch a is not seen to have ended yet."


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        ((), ""),
        ((47.3,), "The last message batch of this task took 47 seconds."),
        ((720.0, 741.0), "The last 2 message batches of this task took 12 minutes."),
        ((50.0, 2400.0, 90000.0), "The last 3 message batches of this task took 50 seconds to 1 day 1 hour."),
    ],
    ids=["none", "one", "alike", "several"],
)
def test_usual_duration_is_told_in_rounded_words(seconds: tuple[float, ...], says: str) -> None:
    assert usual_in_words(usual_of(History(seconds=seconds))) == says


@pytest.mark.parametrize("known", [Known(), Known(2, 30), Known(usual=(1.5, 2.0, 3)), Known(1, 1, (1.0, 1.0, 1))])
def test_what_is_known_goes_through_the_arguments_of_a_trigger(known: Known) -> None:
    assert Known.from_dict(known.to_dict()) == known


@pytest.mark.parametrize(
    "value", [None, [], "x", {"ended_batches": "2"}, {"usual": [1, 2]}, {"usual": ["a", 1, 2]}, {"usual": [-1, 1, 1]}]
)
def test_what_another_version_wrote_is_left_out(value: Any) -> None:
    assert Known.from_dict(value) == Known()
