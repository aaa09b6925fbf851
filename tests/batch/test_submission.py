"""Submission as a state machine, run against the simulator over one or more tries."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from submission_world import TEN, World, fails_first, make_world

from airflow_claude_batch.batch.input.elements import Defaults
from airflow_claude_batch.batch.input.output_schema import read_schema
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.steps import WaitStep
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.exceptions import (
    AuthenticationError,
    BatchIncompleteError,
    BatchTimeoutError,
    CostLimitError,
    SubmissionUnknownError,
)
from airflow_claude_batch.simulator import Fault

PARTS = Policy(max_requests=4)


def statuses(world: World) -> list[str]:
    return [row["status"] for row in world.rows]


def test_several_parts_become_rows_in_input_order(tmp_path: Path) -> None:
    world = make_world(tmp_path)

    done = world.run(TEN, PARTS)

    assert done.failure is None
    assert [row["index"] for row in world.rows] == list(range(10))
    assert done.manifest.counts["succeeded"] == 10
    assert len(done.manifest.batch_ids) == 3
    assert done.manifest.responses == world.rows
    assert world.billed == 10


def test_a_retry_after_everything_was_answered_sends_nothing(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    first = world.run(TEN, PARTS)

    again = world.run(TEN, PARTS)

    assert again.manifest.counts == first.manifest.counts
    assert again.manifest.responses == first.manifest.responses
    assert world.simulator.books()["calls"]["create"] == 3


@pytest.mark.parametrize("clear", [False, True], ids=["retry", "clear"])
@pytest.mark.parametrize("messages", [TEN, TEN[:4]], ids=["unchanged", "fewer requests"])
def test_attempt_that_finds_everything_done_says_so_and_keeps_the_estimate(
    messages: list[str], clear: bool, tmp_path: Path
) -> None:
    world = make_world(tmp_path)
    first = world.run(TEN, PARTS)
    assert not first.is_old

    for _ in range(2):  # each attempt after the first one, too
        again = world.run(messages, PARTS, clear=clear)

        assert again.is_old
        assert again.manifest.estimate == first.manifest.estimate is not None
        assert (again.manifest.cost or {})["estimated_usd"] == (first.manifest.cost or {})["estimated_usd"]


def test_attempt_that_sends_or_lands_something_is_not_old_and_keeps_the_first_estimate(tmp_path: Path) -> None:
    world = make_world(tmp_path, outcome=fails_first(1, "expired", 3))
    first = world.run(TEN, Policy(repair_rounds=0))

    done = world.run(TEN, Policy(repair_rounds=0))

    assert world.billed == 10
    assert not done.is_old
    assert done.manifest.estimate == first.manifest.estimate
    world.run([*TEN, "one more 10"], PARTS, clear=True)
    assert world.steps[-1].manifest.estimate["requests"] == 1


def test_clear_of_an_operator_that_does_not_wait_says_that_an_earlier_try_has_sent_all(tmp_path: Path) -> None:
    world, policy = make_world(tmp_path), Policy(wait_for_completion=False)
    assert not world.run(TEN, policy).is_old

    again = world.run(TEN, policy, clear=True)

    assert (again.is_old, again.manifest.status) == (True, "in_progress")
    assert again.manifest.estimate is not None


def test_full_queue_delays_the_rest_until_a_part_has_ended(tmp_path: Path) -> None:
    world = make_world(tmp_path, queue_limit=4)

    done = world.run(TEN, PARTS)

    assert done.failure is None
    assert any(isinstance(step, WaitStep) and step.wait_for == "any" for step in world.steps)
    assert world.billed == 10


@pytest.mark.parametrize("outcome", ["expired", "errored:overloaded_error", "errored:api_error"])
def test_repair_round_sends_only_repairable_requests(tmp_path: Path, outcome: str) -> None:
    world = make_world(tmp_path, outcome=fails_first(1, outcome, 3, 7))

    done = world.run(TEN, PARTS)

    assert done.failure is None
    assert statuses(world) == ["succeeded"] * 10
    assert world.simulator.books()["batches"][-1]["request_count"] == 2


def test_rounds_are_bounded_and_the_next_try_sends_the_rest(tmp_path: Path) -> None:
    world = make_world(tmp_path, outcome=fails_first(2, "expired", 3))
    done = world.run(TEN, PARTS)
    assert isinstance(done.failure, BatchIncompleteError)
    assert not done.permanent
    assert statuses(world)[3] == "expired"
    assert "key 3: expired" in str(done.failure)

    done = world.run(TEN, PARTS)

    assert done.failure is None
    assert world.simulator.books()["batches"][-1]["request_count"] == 1
    assert world.billed == 10


def test_refused_requests_are_not_sent_again_and_fail_permanently(tmp_path: Path) -> None:
    world = make_world(tmp_path, outcome=fails_first(9, "errored:invalid_request_error", 2))

    done = world.run(TEN, PARTS)

    assert done.permanent
    assert "invalid_request_error" in str(done.failure)
    assert len(world.simulator.books()["batches"]) == 3


@pytest.mark.parametrize(("allowed", "green"), [(0, False), (1, True), (0.05, False), (0.1, True)])
def test_allow_failed_is_a_count_or_a_share(tmp_path: Path, allowed: float, green: bool) -> None:
    world = make_world(tmp_path, outcome=fails_first(9, "expired", 2))

    done = world.run(TEN, Policy(allow_failed=allowed))

    assert (done.failure is None) is green


def test_lost_create_response_is_searched_for_and_paid_for_once(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.simulator.inject(Fault(on="create", do="drop_after_accept", times=2))

    done = world.run(TEN, PARTS)

    assert done.failure is None
    assert world.billed == 10
    assert len(world.simulator.books()["batches"]) == 3


def test_single_404_after_adopting_a_batch_is_ignored(tmp_path: Path) -> None:
    world = make_world(tmp_path, batch_seconds=0)
    world.simulator.inject(Fault(on="create", do="drop_after_accept"), Fault(on="retrieve", do="not_found_blip"))

    done = world.run(TEN, Policy())

    assert done.failure is None
    assert world.billed == 10


def test_create_that_was_not_accepted_is_sent_again_after_the_deadline(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.simulator.inject(Fault(on="create", do="status", status=504, times=1))
    began = world.clock.now()

    done = world.run(TEN, Policy())

    assert done.failure is None
    assert world.billed == 10
    assert world.clock.now() - began > timedelta(minutes=3)


def test_the_timeout_cancels_and_lands_what_was_answered(tmp_path: Path) -> None:
    world = make_world(tmp_path, batch_seconds=lambda batch: 60 if batch.number == 0 else 90_000)
    policy = Policy(max_requests=4, timeout=timedelta(hours=1))

    done = world.run(TEN, policy)

    assert isinstance(done.failure, BatchTimeoutError)
    assert not done.permanent
    assert statuses(world)[:4] == ["succeeded"] * 4
    assert "canceled" in statuses(world)


def test_the_try_after_a_cancel_sends_only_what_has_no_answer(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    with world.attempt(TEN, PARTS) as submission:
        submission.advance()
        submission.cancel()

    done = world.run(TEN, PARTS)

    assert done.failure is None
    assert statuses(world) == ["succeeded"] * 10
    assert world.billed == 10


def test_leaving_on_timeout_keeps_the_batch_for_the_next_try(tmp_path: Path) -> None:
    world = make_world(tmp_path, batch_seconds=7200)
    done = world.run(TEN, Policy(timeout=timedelta(hours=1), on_timeout="leave"))
    assert isinstance(done.failure, BatchTimeoutError)
    assert "still running" in str(done.failure)

    done = world.run(TEN, Policy(timeout=timedelta(hours=5)))

    assert done.failure is None
    assert world.simulator.books()["calls"]["create"] == 1


def test_a_clear_with_a_changed_input_sends_only_the_changed_requests(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.run(TEN, PARTS)
    changed = ["a new one 99", *TEN[1:5], *reversed(TEN[5:])]

    done = world.run(changed, PARTS, clear=True)

    assert done.failure is None
    assert world.billed == 11
    assert [row["text"].split("“")[1].split("”")[0] for row in world.rows] == changed


def test_a_changed_input_waits_for_batches_that_may_answer_some_of_it(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    with world.attempt(TEN, PARTS) as submission:
        submission.advance()

    done = world.run([*TEN[:9], "another 77"], PARTS, clear=True)

    assert done.failure is None
    assert world.billed == 11


def test_entirely_new_input_cancels_the_batches_of_the_old_one(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    with world.attempt(TEN, PARTS) as submission:
        submission.advance()

    done = world.run([f"other {number}" for number in range(10)], PARTS, clear=True)

    assert done.failure is None
    assert world.billed == 10
    assert len(done.manifest.batch_ids) == 6


def test_reuse_answers_false_pays_again_after_a_clear_but_not_after_a_crash(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    with world.attempt(TEN, PARTS, reuse_answers=False) as submission:
        submission.advance()
    world.run(TEN, PARTS, reuse_answers=False)
    assert world.billed == 10

    world.run(TEN, PARTS, reuse_answers=False, clear=True)

    assert world.billed == 20


def test_identical_requests_are_sent_once_and_answer_every_row(tmp_path: Path) -> None:
    world = make_world(tmp_path)

    done = world.run(["same 1", "other 2", "same 1", "same 1"], Policy(), deduplicate=True)

    assert done.failure is None
    assert world.billed == 2
    assert [row["text"] for row in world.rows] == [world.rows[n]["text"] for n in (0, 1, 0, 0)]
    assert [row["cost_usd"] == "0" for row in world.rows] == [False, False, True, True]


def test_identical_requests_are_paid_for_again_only_without_deduplication(tmp_path: Path) -> None:
    """``deduplicate`` may change from clear to clear."""
    world = make_world(tmp_path)
    messages = [{"key": key, "prompt": f"question {number}"} for key, number in zip("abcdef", "010210", strict=True)]
    paid = []
    for deduplicate in (True, True, False, True, False):
        done = world.run(messages, Policy(), deduplicate=deduplicate, clear=True)
        assert done.failure is None
        assert [row["key"] for row in world.rows] == list("abcdef")
        assert [row["text"] is not None for row in world.rows] == [True] * 6
        paid.append(world.billed)

    assert paid == [3, 3, 6, 6, 6]


def test_identical_requests_share_what_a_repair_round_brings(tmp_path: Path) -> None:
    world = make_world(tmp_path, outcome=fails_first(1, "expired", 0))

    done = world.run([{"key": key, "prompt": "question 0"} for key in "abc"], Policy(repair_rounds=1), deduplicate=True)

    assert done.manifest.counts["succeeded"] == 3
    assert done.manifest.stop_reasons == {"end_turn": 3}
    assert world.billed == 1
    assert [row["cost_usd"] == "0" for row in world.rows] == [False, True, True]


def test_a_refused_canary_stops_the_others(tmp_path: Path) -> None:
    world = make_world(tmp_path, outcome=fails_first(9, "errored:invalid_request_error", *range(10)))

    done = world.run(TEN, Policy(canary=True))

    assert done.permanent
    assert "sent first (canary=True) was refused" in str(done.failure)
    assert [batch["request_count"] for batch in world.simulator.books()["batches"]] == [1]


def test_invalid_answer_to_the_canary_does_not_stop_the_others(tmp_path: Path) -> None:
    """Requests that are refused later do not stop running ones."""
    schema = read_schema({"type": "object", "properties": {"n": {"type": "integer"}}})
    world = make_world(
        tmp_path, outcome=fails_first(9, "errored:invalid_request_error", 1), answer=lambda params, n: "not JSON"
    )

    done = world.run(TEN, Policy(canary=True, max_requests=4), output_schema=schema)

    assert "was refused" not in str(done.failure)
    assert done.manifest.status == "ended"
    assert done.manifest.counts["invalid_output"] == 9
    assert [batch["request_count"] for batch in world.simulator.books()["batches"]] == [1, 4, 4, 1]


def test_an_answered_canary_is_followed_by_the_others(tmp_path: Path) -> None:
    world = make_world(tmp_path)

    done = world.run(TEN, Policy(canary=True))

    assert done.failure is None
    assert [batch["request_count"] for batch in world.simulator.books()["batches"]] == [1, 9]


FIRST_ONE_FAILS = ["errored:overloaded_error", "errored:api_error", "expired", "canceled"]


@pytest.mark.parametrize("outcome", FIRST_ONE_FAILS)
@pytest.mark.parametrize("policy", [Policy(canary=True), Policy(warm_cache=True)], ids=["canary", "warm_cache"])
def test_one_request_goes_first_once_whatever_becomes_of_it(policy: Policy, outcome: str, tmp_path: Path) -> None:
    """Every request fails each time: then one request in each batch would take as many days as there are requests."""
    world = make_world(tmp_path, outcome=lambda *_: outcome)
    policy = replace(policy, repair_rounds=1)

    for _ in range(2):  # a retry sends again what failed
        world.run(TEN, policy)
    world.run(TEN, policy, clear=True)

    sent = [batch["request_count"] for batch in world.simulator.books()["batches"]]
    repaired = [] if outcome == "canceled" else [10]
    assert sent == [1, 9, *repaired, 10, *repaired, 10, *repaired]


@pytest.mark.parametrize("outcome", FIRST_ONE_FAILS)
def test_others_that_are_split_follow_a_failed_canary_at_once(outcome: str, tmp_path: Path) -> None:
    world = make_world(tmp_path, outcome=fails_first(1, outcome, 0))

    done = world.run(TEN, Policy(canary=True, max_requests=4, repair_rounds=1))

    sent = [batch["request_count"] for batch in world.simulator.books()["batches"]]
    assert sent == [1, 4, 4, 1] + ([] if outcome == "canceled" else [1])
    assert done.manifest.counts["succeeded"] == world.billed == (9 if outcome == "canceled" else 10)
    assert len({batch["created_at"] for batch in world.simulator.books()["batches"][1:4]}) == 1


def test_requests_that_are_refused_after_an_unanswered_canary_are_no_refused_canary(tmp_path: Path) -> None:
    """The error would say that no other request was sent."""
    first, rest = fails_first(1, "expired", 0), fails_first(9, "errored:invalid_request_error", *range(1, 10))
    world = make_world(
        tmp_path,
        outcome=lambda *request: first(*request) if request[1]["messages"][0]["content"] == TEN[0] else rest(*request),
    )

    done = world.run(TEN, Policy(canary=True, max_requests=4, repair_rounds=1, allow_failed=9))

    assert done.failure is None
    assert done.manifest.counts["succeeded"] == 1
    assert [batch["request_count"] for batch in world.simulator.books()["batches"]] == [1, 4, 4, 1, 1]


def test_batches_of_one_request_after_a_failed_canary_do_not_wait_for_each_other(tmp_path: Path) -> None:
    world = make_world(
        tmp_path,
        outcome=lambda *_: "expired",
        queue_limit=2,
        batch_seconds=lambda batch: 90 if batch.number != 1 else 900,
    )

    world.run(TEN[:5], Policy(canary=True, max_requests=1, repair_rounds=0, allow_failed=5))

    times = [batch["created_at"] for batch in world.simulator.books()["batches"]]
    assert times == sorted(times)
    assert datetime.fromisoformat(times[-1]) - datetime.fromisoformat(times[1]) < timedelta(seconds=900)


def test_changed_input_sends_one_request_first_again(tmp_path: Path) -> None:
    """What was wrong with the requests may be wrong still."""
    world = make_world(tmp_path, outcome=lambda *_: "errored:api_error")
    world.run(TEN, Policy(canary=True, repair_rounds=0))

    world.run([f"{text}!" for text in TEN], Policy(canary=True, repair_rounds=0), clear=True)

    assert [batch["request_count"] for batch in world.simulator.books()["batches"]] == [1, 9, 1, 9]


def test_canary_in_flight_is_waited_for_by_the_next_try(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    with world.attempt(TEN, Policy(canary=True)) as submission:
        submission.advance()

    done = world.run(TEN, Policy(canary=True))

    assert done.failure is None
    assert [batch["request_count"] for batch in world.simulator.books()["batches"]] == [1, 9]


def test_lost_canary_is_followed_by_the_others(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    policy = Policy(canary=True, on_lost="resend", repair_rounds=0)
    with world.attempt(TEN, policy) as submission:
        submission.advance()
        submission.mark_lost(submission.open_batch_ids[0], "it is gone")

        world.finish(submission)

    assert [batch["request_count"] for batch in world.simulator.books()["batches"]] == [1, 10]


def test_a_warmed_cache_is_read_by_the_others(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    block = {"type": "text", "text": "rules " * 4000, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    defaults = Defaults(model="claude-haiku-5-5", max_tokens=64, system=[block])

    done = world.run(TEN, Policy(warm_cache=True), defaults=defaults)

    assert done.manifest.usage is not None
    assert done.manifest.usage["cache_read_input_tokens"] >= 9 * done.manifest.usage["ephemeral_1h_input_tokens"] > 0


@pytest.mark.parametrize(
    ("text", "mark", "policy", "says"),
    [
        pytest.param("rules " * 4000, True, Policy(warm_cache=True), None, id="read"),
        pytest.param("rules", True, Policy(), "The prompt before the cache_control mark is shorter", id="too short"),
        pytest.param(
            "rules", True, Policy(warm_cache=True), "is shorter than the model's minimum", id="too short for warm_cache"
        ),
        pytest.param("rules", False, Policy(warm_cache=True), "no request has a cache_control mark", id="no mark"),
        pytest.param("rules", False, Policy(), None, id="not asked for"),
    ],
)
def test_unused_prompt_cache_is_logged(
    text: str, mark: bool, policy: Policy, says: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    block: dict[str, Any] = {"type": "text", "text": text}
    if mark:
        block["cache_control"] = {"type": "ephemeral", "ttl": "1h"}

    make_world(tmp_path).run(TEN, policy, defaults=Defaults(model="claude-haiku-5-5", max_tokens=64, system=[block]))

    assert ("No answer wrote or read the prompt cache" in caplog.text) is (says is not None)
    assert (says or "") in caplog.text


def test_batches_are_deleted_only_when_the_landed_rows_read_back_as_they_were(tmp_path: Path) -> None:
    world = make_world(tmp_path)

    class Lossy(LocalFolder):
        """Folder that loses the last line of the rows, like a disk that did not write what it confirmed."""

        losing = True

        def open(self, name: str) -> Any:
            file = super().open(name)
            if name != "results.jsonl" or file is None or not self.losing:
                return file
            with file:
                return io.BytesIO(b"".join(file.readlines()[:-1]))

    with world.attempt(TEN, Policy(delete_batches=True)) as submission:
        folder = Lossy(world.folder.path)
        submission.folder = folder
        for _ in range(4):
            step = submission.advance()
            world.clock.advance(100)
        assert isinstance(step, WaitStep)
        assert not world.simulator.books()["batches"][0]["deleted"]

        folder.losing = False
        assert world.finish(submission).failure is None
    assert world.simulator.books()["batches"][0]["deleted"]
    assert world.billed == 10


def test_deleted_batches_leave_their_rows(tmp_path: Path) -> None:
    world = make_world(tmp_path)

    done = world.run(TEN, Policy(max_requests=4, delete_batches=True))

    assert done.failure is None
    assert len(world.rows) == 10
    assert all(batch["deleted"] for batch in world.simulator.books()["batches"])
    assert world.run(TEN, PARTS).failure is None
    assert world.billed == 10


def test_max_cost_is_checked_before_anything_is_sent(tmp_path: Path) -> None:
    world = make_world(tmp_path)

    with pytest.raises(CostLimitError, match="Nothing was sent"):
        world.run(TEN, Policy(max_cost=Decimal("0.00001")))

    assert world.simulator.books()["batches"] == []


def test_answers_of_an_earlier_try_are_landed_before_a_refusal_of_the_rest_fails_the_task(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(tmp_path, queue_limit=4)
    with world.attempt(TEN, PARTS) as submission:
        assert isinstance(submission.advance(), WaitStep)
    sent = world.simulator.calls()["create"]

    with pytest.raises(CostLimitError, match="Nothing more was sent"):
        world.run(TEN, replace(PARTS, max_cost=Decimal("0.00001")))

    assert "Batches of an earlier try are waited for first" in caplog.text
    assert [row["status"] for row in world.rows] == ["succeeded"] * 4
    assert world.simulator.calls()["create"] == sent
    assert world.run(TEN, PARTS, clear=True).failure is None
    assert world.billed == 10


def test_bill_is_by_model_and_counts_unanswered_requests_under_their_model(tmp_path: Path) -> None:
    world = make_world(tmp_path, outcome=fails_first(9, "errored", 1))
    messages = [
        {"key": "a", "prompt": "question 0", "model": "claude-haiku-4-5"},
        {"key": "b", "prompt": "question 1", "model": "claude-opus-5-5"},
        {"key": "c", "prompt": "question 2"},
        {"key": "d", "prompt": "question 2"},
    ]

    done = world.run(messages, Policy(repair_rounds=0), deduplicate=True)

    parts = done.manifest.by_model
    assert {model: part["counts"] for model, part in parts.items()} == {
        "claude-haiku-4-5-20251001": {"succeeded": 1},
        "claude-haiku-5-5": {"succeeded": 2},
        "claude-opus-5-5": {"errored": 1},
    }
    assert parts["claude-opus-5-5"]["usd"] == "0"
    assert done.manifest.cost is not None
    assert sum(Decimal(part["usd"]) for part in parts.values()) == Decimal(done.manifest.cost["usd"])
    again = world.run(messages, Policy(repair_rounds=0), deduplicate=True)  # from the rows on the disk
    assert again.manifest.by_model == parts


def test_unpriced_model_skips_the_repair_round_under_max_cost(tmp_path: Path) -> None:
    """Its cost is unknown, so nobody can tell how much of the limit is left."""
    world = make_world(
        tmp_path, outcome=fails_first(1, "expired", 3), answer=lambda params, n: {"model": "claude-7-novella"}
    )

    done = world.run(TEN, Policy(max_cost=Decimal(100)))

    assert done.manifest.cost is not None
    assert done.manifest.cost["usd"] is None
    assert done.manifest.by_model["claude-7-novella"]["counts"] == {"succeeded": 9}
    assert done.manifest.by_model["claude-7-novella"]["usd"] is None
    assert done.manifest.by_model["claude-haiku-5-5"]["counts"] == {"expired": 1}
    assert "no price is known for claude-7-novella" in str(done.failure)


def test_deleted_results_stop_the_task_unless_on_lost_is_resend(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    with world.attempt(TEN, Policy()) as submission:
        submission.advance()
        world.clock.advance(30 * 24 * 3600)
    with pytest.raises(SubmissionUnknownError, match="older than 29 days"):
        world.run(TEN, Policy())
    assert world.simulator.books()["calls"]["create"] == 1

    done = world.run(TEN, Policy(on_lost="resend"))

    assert done.failure is None
    assert len(world.simulator.books()["batches"]) == 2


@pytest.mark.parametrize("on_lost", ["stop", "resend"])
def test_unknown_batch_cannot_be_marked_as_lost(on_lost: Any, tmp_path: Path) -> None:
    """An old or foreign trigger event may name any batch."""
    world = make_world(tmp_path)
    with world.attempt(TEN, Policy(on_lost=on_lost)) as submission:
        submission.advance()
        before = submission.ledger
        submission.mark_lost("msgbatch_of_somebody", "not found")

        assert submission.ledger == before


def test_outage_while_waiting_is_waited_for(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    with world.attempt(TEN, Policy()) as submission:
        submission.advance()
        world.simulator.inject(Fault(on="any", do="status", status=503, times=20))
        done = world.finish(submission)

    assert done.failure is None
    assert world.billed == 10


@pytest.mark.parametrize(
    ("iteration", "says"),
    [
        (
            {"type": "compaction", "input_tokens": 1_000_000},
            "on top of the $2.25 billed already, above max_cost, $1.00",
        ),
        (
            {"type": "advisor_message", "model": "claude-opus-5", "input_tokens": 1_000_000},
            "on top of the $22.50 billed already, above max_cost, $1.00",
        ),
        ({"type": "reflection", "input_tokens": 1}, "max_cost cannot be held: what 9 answers cost is not known"),
        ({"type": "message", "input_tokens": 1_000_000}, None),
    ],
    ids=["compaction", "advisor", "unknown type", "in the usage already"],
)
def test_max_cost_counts_what_iterations_have_cost(
    iteration: dict[str, Any], says: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    usage = {"iterations": [{"output_tokens": 0, **iteration}]}
    world = make_world(
        tmp_path, outcome=fails_first(1, "expired", 0), answer=lambda params, n: {"content": "yes", "usage": usage}
    )

    done = world.run(TEN, Policy(repair_rounds=1, max_cost=Decimal(1)))

    assert len(world.simulator.books()["batches"]) == (2 if says is None else 1)
    assert says is None or says in caplog.text
    assert done.manifest.counts["succeeded"] == (10 if says is None else 9)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("operation", ["retrieve", "results", "any"])
def test_refused_credential_is_waited_out_once_a_batch_runs(status: int, operation: Any, tmp_path: Path) -> None:
    world = make_world(tmp_path, batch_seconds=90)
    with world.attempt(TEN, Policy()) as submission:
        submission.advance()
        world.simulator.inject(Fault(do="status", status=status, on=operation, times=None))
        for _ in range(5):
            step = submission.advance()
            assert isinstance(step, WaitStep)
            world.clock.advance(100)
        world.simulator.clear_faults()
        done = world.finish(submission)

    assert done.failure is None
    assert len(world.rows) == 10
    assert world.billed == 10
    assert submission.ledger.repeated_answer("credential") is None


def test_refused_credential_is_believed_after_ten_minutes_across_resumptions_and_a_retry_begins_anew(
    tmp_path: Path,
) -> None:
    world = make_world(tmp_path, batch_seconds=90)
    with world.attempt(TEN, Policy()) as submission:
        submission.advance()
        world.simulator.inject(Fault(do="status", status=401, times=None))
        began = world.clock.now()

        def refused_forever() -> None:
            while True:
                step = submission.advance()
                assert isinstance(step, WaitStep)
                assert (step.batch_ids, step.read_connection) == ((), True)
                world.clock.advance(60)

        with pytest.raises(AuthenticationError):
            refused_forever()
        assert timedelta(minutes=10) <= world.clock.now() - began <= timedelta(minutes=11)
    with world.attempt(TEN, Policy()) as submission:
        assert isinstance(submission.advance(), WaitStep)
        world.simulator.clear_faults()
        assert world.finish(submission).failure is None
    assert world.billed == 10


def test_refused_credential_of_the_first_contact_fails_at_once(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.simulator.inject(Fault(do="status", status=401, times=None))
    with world.attempt(TEN, Policy()) as submission, pytest.raises(AuthenticationError):
        submission.advance()
    assert world.billed == 0


@pytest.mark.parametrize("clear", [False, True], ids=["repair round", "clear"])
def test_max_cost_cannot_be_held_after_an_answer_that_cannot_be_read(
    clear: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody knows its cost. So nothing more is sent."""
    world = make_world(
        tmp_path, outcome=fails_first(1, "expired", 0), answer=lambda params, n: {"stop_reason": 7} if n == 1 else "yes"
    )

    done = world.run(TEN, Policy(repair_rounds=0 if clear else 1, max_cost=Decimal(1), allow_failed=2))

    assert done.manifest.counts["invalid_output"] == 1
    if clear:
        with pytest.raises(CostLimitError, match="what 1 answer cost is not known"):
            world.run(TEN, Policy(max_cost=Decimal(1)), clear=True)
    else:
        assert "what 1 answer cost is not known" in caplog.text
    assert len(world.simulator.books()["batches"]) == 1


