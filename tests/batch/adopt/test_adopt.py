"""A batch that no ledger knows is brought into its task, and the next clear pays nothing again: by the books."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from batch.adopt.adoption import bring_home, client_of, end_all, lose_folder, lose_ledger, plan, send
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_storage import CountingState
from submission_world import TEN, World, fails_first, new_world

from airflow_claude_batch.batch.adopt.change_ledger import Standing
from airflow_claude_batch.batch.ledger.part import AnswerUse
from airflow_claude_batch.batch.ledger.record import load_ledger
from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore, StateLedgerStore
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.exceptions import AdoptionError
from airflow_claude_batch.simulator.faults import Fault

TWO_BATCHES = Policy(max_requests=5)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return new_world(tmp_path)


def texts(world: World) -> list[str]:
    return [row["text"] for row in world.rows]


def asked(world: World) -> list[str]:
    """Every request that was sent, by its text."""
    return [request["params"]["messages"][-1]["content"] for request in world.simulator.requests()]


def right_answers(messages: list[str]) -> list[str]:
    return [f"answer to {message}" for message in messages]


def test_lost_ledger_clear_after_adoption_lands_the_answers_and_bills_nothing_again(world: World) -> None:
    (batch_id,) = send(world, TEN)
    end_all(world)
    lose_ledger(world)

    planned, written = bring_home(world, batch_id)
    step = world.run(TEN, Policy(), clear=True)

    assert written
    assert (planned.standing, planned.has_ledger) == (Standing.UNKNOWN, False)
    assert planned.comparison is not None
    assert (planned.comparison.answered, planned.comparison.requests) == (10, 10)
    assert planned.comparison.matched_bill.cost is not None
    assert step.failure is None
    assert step.manifest.batch_ids == [batch_id]
    assert world.billed == 10
    assert texts(world) == right_answers(TEN)
    assert step.manifest.cost is not None
    assert Decimal(step.manifest.cost["usd"]) == planned.comparison.matched_bill.cost.usd


def test_planning_changes_nothing(world: World) -> None:
    (batch_id,) = send(world, TEN)
    end_all(world)
    lose_ledger(world)
    before = {path: path.read_bytes() for path in world.folder.path.iterdir()}

    plan(world, batch_id)

    assert {path: path.read_bytes() for path in world.folder.path.iterdir()} == before


def test_adopting_twice_is_the_same_as_once(world: World) -> None:
    (batch_id,) = send(world, TEN)
    end_all(world)
    lose_ledger(world)

    bring_home(world, batch_id)
    files = sorted(path.name for path in world.folder.path.iterdir())
    again, written = bring_home(world, batch_id)

    assert (again.standing, written) == (Standing.EXPECTED, False)
    assert sorted(path.name for path in world.folder.path.iterdir()) == files
    world.run(TEN, Policy(), clear=True)
    assert world.billed == 10
    landed, written = bring_home(world, batch_id)
    assert (landed.standing, written) == (Standing.LANDED, False)


def test_two_batches_adopted_one_after_the_other_are_both_landed(world: World) -> None:
    first, second = send(world, TEN, TWO_BATCHES)
    end_all(world)
    lose_ledger(world)

    for batch_id in (second, first):
        planned, written = bring_home(world, batch_id)
        assert written
        assert planned.comparison is not None
        assert planned.comparison.answered == 5
    step = world.run(TEN, TWO_BATCHES, clear=True)

    assert sorted(step.manifest.batch_ids) == sorted([first, second])
    assert world.billed == 10
    assert texts(world) == right_answers(TEN)


def test_one_of_two_lost_batches_adopted_only_the_rest_is_sent(world: World) -> None:
    first, _second = send(world, TEN, TWO_BATCHES)
    end_all(world)
    lose_ledger(world)

    bring_home(world, first)
    world.run(TEN, TWO_BATCHES, clear=True)

    assert world.billed == 15
    assert texts(world) == right_answers(TEN)


def test_intent_without_a_batch_gets_its_batch(world: World) -> None:
    world.simulator.inject(Fault(do="drop_after_accept", on="create"))
    send_with_lost_response(world)
    (batch_id,) = [batch["id"] for batch in world.simulator.books()["batches"]]
    end_all(world)

    planned, written = bring_home(world, batch_id)
    ledger = load_ledger(FolderLedgerStore(world.folder))

    assert (planned.standing, written) == (Standing.INTENDED, True)
    assert ledger is not None
    assert not ledger.intents
    (part,) = ledger.parts
    assert (part.batch_id, part.answers) == (batch_id, AnswerUse.CURRENT)
    world.run(TEN, Policy(), clear=True)
    assert world.billed == 10
    assert texts(world) == right_answers(TEN)


def test_intent_of_another_create_call_stays_and_is_resolved_by_the_next_attempt(world: World) -> None:
    (lost,) = send(world, TEN)
    end_all(world)
    lose_ledger(world)
    eleven = [*TEN, "question 10"]
    world.simulator.inject(Fault(do="drop_after_accept", on="create"))
    other = world.another("other")
    send_with_lost_response(other, eleven)  # pays for these eleven, as it does not know the ten
    other_id = world.simulator.books()["batches"][-1]["id"]

    planned, _ = bring_home(other, lost)
    assert planned.standing is Standing.UNKNOWN
    end_all(world)
    step = other.run(eleven, Policy(), clear=True)

    assert sorted(step.manifest.batch_ids) == sorted([lost, other_id])
    assert world.billed == 21
    assert texts(other) == right_answers(eleven)


def send_with_lost_response(world: World, messages: list[str] = TEN) -> None:
    with world.attempt(messages, Policy()) as submission:
        submission.advance()


def test_input_that_has_changed_since_gets_the_answers_that_are_still_asked_for(world: World) -> None:
    (batch_id,) = send(world, TEN)
    end_all(world)
    lose_ledger(world)
    changed = ["another question 77", *TEN[:7][::-1]]

    bring_home(world, batch_id)
    world.run(changed, Policy(), clear=True)

    assert world.billed == 11
    assert texts(world) == right_answers(changed)


def test_partially_matching_batch_pays_for_the_rest_only(world: World) -> None:
    (batch_id,) = send(world, TEN)
    end_all(world)
    other = world.another("other")
    some = [*TEN[5:], "question 20", "question 21"]
    send(other, some)  # the task asks partly the same, and has its own batch
    lose_ledger(other)

    planned, _ = bring_home(other, batch_id)
    other.run(some, Policy(), clear=True)

    assert planned.comparison is not None
    assert (planned.comparison.answered, planned.comparison.requests, planned.comparison.answers) == (5, 7, 10)
    assert planned.comparison.matched_bill.cost is not None
    assert planned.comparison.bill.cost is not None
    assert planned.comparison.matched_bill.cost.usd < planned.comparison.bill.cost.usd
    assert world.billed == 10 + 7 + 2
    assert texts(other) == right_answers(some)


def test_batch_of_another_task_is_refused(world: World) -> None:
    (batch_id,) = send(world, TEN)
    end_all(world)
    other = world.another("other")
    send(other, ["something else"])
    before = sorted(path.name for path in other.folder.path.iterdir())

    with pytest.raises(AdoptionError, match="answers no request of this task"):
        plan(other, batch_id)
    assert sorted(path.name for path in other.folder.path.iterdir()) == before


def test_strangers_batch_is_refused_and_the_sensor_is_named(world: World) -> None:
    send(world, TEN)
    params = {"model": "claude-haiku-5-5", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}
    body = json.dumps({"requests": [{"custom_id": "row-1", "params": params}]}).encode()
    with client_of(world) as client:
        batch_id = client.create_batch(body).id
    end_all(world)

    with pytest.raises(AdoptionError, match=rf'MessageBatchSensor\(task_id="land", batch=\["{batch_id}"\]\)'):
        plan(world, batch_id)


def test_running_batch_is_refused_until_it_has_ended(world: World) -> None:
    (batch_id,) = send(world, TEN)
    lose_ledger(world)

    with pytest.raises(AdoptionError, match="still runs"):
        plan(world, batch_id)
    end_all(world)
    assert bring_home(world, batch_id)[1]


def test_deleted_batch_is_refused(world: World) -> None:
    (batch_id,) = send(world, TEN)
    end_all(world)
    lose_ledger(world)
    with client_of(world) as client:
        client.delete_batch(batch_id)

    with pytest.raises(AdoptionError, match=f"finds no message batch {batch_id}"):
        plan(world, batch_id)


def test_batch_whose_results_are_gone_is_refused(world: World) -> None:
    (batch_id,) = send(world, TEN)
    end_all(world)
    lose_ledger(world)
    world.clock.advance(timedelta(days=30).total_seconds())

    with pytest.raises(AdoptionError, match="no results"):
        plan(world, batch_id)


def test_results_that_are_not_found_for_a_moment_are_not_believed_to_be_gone(world: World) -> None:
    (batch_id,) = send(world, TEN)
    end_all(world)
    lose_ledger(world)
    world.simulator.inject(Fault(do="not_found_blip", on="results", times=None))

    with pytest.raises(AdoptionError, match="does not find the results") as raised:
        plan(world, batch_id)
    assert "Clear the task to send" not in str(raised.value)


def test_running_batch_beside_an_open_create_call_is_left_to_the_task(world: World) -> None:
    world.simulator.inject(Fault(do="drop_after_accept", on="create"))
    send(world, TEN)
    (batch_id,) = [batch["id"] for batch in world.simulator.books()["batches"]]

    with pytest.raises(AdoptionError, match="a retry finds it by itself"):
        plan(world, batch_id)


@pytest.mark.parametrize("at", ["mid_line", "line_end"])
def test_cut_results_are_read_again(world: World, at: Any) -> None:
    (batch_id,) = send(world, TEN)
    end_all(world)
    lose_ledger(world)
    world.simulator.inject(Fault(do="cut", on="results", at=at))

    planned, _ = bring_home(world, batch_id)

    assert planned.comparison is not None
    assert planned.comparison.answered == 10


def test_batch_without_an_answer_is_refused(tmp_path: Path) -> None:
    world = new_world(tmp_path, outcome=lambda *_: "expired")
    (batch_id,) = send(world, TEN)
    end_all(world)
    lose_ledger(world)

    with pytest.raises(AdoptionError, match="has no answer"):
        plan(world, batch_id)


def test_batch_with_errors_gives_its_answers_and_the_rest_is_sent_again(tmp_path: Path) -> None:
    world = new_world(tmp_path, outcome=fails_first(1, "errored", 3, 4))
    (batch_id,) = send(world, TEN)
    end_all(world)
    lose_ledger(world)

    planned, _ = bring_home(world, batch_id)
    world.run(TEN, Policy(), clear=True)

    assert planned.comparison is not None
    assert planned.comparison.answered == 8
    assert world.billed == 10
    assert texts(world) == right_answers(TEN)


def test_clear_that_reuses_no_answers_still_lands_what_was_adopted(world: World) -> None:
    (batch_id,) = send(world, TEN, reuse_answers=False)
    end_all(world)
    lose_ledger(world)

    bring_home(world, batch_id)
    world.run(TEN, Policy(), clear=True, reuse_answers=False)
    assert world.billed == 10
    assert texts(world) == right_answers(TEN)

    world.run(TEN, Policy(), clear=True, reuse_answers=False)
    assert world.billed == 20  # the next clear does what its author asked for


def test_batch_that_an_input_without_a_common_request_has_discarded_is_adopted_back(world: World) -> None:
    (batch_id,) = send(world, TEN)
    end_all(world)
    world.run(["something else"], Policy(), clear=True)  # drops the ten
    send(world, TEN, clear=True)  # and the task asks them again: an accident

    planned, written = bring_home(world, batch_id)

    assert (planned.standing, written) == (Standing.DISCARDED, True)
    end_all(world)
    step = world.run(TEN, Policy(), clear=True)
    assert batch_id in step.manifest.batch_ids
    assert world.billed == 21
    assert texts(world) == right_answers(TEN)


def test_adopted_batch_answers_an_input_that_shares_nothing_with_the_last_one(world: World) -> None:
    (batch_id,) = send(world, ["question 1", "question 2"])
    end_all(world)
    lose_folder(world)
    world.run(["question 2", "question 3"], Policy())
    bring_home(world, batch_id)
    billed = world.billed

    world.run(["question 1"], Policy(), clear=True)

    assert texts(world) == right_answers(["question 1"])
    assert world.billed == billed


def test_lost_requests_answers_are_compared_by_the_next_clear(world: World) -> None:
    (batch_id,) = send(world, TEN)
    end_all(world)
    lose_folder(world)

    planned, written = bring_home(world, batch_id)
    world.run(TEN, Policy(), clear=True)

    assert written
    assert planned.comparison is not None
    assert planned.comparison.requests is None
    assert world.billed == 10
    assert texts(world) == right_answers(TEN)


def test_strangers_answers_never_become_rows_even_if_the_requests_were_lost(world: World) -> None:
    (batch_id,) = send(world, TEN)
    end_all(world)
    other = world.another("other")

    bring_home(other, batch_id)  # its folder is lost, so nobody can tell
    other.run(["something else"], Policy(), clear=True)

    assert texts(other) == right_answers(["something else"])
    assert world.billed == 11


def test_equal_requests_of_one_task_get_an_answer_each(world: World) -> None:
    equal = ["same question 1"] * 3 + TEN
    (batch_id,) = send(world, equal)
    end_all(world)
    lose_ledger(world)

    planned, _ = bring_home(world, batch_id)
    world.run(equal, Policy(), clear=True)

    assert planned.comparison is not None
    assert planned.comparison.answered == 13
    assert world.billed == 13


def test_duplicates_that_share_an_answer_count_as_answered(world: World) -> None:
    equal = ["same question 1"] * 3 + TEN
    (batch_id,) = send(world, equal, deduplicate=True)
    end_all(world)
    lose_ledger(world)

    planned, _ = bring_home(world, batch_id)
    world.run(equal, Policy(), clear=True, deduplicate=True)

    assert planned.comparison is not None
    assert (planned.comparison.answered, planned.comparison.matched) == (13, 11)
    assert world.billed == 11


def test_batches_that_the_manifest_names_come_home_with_the_adopted_one(world: World) -> None:
    first, second = send(world, TEN, Policy(max_requests=5, wait_for_completion=True))
    world.simulator.end(first)
    with world.attempt(TEN, TWO_BATCHES) as submission:
        submission.advance()  # lands the first one, and writes a manifest
    end_all(world)
    lose_ledger(world)

    bring_home(world, second)
    step = world.run(TEN, TWO_BATCHES, clear=True)

    assert second in step.manifest.batch_ids
    assert world.billed == 10
    assert texts(world) == right_answers(TEN)


def test_batch_of_a_repair_round_is_adopted_beside_the_first_one(tmp_path: Path) -> None:
    world = new_world(tmp_path, outcome=fails_first(1, "errored", 3, 4))
    policy = Policy(repair_rounds=1)
    (first,) = send(world, TEN, policy)
    end_all(world)
    (repair,) = send(world, TEN, policy)
    end_all(world)
    lose_ledger(world)

    bring_home(world, repair)
    step = world.run(TEN, policy, clear=True)

    assert repair in step.manifest.batch_ids
    assert first in step.manifest.batch_ids  # its rows were landed, and name it
    assert world.billed == 10
    assert texts(world) == right_answers(TEN)


def test_batch_of_a_sample_is_adopted_and_the_rest_is_asked_for(world: World) -> None:
    policy = Policy(approve_above=Decimal(0), sample=3)
    (batch_id,) = send(world, TEN, policy)
    end_all(world)
    lose_ledger(world)

    planned, _ = bring_home(world, batch_id)
    with world.attempt(TEN, policy, clear=True) as submission:
        world.advance(submission)

    assert planned.comparison is not None
    assert planned.comparison.answered == 3
    assert world.billed == 6
    assert max(Counter(asked(world)).values()) == 1


def test_with_an_answer_store_what_is_adopted_is_landed_once_and_stored(world: World) -> None:
    (batch_id,) = send(world, TEN, store={})
    end_all(world)
    lose_ledger(world)

    bring_home(world, batch_id)
    world.run(TEN, Policy(), clear=True, store={})
    later = world.another("later")
    later.run(TEN, Policy(), store={})

    assert world.billed == 10
    assert texts(later) == right_answers(TEN)


def test_adopted_batch_beside_reused_answers_changes_no_row_for_the_worse(world: World) -> None:
    (batch_id,) = send(world, TEN)
    end_all(world)
    other = world.another("other")
    other.run(TEN[:5], Policy(), store={})
    send(other, TEN, clear=True, store={})
    lose_ledger(other)
    end_all(world)

    bring_home(other, batch_id)
    step = other.run(TEN, Policy(), clear=True, store={})

    assert step.failure is None
    assert texts(other) == right_answers(TEN)
    assert world.billed == 10 + 5 + 5


def test_ledger_in_the_task_state_store(world: World) -> None:
    """Airflow 3.3 and newer."""
    (batch_id,) = send(world, TEN)
    end_all(world)
    lose_ledger(world)
    state = CountingState()

    planned, written = bring_home(world, batch_id, make_store=lambda: StateLedgerStore(state, world.folder))
    ledger = load_ledger(StateLedgerStore(state, world.folder))

    assert written
    assert not planned.has_ledger
    assert ledger is not None
    assert ledger.open_batch_ids == (batch_id,)
    assert not list(world.folder.path.glob("ledger-*"))


def test_batch_with_answers_to_others_is_not_deleted(world: World) -> None:
    (batch_id,) = send(world, TEN)
    end_all(world)
    lose_ledger(world)
    policy = Policy(delete_batches=True)

    bring_home(world, batch_id)
    world.run(TEN[:6], policy, clear=True)

    assert world.billed == 10
    with client_of(world) as client:
        assert client.retrieve_batch(batch_id).ended  # four of its answers are nowhere else


def test_ledger_says_that_a_batch_was_adopted_until_it_is_landed(world: World) -> None:
    def stored() -> dict[str, Any]:
        newest = max(world.folder.path.glob("ledger-*.json"), key=lambda path: int(path.name.split("-")[1]))
        content: dict[str, Any] = json.loads(newest.read_bytes())
        return content

    (batch_id,) = send(world, TEN)
    end_all(world)
    lose_ledger(world)

    bring_home(world, batch_id)
    assert stored()["adopted"] == [batch_id]
    world.run(TEN, Policy(), clear=True)
    world.run(TEN, Policy(), clear=True)
    assert "adopted" not in stored()


NUMBERS = st.lists(st.integers(0, 5), min_size=1, max_size=8)


@given(first=NUMBERS, then=NUMBERS, size=st.integers(1, 4), chosen=st.sets(st.integers(0, 7)), known=st.booleans())
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_input_after_any_adoptions_pays_for_what_they_lack(
    first: list[int], then: list[int], size: int, chosen: set[int], known: bool
) -> None:
    with TemporaryDirectory() as path:
        world = new_world(Path(path))
        batch_ids = send(world, [f"question {number}" for number in first], Policy(max_requests=size))
        end_all(world)
        (lose_folder if not known else lose_ledger)(world)
        adopted = [batch_id for index, batch_id in enumerate(batch_ids) if index in chosen]
        for batch_id in adopted:
            bring_home(world, batch_id)

        messages = [f"question {number}" for number in then]
        world.run(messages, Policy(max_requests=size), clear=True)

        answered = Counter(
            request["prompt"] for request in world.simulator.requests() if request["batch_id"] in adopted
        )
        assert texts(world) == right_answers(messages)
        assert world.billed == len(first) + (Counter(messages) - answered).total()
