"""Odd lines in result streams, from the API to the folder: billed once, one row each, nothing thrown away."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from submission_world import TEN, World, fails_first, make_world

from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.simulator.faults import Fault, OddForm

#: Forms that leave an answer readable.
READABLE = {
    "lone_surrogate",
    "nan",
    "huge_number",
    "not_utf8",
    "line_end_in_text",
    "deep",
    "no_custom_id",
    "odd_usage",
    "errored_before",
}
#: Forms that a transport may have made, so that the stream is read again.
READ_AGAIN = {"not_utf8", "line_end_in_text", "no_custom_id", "cut_row", "error_object", "html"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


@pytest.mark.parametrize("form", get_args(OddForm))
def test_odd_row_is_paid_once_and_costs_no_other_row(world: World, form: str) -> None:
    world.simulator.inject(Fault(do="odd_row", form=form, times=None))  # type: ignore[arg-type]  # one of them

    done = world.run(TEN, Policy(allow_failed=1, repair_rounds=2))

    assert done.failure is None
    assert world.simulator.books()["billed_requests"] == 10
    rows = list(read_rows(done.manifest.to_xcom()))
    odd = [row for row in rows if row.raw is not None or row.status != "succeeded" or row.cost_usd is None]
    assert len(rows) == 10
    assert len(odd) == (0 if form == "errored_before" else 1)
    assert done.manifest.counts["succeeded"] == (10 if form in READABLE else 9)
    assert done.manifest.counts["invalid_output"] == (0 if form in READABLE else 1)
    for row in odd:
        assert row.raw is not None or row.text

    again = world.run(TEN, Policy(allow_failed=1), clear=True)
    assert again.failure is None
    assert world.simulator.books()["billed_requests"] == 10


@pytest.mark.parametrize("form", get_args(OddForm))
def test_row_that_was_damaged_on_the_way_comes_whole_the_second_time(world: World, form: str) -> None:
    world.simulator.inject(Fault(do="odd_row", form=form))  # type: ignore[arg-type]  # one of them

    done = world.run(TEN, Policy(allow_failed=1))

    rows = list(read_rows(done.manifest.to_xcom()))
    if form in READ_AGAIN:
        assert [row.status for row in rows] == ["succeeded"] * 10
        assert [row.raw for row in rows] == [None] * 10
    assert world.simulator.books()["billed_requests"] == 10


def test_only_batch_of_one_request_with_an_odd_line_is_landed(world: World) -> None:
    world.simulator.inject(Fault(do="odd_row", form="cut_row", times=None))

    done = world.run(TEN[:1], Policy(allow_failed=1))

    (row,) = read_rows(done.manifest.to_xcom())
    assert row.status == "invalid_output"
    assert row.raw is not None
    assert world.simulator.books()["billed_requests"] == 1


@pytest.mark.parametrize(
    ("fault", "deleted"),
    [
        pytest.param(None, True, id="all kept"),
        pytest.param(Fault(do="odd_row", form="cut_row", times=None), True, id="kept as bytes"),
        pytest.param(Fault(do="odd_row", form="odd_usage", times=None), True, id="usage in a new form"),
        pytest.param(Fault(do="odd_counts", on="retrieve", counts={"succeeded": 11}, times=None), False, id="more"),
    ],
)
def test_batches_are_deleted_only_if_every_answer_was_kept(world: World, fault: Fault | None, deleted: bool) -> None:
    if fault is not None:
        world.simulator.inject(fault)

    done = world.run(TEN, Policy(delete_batches=True, allow_failed=1))

    assert done.failure is None
    assert [batch["deleted"] for batch in world.simulator.books()["batches"]] == [deleted]


def test_answers_that_belong_to_no_request_any_more_keep_their_batch(world: World) -> None:
    """They were paid for, and only the API has them."""
    with world.attempt(TEN, Policy()) as submission:
        submission.advance()
    world.clock.advance(100)

    world.run([*TEN[:9], "another"], Policy(delete_batches=True), clear=True)

    assert [batch["deleted"] for batch in world.simulator.books()["batches"]] == [False, True]


def test_unreadable_result_says_in_the_error_what_becomes_of_it(world: World) -> None:
    world.simulator.inject(Fault(do="odd_row", form="cut_row", times=None))

    done = world.run(TEN, Policy())

    assert "Results that cannot be read may be answers that were paid for, so they are not sent" in str(done.failure)
    assert "output schema" not in str(done.failure)
    assert done.permanent


@pytest.mark.parametrize(
    ("words", "sent_again"),
    [
        pytest.param("Your credit balance is too low to access the Anthropic API.", True, id="no credit"),
        pytest.param("Unable to download the file. Please verify the URL and try again.", True, id="no file"),
        pytest.param("messages: Field required", False, id="refused for good"),
    ],
)
def test_clear_sends_again_what_was_refused_for_a_reason_that_passes(
    tmp_path: Path, words: str, sent_again: bool
) -> None:
    world = make_world(tmp_path, outcome=fails_first(1, f"errored:invalid_request_error:{words}", 3, 7))

    first = world.run(TEN, Policy(repair_rounds=0))
    second = world.run(TEN, Policy(repair_rounds=0), clear=True)

    assert first.manifest.counts["errored"] == 2
    assert first.permanent is not sent_again
    assert second.manifest.counts["succeeded"] == (10 if sent_again else 8)
    assert [batch["request_count"] for batch in world.simulator.books()["batches"]] == ([10, 2] if sent_again else [10])


def test_rows_before_the_place_at_which_a_stream_is_always_cut_are_landed(world: World) -> None:
    world.simulator.inject(Fault(do="cut", at="mid_line", times=None))
    with world.attempt(TEN, Policy()) as submission:
        for _ in range(3):
            submission.advance()
            world.clock.advance(100)
        landed = [row["status"] for row in world.rows]
        world.simulator.clear_faults()
        done = world.finish(submission)

    assert 5 <= len(landed) <= 10
    assert set(landed) == {"succeeded"}
    assert done.failure is None
    assert world.simulator.books()["billed_requests"] == 10


@pytest.mark.parametrize("form", ["cut_row", "html"])
def test_odd_line_does_not_stand_for_a_row_that_is_still_to_come(tmp_path: Path, form: str) -> None:
    world = make_world(tmp_path, shuffle=False)
    odd = Fault(do="odd_row", form=form, times=None)  # type: ignore[arg-type]  # one of them
    world.simulator.inject(odd, Fault(do="few_rows", on="results", rows=9, times=None))
    with world.attempt(TEN, Policy(allow_failed=1)) as submission:
        for _ in range(5):
            submission.advance()
            world.clock.advance(100)
        assert submission.open_batch_ids
        world.simulator.clear_faults()
        done = world.finish(submission)

    assert done.failure is None
    assert done.manifest.counts["succeeded"] == 10
    assert world.simulator.books()["billed_requests"] == 10
