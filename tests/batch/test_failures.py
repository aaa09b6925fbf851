from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_claude_batch.batch.failures import (
    collection_timeout_error,
    evaluate_outcome,
    lost_batch_error,
    refused_canary_error,
    timeout_error,
    unknown_batches_error,
)
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.match_requests import ExternalMatcher
from airflow_claude_batch.batch.land.result_stream import read_results
from airflow_claude_batch.batch.land.summary import summarize
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.ledger.part import Part
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.exceptions import APIConnectionError

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
REFUSED = "invalid_request_error"
OK, GONE, BAD, DOWN, OUT = "succeeded", "expired", REFUSED, "api_error", "missing"


@contextmanager
def landed(*endings: str) -> Iterator[tuple[Landing, Manifest]]:
    """Land rows with these outcomes, with the keys r0, r1 and so on."""
    lines = []
    for number, ending in enumerate(endings):
        result: dict[str, Any] = {"type": ending if ending in ("succeeded", "expired", "canceled") else "errored"}
        if ending == "succeeded":
            usage = {"input_tokens": 1, "output_tokens": 1}
            result["message"] = {"model": "claude-haiku-5-5", "content": [], "usage": usage}
        elif result["type"] == "errored":
            result["error"] = {"error": {"type": ending, "message": f"because {number}"}}
        if ending != OUT:
            lines.append(json.dumps({"custom_id": f"r{number}", "result": result}).encode())
    with Landing(ExternalMatcher(len(endings)), prices=PriceTable.load()) as landing:
        read_results(landing, "b", lines)
        yield (
            landing,
            summarize(
                landing,
                submission_id="s",
                status="ended",
                batch_ids=["b"],
                landed=["b"],
                results_path="/r/results.jsonl",
                created_at=None,
                ended_at=None,
            ),
        )


def judged(*endings: str, **policy: Any) -> tuple[str | None, bool]:
    with landed(*endings) as (landing, manifest):
        failure, permanent = evaluate_outcome(landing, Policy(**policy), manifest)
        return None if failure is None else str(failure), permanent


# ---------------------------------------------------------------- success or failure


@pytest.mark.parametrize(
    ("endings", "allow_failed", "succeeds"),
    [
        pytest.param([OK, OK], 0, True, id="all answered"),
        pytest.param([OK, GONE], 0, False, id="one expired"),
        pytest.param([OK, GONE], 1, True, id="one allowed"),
        pytest.param([GONE, BAD], 1, False, id="two, one allowed"),
        pytest.param([GONE, BAD], 2, True, id="all failed, all allowed"),
        pytest.param([BAD] * 4, 0, False, id="all refused"),
        pytest.param([OK, GONE, OK, OK], 0.25, True, id="a quarter"),
        pytest.param([OK, GONE, BAD, OK], 0.25, False, id="more than a quarter"),
        pytest.param([OK] * 3 + [GONE], 0.24, False, id="a share is rounded down"),
        pytest.param([OK] * 71 + [GONE] * 29, 0.29, True, id="a share is exact, not a binary float"),
        pytest.param([GONE], 1.0, True, id="all as a share"),
        pytest.param([OK, OUT], 0, False, id="a missing row"),
        pytest.param([], 0, True, id="no rows"),
    ],
)
def test_task_succeeds_when_no_more_failed_than_allowed(
    endings: list[str], allow_failed: float, succeeds: bool
) -> None:
    failure, permanent = judged(*endings, allow_failed=allow_failed)

    assert (failure is None) is succeeds
    assert not (succeeds and permanent)


