"""What odd answers prove about results that were paid for: nothing is sent twice, and what comes is landed at once."""

from __future__ import annotations

import itertools
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from submission_world import TEN, World, make_world

from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.steps import DoneStep, WaitStep
from airflow_claude_batch.exceptions import BatchTimeoutError, ResultsError, SubmissionUnknownError
from airflow_claude_batch.simulator import Fault

HOUR = timedelta(hours=1)
RESEND, STOP = Policy(on_lost="resend"), Policy()


def answered(world: World) -> int:
    return sum(row["text"] is not None for row in world.rows)


def advance(world: World, submission: Any, seconds: float = 0) -> WaitStep | DoneStep:
    world.clock.advance(seconds)
    step: WaitStep | DoneStep = submission.advance()
    return step


# ---------------------------------------------------------------- results that are not found


@pytest.mark.parametrize("on_lost", ["stop", "resend"])
@pytest.mark.parametrize("on", ["results", "retrieve"])
@pytest.mark.parametrize("times", [1, 2, 3, 5])
def test_404s_that_pass_are_waited_out_and_nothing_is_paid_twice(
    times: int, on: Any, on_lost: Literal["stop", "resend"], tmp_path: Path
) -> None:
    world = make_world(tmp_path)
    with world.attempt(TEN, Policy(on_lost=on_lost)) as submission:
        advance(world, submission)
        world.clock.advance(100)
        world.simulator.inject(Fault(do="not_found_blip", on=on, times=times))
        for _ in range(40):
            if isinstance(step := advance(world, submission), DoneStep):
                break
            # A poll of each second at most: the 404s are over within ten minutes.
            world.clock.advance(min(25.0, (step.until - world.clock.now()).total_seconds()))
        if isinstance(step, WaitStep):
            step = world.finish(submission)

    assert step.failure is None
    assert world.billed == 10
    assert answered(world) == 10


@pytest.mark.parametrize("on_lost", ["stop", "resend"])
def test_results_are_lost_only_when_their_404_lasts(on_lost: Literal["stop", "resend"], tmp_path: Path) -> None:
    world = make_world(tmp_path)
    with world.attempt(TEN, Policy(on_lost=on_lost)) as submission:
        advance(world, submission)
        world.simulator.inject(Fault(do="not_found_blip", on="results", times=None))
        began = world.clock.now() + timedelta(seconds=100)
        step = advance(world, submission, 100)
        lost_after, reason = None, ""
        for _ in range(100):
            assert isinstance(step, WaitStep)
            if world.simulator.books()["calls"]["create"] > 1:
                break
            world.clock.advance(max(1.0, (step.until - world.clock.now()).total_seconds()))
            lost_after = world.clock.now() - began
            try:
                step = submission.advance()
            except SubmissionUnknownError as error:
                reason = str(error)
                break

    assert ("its results are gone" in reason) is (on_lost == "stop")
    assert lost_after is not None
    assert timedelta(seconds=600) <= lost_after <= timedelta(seconds=700)
    assert world.simulator.books()["calls"]["create"] == (1 if on_lost == "stop" else 2)


@pytest.mark.parametrize("status", [403, 404, 400, 410, 451, 429, 200, 503])
@pytest.mark.parametrize("on", ["results", "retrieve"])
def test_pages_of_a_gateway_never_make_a_batch_lost(status: int, on: Any, tmp_path: Path) -> None:
    world = make_world(tmp_path)
    with world.attempt(TEN, RESEND) as submission:
        advance(world, submission)
        world.simulator.inject(Fault(do="page", on=on, status=status, times=None))
        for _ in range(30):
            step = advance(world, submission, 100)
            assert isinstance(step, WaitStep)
            assert step.until > world.clock.now()
        world.simulator.clear_faults()
        done = world.finish(submission)

    assert done.failure is None
    assert world.billed == 10


