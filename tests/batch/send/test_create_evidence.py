"""Create calls with strange answers: each ends billed once and landed, or with a person asked in words."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from submission_world import TEN, World, make_world

from airflow_claude_batch.batch.policy import LOST_CREATE_GRACE, Policy
from airflow_claude_batch.batch.steps import DoneStep
from airflow_claude_batch.exceptions import (
    APIError,
    ClaudeBatchError,
    SubmissionUnknownError,
)
from airflow_claude_batch.simulator import Fault

HOUR = timedelta(hours=1)
LONG = Policy(timeout=timedelta(hours=20))
STATUSES = (200, 202, 204, 302, 400, 401, 403, 404, 405, 407, 413, 421, 429, 451, 460, 499, 500, 503, 529, 530)


def run_tries(world: World, policy: Policy = LONG, *, tries: int = 4, messages: list[Any] = TEN) -> list[Exception]:
    """Run the task with retries until it is done. Return the errors of the tries that failed."""
    errors: list[Exception] = []
    for _ in range(tries):
        try:
            with world.attempt(messages, policy) as submission:
                done = world.finish(submission, most=400)
        except ClaudeBatchError as error:
            errors.append(error)
            continue
        assert done.failure is None
        return errors
    raise AssertionError(errors)


def check_billed_once(world: World) -> None:
    assert world.billed == 10
    assert [row["status"] for row in world.rows] == ["succeeded"] * 10


@pytest.mark.parametrize("page", ["html", "empty", "json"])
@pytest.mark.parametrize("status", STATUSES)
def test_page_of_a_gateway_proves_nothing_about_a_create(status: int, page: Any, tmp_path: Path) -> None:
    """The call was accepted although the page says anything else: its batch is found, in the same try."""
    world = make_world(tmp_path, batch_seconds=600)
    world.simulator.inject(Fault(do="page", on="create", status=status, page=page, accepted=True))

    assert run_tries(world) == []
    check_billed_once(world)
    assert world.simulator.calls()["create"] == 1


@pytest.mark.parametrize("status", STATUSES)
def test_page_of_a_gateway_without_effect_is_followed_by_a_search_and_one_more_create(
    status: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(tmp_path)
    began = world.clock.now()
    world.simulator.inject(Fault(do="page", on="create", status=status))

    errors = run_tries(world)

    assert [type(error) for error in errors] == ([SubmissionUnknownError] if status == 413 else [])
    check_billed_once(world)
    assert world.simulator.calls()["create"] == 2
    assert world.clock.now() - began > LOST_CREATE_GRACE
    assert f"responded with {status}" in caplog.text or "not the API's" in caplog.text


@pytest.mark.parametrize("status", [302, 400, 403, 404, 413, 451, 200])
def test_gateway_that_refuses_every_create_gets_words_and_not_an_endless_loop(status: int, tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.simulator.inject(Fault(do="page", on="create", status=status, times=None))

    with world.attempt(TEN, LONG) as submission, pytest.raises(SubmissionUnknownError) as caught:
        world.finish(submission, most=400)

    assert world.simulator.calls()["create"] == (1 if status == 413 else 2)
    assert str(status) in str(caught.value) or "success status" in str(caught.value)
    if status == 413:
        assert "Send fewer requests at once" in str(caught.value)
    world.simulator.clear_faults()
    assert run_tries(world) == []
    check_billed_once(world)


def test_too_large_body_at_a_gateway_fails_at_once_with_the_remedy_and_a_retry_searches_first(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.simulator.inject(Fault(do="page", on="create", status=413), Fault(do="listing_lag", on="create", seconds=600))
    began = world.clock.now()

    with world.attempt(TEN, LONG) as submission, pytest.raises(SubmissionUnknownError, match="Send fewer requests"):
        world.finish(submission)

    assert world.clock.now() == began
    with world.attempt(TEN, LONG) as submission:
        step = submission.advance()
        assert not isinstance(step, DoneStep)
        assert "searching" in step.reason
    assert world.simulator.calls()["create"] == 1


@pytest.mark.parametrize(("status", "retry_after"), [(429, None), (429, 5), (529, None)])
def test_refusal_by_the_api_that_hides_a_batch_is_not_sent_again(
    status: int, retry_after: int | None, tmp_path: Path
) -> None:
    world = make_world(tmp_path)
    world.simulator.inject(Fault(do="status_after_accept", on="create", status=status, retry_after=retry_after))

    assert run_tries(world) == []
    check_billed_once(world)
    assert world.simulator.calls()["create"] == 1


@pytest.mark.parametrize("status", [429, 529])
def test_refused_create_is_looked_for_again_before_it_is_repeated(status: int, tmp_path: Path) -> None:
    """Its batch is listed only after the first look, while the queue is waited for."""
    world = make_world(tmp_path, batch_seconds=600)
    world.simulator.inject(
        Fault(do="status_after_accept", on="create", status=status, retry_after=120),
        Fault(do="listing_lag", on="create", seconds=30),
    )

    assert run_tries(world) == []
    check_billed_once(world)
    assert world.simulator.calls()["create"] == 1


@pytest.mark.parametrize("status", [429, 529])
def test_refusal_by_the_api_without_a_batch_costs_no_search(status: int, tmp_path: Path) -> None:
    world = make_world(tmp_path)
    began = world.clock.now()
    world.simulator.inject(Fault(do="status", on="create", status=status))

    assert run_tries(world) == []
    check_billed_once(world)
    assert world.clock.now() - began < timedelta(minutes=10)


@pytest.mark.parametrize("seconds", [30, 200, 600, 900, 1800, 3600])
def test_batch_that_becomes_visible_late_is_found(seconds: int, tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.simulator.inject(
        Fault(do="listing_lag", on="create", seconds=seconds), Fault(do="drop_after_accept", on="create")
    )

    assert run_tries(world) == []
    check_billed_once(world)
    assert world.simulator.calls()["create"] == 1


@pytest.mark.parametrize("earlier", [10, 3], ids=["as many requests", "another number"])
def test_response_that_names_an_older_batch_is_not_believed(earlier: int, tmp_path: Path) -> None:
    world = make_world(tmp_path)
    with world.attempt([f"of somebody {n}" for n in range(earlier)], Policy()) as other:
        other.advance()
    other_world = World(tmp_path / "second", world.simulator, world.clock)
    other_world.path.mkdir()
    world.clock.advance(3600)
    world.simulator.inject(Fault(do="wrong_batch", on="create"))

    assert run_tries(other_world) == []
    assert other_world.billed == 10 + earlier
    assert [row["status"] for row in other_world.rows] == ["succeeded"] * 10


def test_response_that_names_a_batch_of_the_same_submission_is_not_believed(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.simulator.inject(Fault(do="wrong_batch", on="create", skip=1))

    assert run_tries(world, Policy(timeout=20 * HOUR, max_requests=5)) == []
    check_billed_once(world)
    assert world.simulator.calls()["create"] == 2


@pytest.mark.parametrize(
    "dates",
    [
        pytest.param([Fault(do="odd_date", times=None)], id="no Date"),
        pytest.param([Fault(do="odd_date", times=1)], id="no Date at the intent"),
        pytest.param([Fault(do="odd_date", seconds=-18_000, times=None)], id="five hours slow"),
        pytest.param([Fault(do="odd_date", seconds=18_000, times=None)], id="five hours fast"),
        pytest.param([Fault(do="odd_date", seconds=18_000, skip=3, times=2)], id="one node is five hours fast"),
        pytest.param([Fault(do="odd_date", seconds=-18_000, times=1)], id="slow at the intent only"),
        pytest.param([Fault(do="odd_date", seconds=18_000, times=1)], id="fast at the intent only"),
    ],
)
@pytest.mark.parametrize("accepted", [True, False])
def test_wrong_clock_makes_a_search_longer_but_never_pays_twice(
    dates: list[Fault], accepted: bool, tmp_path: Path
) -> None:
    world = make_world(tmp_path)
    did = "drop_after_accept" if accepted else "drop_before_accept"
    world.simulator.inject(
        Fault(do=did, on="create"),  # type: ignore[arg-type]
        Fault(do="listing_lag", on="create", seconds=3000),
        *dates,
    )

    assert run_tries(world, Policy(timeout=timedelta(hours=40))) == []
    check_billed_once(world)
    assert world.simulator.calls()["create"] == (1 if accepted else 2)


def test_cached_listing_never_leads_to_a_second_create(tmp_path: Path) -> None:
    """Every list call gets the page of before the create call: a person is asked in the end."""
    world = make_world(tmp_path)
    world.run(["another 1"], Policy())
    second = World(tmp_path / "second", world.simulator, world.clock)
    second.path.mkdir()
    world.simulator.inject(Fault(do="cached_listing", times=None), Fault(do="drop_after_accept", on="create"))

    with second.attempt(TEN, Policy(timeout=4 * HOUR)) as submission, pytest.raises(SubmissionUnknownError):
        second.finish(submission, most=400)

    assert world.simulator.calls()["create"] == 2
    world.simulator.clear_faults()
    assert run_tries(second) == []
    assert world.billed == 11


@pytest.mark.parametrize("counts", [{}, {"processing": 0}, {"processing": 20}, {"processing": None}, None], ids=str)
def test_candidate_with_odd_counts_is_verified_by_its_results(counts: Any, tmp_path: Path) -> None:
    world = make_world(tmp_path, batch_seconds=2 * 3600)
    world.simulator.inject(
        Fault(do="drop_after_accept", on="create"), Fault(do="odd_counts", on="list", counts=counts, times=None)
    )

    assert run_tries(world) == []
    check_billed_once(world)
    assert world.simulator.calls()["create"] == 1


@pytest.mark.parametrize("lost", [True, False], ids=["negative, response lost", "another number in the response"])
@pytest.mark.parametrize("seconds", [90, 9000])
def test_batch_whose_counts_are_not_those_of_the_call_is_verified_by_its_results(
    lost: bool, seconds: int, tmp_path: Path
) -> None:
    world = make_world(tmp_path, batch_seconds=seconds)
    counts: dict[str, int | None] = {"processing": -10 if lost else 7}
    world.simulator.inject(Fault(do="odd_counts", on="list", counts=counts, times=None))
    world.simulator.inject(
        Fault(do="drop_after_accept", on="create") if lost else Fault(do="odd_create", on="create", counts=counts)
    )

    assert run_tries(world) == []
    check_billed_once(world)
    assert world.simulator.calls()["create"] == 1


@pytest.mark.parametrize("ids", ["upper", "lower"])
def test_own_batch_is_recognised_however_its_custom_ids_are_spelled(ids: Any, tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.simulator.inject(
        Fault(do="drop_after_accept", on="create"), Fault(do="changed_ids", on="results", ids=ids, times=1)
    )

    assert run_tries(world) == []
    check_billed_once(world)
    assert world.simulator.calls()["create"] == 1


def test_body_that_was_sent_twice_keeps_one_batch_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = make_world(tmp_path)
    world.simulator.inject(Fault(do="create_twice", on="create"), Fault(do="drop_after_accept", on="create"))
    caplog.set_level(logging.WARNING)

    with world.attempt(TEN, LONG) as submission:
        done = world.finish(submission)

    assert done.failure is None
    assert world.simulator.calls()["create"] == 1
    assert [row["status"] for row in world.rows] == ["succeeded"] * 10
    first, second = (batch["id"] for batch in world.simulator.books()["batches"])
    assert set(done.manifest.batch_ids) == {first, second}
    assert "holds the same requests" in caplog.text
    assert "Turn its retries of POST requests off" in caplog.text


@pytest.mark.parametrize("lost", [True, False], ids=["response lost", "response of the second"])
def test_answers_of_a_copy_are_landed_instead_of_sending_their_requests_again(lost: bool, tmp_path: Path) -> None:
    """The batch that is kept lacks answers, and the other one has them."""
    ended: list[int] = []

    def outcome(custom_id: str, params: dict[str, Any], attempt: int) -> str:
        number = int(params["messages"][-1]["content"].split()[-1])
        return "expired" if number in (2, 7) and ended and ended[-1] == 1 else "succeeded"

    def seconds(batch: Any) -> float:
        return 60

    world = make_world(tmp_path, batch_seconds=seconds, outcome=outcome)
    faults = [Fault(do="create_twice", on="create")]
    world.simulator.inject(*faults, *([Fault(do="drop_after_accept", on="create")] if lost else []))
    with world.attempt(TEN, LONG) as submission:
        submission.advance()
        first, second = (batch["id"] for batch in world.simulator.books()["batches"])
        world.simulator.end(first)
        ended.append(1)
        world.simulator.end(second)
        done = world.finish(submission)

    assert done.failure is None
    assert [row["status"] for row in world.rows] == ["succeeded"] * 10
    assert world.simulator.calls()["create"] == 1
    assert set(done.manifest.batch_ids) == {first, second}


@pytest.mark.parametrize("on_lost", ["stop", "resend"])
def test_404s_of_a_peek_are_not_believed_until_they_last(on_lost: Any, tmp_path: Path) -> None:
    world = make_world(tmp_path, batch_seconds=0)
    world.simulator.inject(
        Fault(do="drop_after_accept", on="create"), Fault(do="status", on="results", status=404, times=6)
    )

    assert run_tries(world, Policy(timeout=20 * HOUR, on_lost=on_lost)) == []
    check_billed_once(world)
    assert world.simulator.calls()["create"] == 1


def test_404_of_a_peek_that_lasts_asks_a_person_or_is_sent_again_as_the_author_says(tmp_path: Path) -> None:
    world = make_world(tmp_path, batch_seconds=0)
    world.simulator.inject(
        Fault(do="drop_after_accept", on="create"), Fault(do="status", on="results", status=404, times=None)
    )
    with world.attempt(TEN, LONG) as submission, pytest.raises(SubmissionUnknownError, match="on_lost='resend'"):
        world.finish(submission)
    assert world.simulator.calls()["create"] == 1


@pytest.mark.parametrize("do", ["status", "page"])
@pytest.mark.parametrize("skip", [0, 1, 2], ids=["at the intent", "in the search", "later in the search"])
def test_404s_of_the_listing_are_waited_out(do: Any, skip: int, tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.simulator.inject(
        Fault(do="drop_after_accept", on="create"), Fault(do=do, on="list", status=404, skip=skip, times=2)
    )

    errors = run_tries(world)

    assert len(errors) <= (2 if do == "page" and skip == 0 else 0)  # nothing was sent: the task's own retries
    check_billed_once(world)
    assert world.simulator.calls()["create"] == 1


def test_404_of_the_listing_that_lasts_is_said(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    began = world.clock.now()
    world.simulator.inject(Fault(do="status", on="list", status=404, times=None))

    with world.attempt(TEN, LONG) as submission, pytest.raises(APIError, match="Check the base URL"):
        world.finish(submission)
    assert timedelta(minutes=10) <= world.clock.now() - began <= timedelta(minutes=15)


def test_watermark_that_was_deleted_below_many_newer_batches(tmp_path: Path) -> None:
    world = make_world(tmp_path, batch_seconds=0)
    world.run(["the watermark 1"], Policy())
    watermark = world.simulator.books()["batches"][0]["id"]
    second = World(tmp_path / "second", world.simulator, world.clock)
    second.path.mkdir()
    world.clock.advance(60)
    world.simulator.inject(Fault(do="drop_after_accept", on="create"))
    with second.attempt(TEN, LONG) as submission:
        submission.advance()
        third = World(tmp_path / "third", world.simulator, world.clock)
        third.path.mkdir()
        with third.attempt(["newer 1"], Policy()) as other:
            for _ in range(1500):
                other.client.create_batch(b'{"requests":[{"custom_id":"x","params":{}}]}')
            other.client.delete_batch(watermark)
        done = second.finish(submission)

    assert done.failure is None
    assert [row["status"] for row in second.rows] == ["succeeded"] * 10
    assert sum(batch["request_count"] == 10 for batch in world.simulator.books(detail=False)["batches"]) == 1


def test_many_tasks_that_lose_their_responses_at_once_read_each_others_results_once(tmp_path: Path) -> None:
    tasks = 5
    world = make_world(tmp_path, batch_seconds=lambda batch: 600 + 60 * (tasks - batch.number))
    worlds = [World(tmp_path / f"task-{n}", world.simulator, world.clock) for n in range(tasks)]
    world.simulator.inject(Fault(do="drop_after_accept", on="create", times=tasks))
    for each in worlds:
        each.path.mkdir()
    for number, each in enumerate(worlds):
        with each.attempt([f"question {number}"], LONG) as submission:
            submission.advance()
    for _ in range(16):
        world.clock.advance(60)
        for number, each in enumerate(worlds):
            with each.attempt([f"question {number}"], LONG) as submission:
                submission.advance()
    for number, each in enumerate(worlds):
        assert each.run([f"question {number}"], LONG).failure is None

    assert world.billed == tasks
    # Each batch: once in a search, and once for its rows.
    assert world.simulator.calls()["results"] <= 2 * tasks


def test_short_stream_with_the_row_of_a_stranger_does_not_prove_that_a_batch_is_somebody_else_s(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.simulator.inject(
        Fault(do="drop_after_accept", on="create"),
        Fault(do="unknown_row", on="results", times=3),
        Fault(do="few_rows", on="results", rows=0, times=3),
    )
    assert run_tries(world) == []
    check_billed_once(world)
    assert world.simulator.calls()["create"] == 1