@pytest.mark.parametrize(
    ("allow_failed", "said"),
    [
        (1.0, "1 of 2 requests ended without an answer. allow_failed=1.0 permits up to 2."),
        (1, "1 of 2 requests ended without an answer. allow_failed=1 permits up to 1."),
        ("50%", "1 of 2 requests ended without an answer. allow_failed='50%' permits up to 1."),
    ],
)
def test_what_was_allowed_to_fail_is_said(
    allow_failed: float | str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    judged(OK, GONE, allow_failed=allow_failed)
    judged(OK, OK, allow_failed=allow_failed)

    assert caplog.messages == [said]


@pytest.mark.parametrize(
    ("endings", "allow_failed", "permanent"),
    [
        pytest.param([BAD], 0, True, id="refused"),
        pytest.param([DOWN], 0, False, id="a server's error"),
        pytest.param([GONE, "canceled", OUT], 0, False, id="expired, canceled, missing"),
        pytest.param([BAD, GONE], 0, True, id="one refused is enough"),
        pytest.param([BAD, GONE], 1, False, id="the refused one is allowed"),
        pytest.param([BAD, BAD, GONE], 1, True, id="one more refused than allowed"),
        pytest.param(["not_found_error"], 0, True, id="model not found"),
    ],
)
def test_failure_is_permanent_when_the_refused_alone_are_too_many(
    endings: list[str], allow_failed: float, permanent: bool
) -> None:
    failure, is_permanent = judged(*endings, allow_failed=allow_failed)

    assert failure is not None
    assert is_permanent is permanent


def test_failure_says_how_many_why_and_where() -> None:
    failure, _ = judged(OK, BAD, GONE, OUT, allow_failed=1)

    assert failure is not None
    assert failure.startswith("3 of 4 requests ended without an answer (allow_failed permits 1).\n")
    assert "1 succeeded, 1 errored, 1 expired, 1 missing" in failure
    assert (
        "key 'r1': errored (invalid_request_error: because 1); key 'r2': expired; key None: missing (missing" in failure
    )
    assert "/r/results.jsonl" in failure
    assert "sends only requests that the API may still answer" in failure


@pytest.mark.parametrize(
    ("endings", "says"),
    [
        pytest.param([BAD, GONE, DOWN, "canceled"], "No request was answered, so nothing was billed.", id="no answer"),
        pytest.param([OK, BAD], "What was answered is billed and kept.", id="one answer"),
        pytest.param([BAD, OUT], "What was answered is billed and kept.", id="a missing row may be an answer"),
    ],
)
def test_failure_says_what_is_billed(endings: list[str], says: str) -> None:
    failure, _ = judged(*endings)

    assert failure is not None
    assert f"{says} All rows are in" in failure


def test_failure_with_refused_requests_says_that_changed_ones_are_sent() -> None:
    failure, _ = judged(BAD)

    assert failure is not None
    assert failure.endswith("Change the refused requests, then clear the task: only changed requests are sent.")


def test_failure_of_many_names_the_first_few() -> None:
    failure, _ = judged(*[BAD] * 1000)

    assert failure is not None
    assert failure.count("because") == 5
    assert len(failure) < 1500


def test_refused_canary_gives_an_error_with_the_reason() -> None:
    with landed(BAD, OUT) as (landing, _):
        assert "The request: key 'r0': errored (invalid_request_error: because 0)" in str(refused_canary_error(landing))
    for endings in ([OK, BAD], [GONE, OUT], [DOWN, OUT]):
        with landed(*endings) as (landing, _):
            assert refused_canary_error(landing) is None


# ---------------------------------------------------------------- timeouts and lost batches


def ledger(*open_batches: str) -> Ledger:
    parts = tuple(
        Part(
            token=batch,
            first=0,
            last=0,
            count=1,
            size=1,
            attempt="a",
            round=0,
            intended_at=NOW,
            batch_id=batch,
        )
        for batch in open_batches
    )
    return Ledger(submission_id="s", input_digest="d", attempt="a", attempt_began_at=NOW, parts=parts)


@pytest.mark.parametrize(
    ("open_batches", "on_timeout", "says"),
    [
        ((), "cancel", "No message batch of it is running any more."),
        (("b1", "b2"), "leave", "2 message batches are still running and billed for what is answered: b1, b2."),
        (("b1",), "cancel", "1 message batch is canceled but not ended yet, and billed for what is answered: b1."),
    ],
)
def test_timeout_says_what_still_runs_and_bills(open_batches: tuple[str, ...], on_timeout: Any, says: str) -> None:
    error = timeout_error(ledger(*open_batches), Policy(timeout=timedelta(hours=1), on_timeout=on_timeout))

    assert f"its timeout of 1:00:00.\n{says} What was answered is landed.\n" in str(error)


def test_collection_timeout_names_the_batches_and_reports_only_what_was_seen() -> None:
    assert "2 message batches are still running and billed for what is answered: b1, b2." in str(
        collection_timeout_error(["b1", "b2"])
    )
    unknown = str(collection_timeout_error(["b1"], APIConnectionError("no route")))
    assert "The state of 1 message batch could not be found out: b1.\nThe last error: no route\n" in unknown
    assert "still running" not in unknown


def test_lost_batches_are_named_with_the_reason_and_the_remedies() -> None:
    assert "b1 was created by this task but cannot be found any more.\nThe reason given: 404." in str(
        lost_batch_error("b1", "404")
    )
    assert "on_lost='resend'" in str(lost_batch_error("b1", "404"))
    assert "b1 (404); b2 (410)" in str(unknown_batches_error({"b1": "404", "b2": "410"}))