def test_the_count_of_404s_survives_processes(tmp_path: Path) -> None:
    """Each advance is another attempt of the task, as after a crash."""
    world = make_world(tmp_path)
    with world.attempt(TEN, STOP) as submission:
        advance(world, submission)
    world.clock.advance(100)
    world.simulator.inject(Fault(do="not_found_blip", on="results", times=None))

    def run_once() -> None:
        with world.attempt(TEN, STOP) as submission:
            assert isinstance(advance(world, submission), WaitStep)

    for seconds in (0, 200, 200, 199):
        world.clock.advance(seconds)
        run_once()
    world.clock.advance(10)
    with pytest.raises(SubmissionUnknownError, match="results are gone"):
        run_once()


# ---------------------------------------------------------------- landed rows that are missing


def test_a_404_of_a_landed_batch_pays_nothing_again(tmp_path: Path) -> None:
    world = make_world(tmp_path, batch_seconds=0)
    world.run(["A"], STOP)
    world.run(["B"], STOP)
    world.simulator.inject(Fault(do="not_found_blip", on="retrieve"))
    done = world.run(["A", "B"], STOP)

    assert done.failure is None
    assert world.billed == 2
    assert [row["status"] for row in world.rows] == ["succeeded"] * 2


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(do="not_found_blip", on="results", times=7), id="results not found"),
        pytest.param(Fault(do="few_rows", on="results", times=7, rows=0), id="empty stream"),
        pytest.param(Fault(do="page", on="results", status=404, times=7), id="a gateway's 404"),
        pytest.param(Fault(do="page", on="results", status=200, times=7), id="a gateway's page as results"),
        pytest.param(Fault(do="page", on="retrieve", status=404, times=7), id="a gateway's 404 of retrieve"),
        pytest.param(Fault(do="status", on="results", status=500, times=7), id="outage"),
    ],
)
@pytest.mark.parametrize("on_lost", ["stop", "resend"])
def test_lost_rows_are_read_again_before_anything_is_sent(
    fault: Fault, on_lost: Literal["stop", "resend"], tmp_path: Path
) -> None:
    world = make_world(tmp_path, batch_seconds=0)
    policy = Policy(max_requests=3, on_lost=on_lost)
    world.run(TEN, policy)
    lines = (world.folder.path / "results.jsonl").read_bytes().splitlines(keepends=True)
    (world.folder.path / "results.jsonl").write_bytes(b"".join(lines[::2]))  # an older file came back
    world.simulator.inject(fault)
    done = world.run(TEN, policy)

    assert done.failure is None
    assert world.billed == 10
    assert answered(world) == 10