# ---------------------------------------------------------------- no request at all


@pytest.mark.parametrize("waits", [False, True], ids=["two tasks", "one task"])
def test_empty_input_ends_at_once_without_a_call(waits: bool, tmp_path: Path) -> None:
    world = make_world(tmp_path)
    policy = Policy(wait_for_completion=waits, canary=True, results_format="parquet", delete_batches=True)

    manifest = world.run([], policy, may_be_empty=True).manifest

    assert (manifest.status, manifest.request_count, manifest.responses) == ("ended", 0, [])
    assert world.rows == []
    assert (world.folder.path / "results.parquet").exists()
    assert not any(world.simulator.calls().values())


def test_empty_input_after_another_one_keeps_the_rows_that_were_paid_for(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.run(TEN, Policy())

    assert world.run([], Policy(), clear=True, may_be_empty=True).manifest.request_count == 0
    assert sorted(len(path.read_bytes().splitlines()) for path in world.folder.path.glob("results*.jsonl")) == [0, 10]


def test_manifest_says_model_price_and_where_the_defaults_come_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(tmp_path)
    defaults = {"model": "claude-haiku-5-5", "model_from": "default", "max_tokens": 64, "max_tokens_from": "default"}
    with caplog.at_level("INFO"):
        manifest = world.run(TEN, Policy(wait_for_completion=False, request_defaults=defaults)).manifest

    assert manifest.estimate is not None
    assert manifest.estimate["defaults"] == defaults
    assert manifest.estimate["models"]["claude-haiku-5-5"]["requests"] == 10
    assert manifest.estimate["max_tokens"] == {"least": 64, "most": 64}
    said = [record.getMessage() for record in caplog.records]
    (sending,) = [text for text in said if text.startswith("To send in batches:\n10 requests to claude-haiku-5-5: ")]
    sent = next(index for index, text in enumerate(said) if text.startswith("Sent 10 requests"))
    assert said.index(sending) < sent