def test_outage_of_an_open_batch_does_not_hide_that_landed_rows_are_lost(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    policy = Policy(max_requests=3)
    with world.attempt(TEN, policy) as submission:
        advance(world, submission)
        second, third = submission.open_batch_ids[1:3]
        world.simulator.inject(Fault(do="status", on="retrieve", status=500, match=second))
        advance(world, submission, 100)
        assert answered(world) == 3
        (world.folder.path / "results.jsonl").write_bytes(b"")
        # Another batch is landed before the next outage, and the manifest is written anew.
        world.simulator.inject(Fault(do="status", on="retrieve", status=500, match=third))
        advance(world, submission, 60)
        done = world.finish(submission)

    assert done.failure is None
    assert world.billed == 10


def test_outage_between_lost_rows_does_not_hide_the_rest(tmp_path: Path) -> None:
    world = make_world(tmp_path, batch_seconds=0)
    policy = Policy(max_requests=3)
    world.run(TEN, policy)
    lines = (world.folder.path / "results.jsonl").read_bytes().splitlines(keepends=True)
    (world.folder.path / "results.jsonl").write_bytes(b"".join(lines[::2]))
    world.simulator.inject(Fault(do="status", on="results", status=500, skip=1))
    done = world.run(TEN, policy)

    assert done.failure is None
    assert world.billed == 10


@pytest.mark.parametrize("on_lost", ["stop", "resend"])
def test_missing_rows_of_a_batch_that_is_gone_are_paid_again_only_with_on_lost(
    on_lost: Literal["stop", "resend"], tmp_path: Path
) -> None:
    world = make_world(tmp_path, batch_seconds=0)
    policy = Policy(on_lost=on_lost)
    world.run(["A"], policy)
    world.run(["B"], policy)
    world.simulator.inject(Fault(do="not_found_blip", on="retrieve", times=None, match=_batch_id(world, 0)))
    if on_lost == "stop":
        with pytest.raises(SubmissionUnknownError, match=r"What it answered is billed\. Nothing was sent again"):
            world.run(["A", "B"], policy)
        assert world.billed == 2
    else:
        assert world.run(["A", "B"], policy).failure is None
        assert world.billed == 3


def _batch_id(world: World, number: int) -> str:
    batch_id: str = world.simulator.books()["batches"][number]["id"]
    return batch_id


def test_a_batch_that_was_not_deleted_is_searched_although_the_task_deletes(tmp_path: Path) -> None:
    """The task deletes only what is whole. A 404 of another batch proves no more than any other."""
    world = make_world(tmp_path, batch_seconds=0, shuffle=False)
    world.simulator.inject(
        Fault(do="odd_counts", counts={"succeeded": 1}, times=None), Fault(do="few_rows", on="results", rows=1)
    )
    world.simulator.inject(Fault(do="few_rows", on="results", rows=1))
    policy = Policy(delete_batches=True, allow_failed=1)
    world.run(["A", "B"], policy)
    assert not world.simulator.books()["batches"][0]["deleted"]
    world.simulator.clear_faults()
    (world.folder.path / "results.jsonl").write_bytes(b"")
    world.simulator.inject(Fault(do="not_found_blip", on="retrieve"))
    world.run(["A", "B"], policy)

    assert world.billed == 2


def test_batches_that_the_task_has_deleted_need_no_search(tmp_path: Path) -> None:
    world = make_world(tmp_path, batch_seconds=0)
    policy = Policy(delete_batches=True)
    world.run(["A"], policy)
    world.run(["B"], policy)
    began = world.clock.now()
    world.run(["A", "B"], policy)

    assert world.clock.now() - began < timedelta(minutes=5)


# ---------------------------------------------------------------- fewer rows than the API counts


@pytest.mark.parametrize("rows", [0, 1, 9])
@pytest.mark.parametrize("on_lost", ["stop", "resend"])
@pytest.mark.parametrize("times", [1, 5, 25])
def test_rows_that_come_late_are_waited_for(
    times: int, on_lost: Literal["stop", "resend"], rows: int, tmp_path: Path
) -> None:
    world = make_world(tmp_path, shuffle=False)
    world.simulator.inject(Fault(do="few_rows", on="results", rows=rows, times=times))
    with world.attempt(TEN, Policy(on_lost=on_lost)) as submission:
        done = world.finish(submission, most=1500)

    assert done.failure is None
    assert world.billed == 10
    assert answered(world) == 10


def test_rows_of_several_short_streams_add_up(tmp_path: Path) -> None:
    world = make_world(tmp_path)  # each stream has another order
    world.simulator.inject(Fault(do="few_rows", on="results", rows=6, times=None))
    with world.attempt(TEN, STOP) as submission:
        done = world.finish(submission, most=1500)

    assert done.failure is None
    assert world.billed == 10


def test_what_came_is_landed_at_once_and_read_again_with_growing_pauses(tmp_path: Path) -> None:
    world = make_world(tmp_path, shuffle=False)
    world.simulator.inject(Fault(do="few_rows", on="results", rows=6, times=None))
    pauses = []
    with world.attempt(TEN, Policy(max_requests=10)) as submission:
        step = advance(world, submission)
        world.clock.advance(100)
        for _ in range(12):
            step = submission.advance()
            assert isinstance(step, WaitStep)
            assert step.batch_ids == ()
            assert step.reason == "the results of 1 message batch are incomplete"
            assert answered(world) == 6
            pauses.append((step.until - world.clock.now()).total_seconds())
            world.clock.advance(pauses[-1])
        world.simulator.clear_faults()
        done = world.finish(submission)

    assert done.failure is None
    assert pauses == sorted(pauses)
    assert pauses[0] <= 60
    assert pauses[-1] == 3600
    assert world.billed == 10


@pytest.mark.parametrize("rows", [0, 6])
def test_rows_that_never_come_are_not_sent_again_without_on_lost(rows: int, tmp_path: Path) -> None:
    world = make_world(tmp_path, shuffle=False)
    world.simulator.inject(Fault(do="few_rows", on="results", rows=rows, times=None))
    policy = Policy(timeout=3 * HOUR, repair_rounds=3)
    began = world.clock.now()
    with world.attempt(TEN, policy) as submission:
        done = world.finish(submission, most=500)

    assert isinstance(done.failure, BatchTimeoutError)
    assert world.clock.now() - began <= 3 * HOUR + timedelta(minutes=1)
    batch = world.simulator.books()["batches"][0]["id"]
    text = str(done.failure)
    assert f"Message batch {batch} has ended, but only {rows} of 10 rows came" in text
    assert "on_lost='resend'" in text
    assert "nothing was sent again" in text
    assert world.simulator.calls()["cancel"] == 0
    assert world.billed == 10
    if rows:
        assert answered(world) == rows

    # A clear waits again, and lands what comes then.
    world.simulator.clear_faults()
    again = world.run(TEN, policy, clear=True)
    assert again.failure is None
    assert world.billed == 10


def test_rows_that_never_came_are_sent_again_after_the_deadline_with_on_lost(tmp_path: Path) -> None:
    world = make_world(tmp_path, shuffle=False)
    world.simulator.inject(Fault(do="few_rows", on="results", rows=6, times=None, match="/results"))
    policy = Policy(timeout=HOUR, on_lost="resend")
    with world.attempt(TEN, policy) as submission:
        assert isinstance(world.finish(submission, most=500).failure, BatchTimeoutError)
    assert world.billed == 10
    with world.attempt(TEN, policy) as submission:
        done = world.finish(submission, most=500)

    assert done.failure is None
    assert world.billed == 14
    assert answered(world) == 10


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param({}, id="empty"),
        pytest.param({"succeeded": 0}, id="zero"),
        pytest.param({"succeeded": 20}, id="doubled"),
        pytest.param({"succeeded": 4}, id="below the rows"),
        pytest.param({"processing": 10}, id="all processing"),
    ],
)
def test_odd_counts_of_a_whole_stream_change_nothing(counts: Any, tmp_path: Path) -> None:
    """What was sent is evidence, too."""
    world = make_world(tmp_path)
    world.simulator.inject(Fault(do="odd_counts", counts=counts, times=None))
    with world.attempt(TEN, STOP) as submission:
        advance(world, submission)
        done = advance(world, submission, 100)

    assert isinstance(done, DoneStep)
    assert done.failure is None
    assert world.simulator.calls()["results"] == 1


@pytest.mark.parametrize(
    ("counts", "rows"),
    [
        *itertools.product(({}, {"succeeded": 0}, {"succeeded": 20}, {"processing": 10}, {"succeeded": 3}), (0, 6)),
        ({"succeeded": 6}, 0),
        ({"errored": 10}, 0),
        ({"succeeded": 6, "processing": 4}, 6),
    ],
)
def test_odd_counts_of_a_short_stream_never_lead_to_a_second_payment(counts: Any, rows: int, tmp_path: Path) -> None:
    world = make_world(tmp_path, shuffle=False)
    world.simulator.inject(
        Fault(do="odd_counts", counts=counts, times=None), Fault(do="few_rows", on="results", rows=rows, times=None)
    )
    with world.attempt(TEN, Policy(timeout=HOUR, repair_rounds=3)) as submission:
        done = world.finish(submission, most=500)

    assert done.failure is not None
    assert world.billed == 10


def test_rows_are_missing_when_the_counts_agree_and_are_not_sent_again(tmp_path: Path) -> None:
    world = make_world(tmp_path, shuffle=False)
    world.simulator.inject(
        Fault(do="odd_counts", counts={"succeeded": 6}, times=None),
        Fault(do="few_rows", on="results", rows=6, times=None),
    )
    done = world.run(TEN, Policy(repair_rounds=3))

    assert done.manifest.status == "ended"
    assert done.manifest.counts["missing"] == 4
    assert [row["status"] for row in world.rows] == ["succeeded"] * 6 + ["missing"] * 4
    assert "on_lost='resend'" in str(done.failure)
    for clear in (False, True):
        assert world.run(TEN, Policy(repair_rounds=3), clear=clear).manifest.counts["missing"] == 4
    assert world.billed == 10

    world.simulator.clear_faults()
    assert world.run(TEN, RESEND, clear=True).failure is None
    assert world.billed == 14


def last_expires_once(custom_id: str, params: Any, attempt: int) -> str:
    return "expired" if params["messages"][0]["content"] == TEN[-1] and attempt == 1 else "succeeded"


@pytest.mark.parametrize("times", [pytest.param(4, id="for a while"), pytest.param(None, id="always")])
def test_missing_rows_of_requests_that_the_api_counts_as_not_answered_are_read_again_and_then_repaired(
    times: int | None, tmp_path: Path
) -> None:
    world = make_world(tmp_path, shuffle=False, outcome=last_expires_once)
    world.simulator.inject(Fault(do="few_rows", on="results", rows=9, times=times))
    began = world.clock.now()
    done = world.run(TEN, Policy(repair_rounds=3))

    assert done.failure is None
    assert [row["status"] for row in world.rows] == ["succeeded"] * 10
    assert world.billed == 10
    assert [batch["request_count"] for batch in world.simulator.books()["batches"]] == [10, 1]
    assert (world.clock.now() - began > timedelta(minutes=10)) is (times is None)


def test_counts_and_rows_that_agree_for_a_moment_are_not_sent_again_with_resend(tmp_path: Path) -> None:
    world = make_world(tmp_path, shuffle=False)
    world.simulator.inject(
        Fault(do="odd_counts", counts={"succeeded": 6}, times=4), Fault(do="few_rows", on="results", rows=6, times=4)
    )
    assert world.run(TEN, RESEND).failure is None
    assert world.billed == 10


@pytest.mark.parametrize(
    "policy", [pytest.param(Policy(repair_rounds=3), id="stop"), pytest.param(RESEND, id="resend")]
)
def test_missing_rows_are_not_sent_again_because_the_input_comes_in_another_order(
    policy: Policy, tmp_path: Path
) -> None:
    """In another input nobody knows which requests of the batch have no row, so that it is read again."""
    world = make_world(tmp_path, shuffle=False)
    world.simulator.inject(
        Fault(do="odd_counts", counts={"succeeded": 6}, times=4), Fault(do="few_rows", on="results", rows=6, times=4)
    )
    with world.attempt(TEN, Policy(repair_rounds=3)) as submission:
        world.finish(submission, most=400)
    done = world.run(TEN[::-1], policy, clear=True)

    assert done.failure is None
    assert [row["status"] for row in world.rows] == ["succeeded"] * 10
    assert world.billed == 10


def test_other_failures_of_a_batch_with_missing_rows_are_repaired(tmp_path: Path) -> None:
    def outcome(custom_id: str, params: Any, attempt: int) -> str:
        return "expired" if params["messages"][0]["content"] == TEN[0] and attempt == 1 else "succeeded"

    world = make_world(tmp_path, shuffle=False, outcome=outcome)
    world.simulator.inject(
        Fault(do="odd_counts", counts={"succeeded": 5, "expired": 1}, times=3),
        Fault(do="few_rows", on="results", rows=6, times=2),
    )
    done = world.run(TEN, Policy(allow_failed=4))

    assert done.failure is None
    assert [row["status"] for row in world.rows] == ["succeeded"] * 6 + ["missing"] * 4
    assert [batch["request_count"] for batch in world.simulator.books()["batches"]] == [10, 1]


def test_one_batch_that_cannot_be_read_keeps_no_other_from_being_landed(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    with world.attempt(TEN, Policy(max_requests=5)) as submission:
        advance(world, submission)
        first = submission.open_batch_ids[0]
        world.simulator.inject(Fault(do="cut", on="results", at="mid_line", times=None, match=first))
        assert isinstance(advance(world, submission, 100), WaitStep)

        assert answered(world) >= 5


def test_full_queue_is_tried_again_while_results_are_incomplete(tmp_path: Path) -> None:
    world = make_world(tmp_path, shuffle=False, queue_limit=5)
    with world.attempt(TEN, Policy(max_requests=5)) as submission:
        assert isinstance(advance(world, submission), WaitStep)
        world.simulator.inject(Fault(do="few_rows", on="results", rows=2, times=None, match=_batch_id(world, 0)))
        step = advance(world, submission, 100)

    assert isinstance(step, WaitStep)
    assert [batch["request_count"] for batch in world.simulator.books()["batches"]] == [5, 5]


# ---------------------------------------------------------------- custom_ids that a gateway has changed


@pytest.mark.parametrize("ids", ["lower", "upper"])
def test_custom_ids_in_another_case_are_placed(ids: Any, tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.simulator.inject(Fault(do="changed_ids", on="results", ids=ids, times=None))
    done = world.run(TEN, Policy(max_requests=4))

    assert done.failure is None
    assert [row["key"] for row in world.rows] == list(range(10))
    assert world.billed == 10
    assert world.run(TEN, Policy(max_requests=4), clear=True).failure is None
    assert world.run([*TEN[3:], "question 10"], Policy(max_requests=4)).failure is None
    assert world.billed == 11


@pytest.mark.parametrize("on_lost", ["stop", "resend"])
def test_rows_under_our_token_that_name_no_request_stop_the_task(
    on_lost: Literal["stop", "resend"], tmp_path: Path
) -> None:
    world = make_world(tmp_path)
    world.simulator.inject(Fault(do="changed_ids", on="results", ids="cut", times=None))
    policy = Policy(on_lost=on_lost, repair_rounds=3)
    done = world.run(TEN, policy)

    assert isinstance(done.failure, ResultsError)
    assert "10 rows of msgbatch_" in str(done.failure)
    assert "paid for" in str(done.failure)
    assert world.billed == 10
    assert isinstance(world.run(TEN, policy, clear=True).failure, ResultsError)
    world.simulator.clear_faults()
    assert world.run(TEN, policy).failure is None
    assert world.billed == 10


# ---------------------------------------------------------------- the timeout


@pytest.mark.parametrize("timeout", [timedelta(seconds=25), HOUR])
def test_timeout_is_kept_within_a_poll_interval(timeout: timedelta, tmp_path: Path) -> None:
    world = make_world(tmp_path, batch_seconds=80_000, cancel_seconds=3000)
    began = world.clock.now()
    with world.attempt(TEN, Policy(timeout=timeout)) as submission:
        done = world.finish(submission, most=500)

    assert isinstance(done.failure, BatchTimeoutError)
    assert world.clock.now() - began <= timeout + timedelta(seconds=60)
    assert "canceled but not ended yet" in str(done.failure)
    world.clock.advance(3000)
    world.simulator.pace(0)
    assert world.run(TEN, Policy()).failure is None


def test_timeout_during_an_outage_does_not_claim_that_everything_is_landed(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    with world.attempt(TEN, Policy(timeout=HOUR)) as submission:
        advance(world, submission)
        world.simulator.outage("status:503")
        with pytest.raises(BatchTimeoutError) as raised:
            world.finish(submission, most=500)

    assert "What was answered is landed" not in str(raised.value)
    assert "could not be found out" in str(raised.value)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(do="not_found_blip", on="cancel", times=2), id="404"),
        pytest.param(Fault(do="page", on="cancel", status=404, times=2), id="a gateway's 404"),
        pytest.param(Fault(do="page", on="cancel", status=400, times=2), id="a gateway's 400"),
        pytest.param(Fault(do="not_found_blip", on="cancel", times=4), id="404 until the grace is over"),
    ],
)
def test_cancel_that_was_not_heard_is_tried_again(fault: Fault, tmp_path: Path) -> None:
    world = make_world(tmp_path, batch_seconds=80_000)
    world.simulator.inject(fault)
    with world.attempt(TEN, Policy(timeout=HOUR)) as submission:
        world.finish(submission, most=500)

    assert world.billed == 0


@pytest.mark.parametrize("status", [400, 404])
def test_cancel_that_a_gateway_answers_is_not_called_ended(
    status: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(tmp_path, batch_seconds=80_000)
    world.simulator.inject(Fault(do="page", on="cancel", status=status, times=None))
    with world.attempt(TEN, Policy(timeout=HOUR)) as submission:
        advance(world, submission)
        submission.cancel()

    assert "could not be canceled. It runs for 24 hours at most" in caplog.text
    assert "ended before it could be canceled" not in caplog.text
