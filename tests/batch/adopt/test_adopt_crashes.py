"""``adopt`` is killed, or meets an attempt of the task, at each effect: nothing is lost, and nothing paid twice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from answer_world import KilledError, WatchedFolder
from batch.adopt.adoption import bring_home, end_all, plan, send
from ledger_storage import CountingState, Killed
from submission_world import TEN, World, make_world

from airflow_claude_batch.batch.adopt.adopt import adopt
from airflow_claude_batch.batch.ledger.record import LedgerRecord, claim_ledger, load_ledger
from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore, StateLedgerStore
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.exceptions import SubmissionError, SubmissionTakenOverError

TWO = Policy(max_requests=5)


def half_known_world(path: Path) -> tuple[World, str, str]:
    """Return a task that knows one of its two batches, and both batches."""
    path.mkdir()
    world = make_world(path, answer=lambda params, n: f"answer to {params['messages'][-1]['content']}")
    first, second = send(world, TEN, TWO)
    store = FolderLedgerStore(world.folder)
    claim_ledger(store)
    ledger = load_ledger(store)
    assert ledger is not None
    known = tuple(part for part in ledger.parts if part.batch_id == first)
    LedgerRecord.take_over(store, msgspec.structs.replace(ledger, parts=known))
    end_all(world)
    return world, first, second


def adopt_watched(world: World, batch_id: str, before: Callable[[int, str], None]) -> bool:
    planned = plan(world, batch_id)
    folder: Any = WatchedFolder(world.folder, before)
    store = FolderLedgerStore(folder)
    return adopt(planned, store, folder, submission_id=world.submission_id, now=world.clock.now())


def effects_of_adoption(path: Path) -> int:
    world, _, second = half_known_world(path)
    calls: list[str] = []
    assert adopt_watched(world, second, lambda _, name: calls.append(name))
    return len(calls)


def landed_texts(world: World) -> list[str]:
    return [row["text"] for row in world.rows]


ANSWERS = [f"answer to {message}" for message in TEN]


@pytest.mark.parametrize("again", [True, False], ids=["run again", "cleared at once"])
def test_killed_before_each_effect_in_the_folder(tmp_path: Path, *, again: bool) -> None:
    count = effects_of_adoption(tmp_path / "undisturbed")
    assert count > 4

    for point in range(1, count + 1):
        world, first, second = half_known_world(tmp_path / f"killed-{point}")

        def kill(number: int, _: str, point: int = point) -> None:
            if number == point:
                raise KilledError

        with pytest.raises(KilledError):
            adopt_watched(world, second, kill)
        if again:
            bring_home(world, second)
        step = world.run(TEN, TWO, clear=True)

        assert first in step.manifest.batch_ids
        is_adopted = second in step.manifest.batch_ids
        assert world.billed == (10 if is_adopted else 15), point
        assert is_adopted or not again
        assert landed_texts(world) == ANSWERS


def test_killed_before_each_effect_in_the_task_state_store(tmp_path: Path) -> None:
    """Airflow commits the effects together. Even without that, nothing is lost."""
    for point in range(1, 4):
        world, first, second = half_known_world(tmp_path / f"killed-{point}")
        state = CountingState()
        writes = 0

        def kill(_: str, point: int = point) -> None:
            nonlocal writes
            writes += 1
            if writes == point:
                raise Killed

        make_store = partial(StateLedgerStore, state, world.folder)
        state.traffic.before_write = kill
        with contextlib.suppress(Killed):
            bring_home(world, second, make_store=make_store)
        state.traffic.before_write = lambda _: None
        bring_home(world, second, make_store=make_store)
        ledger = load_ledger(StateLedgerStore(state, world.folder))
        assert ledger is not None
        assert sorted(ledger.open_batch_ids) == sorted([first, second])


def test_attempt_that_begins_at_any_effect_pays_for_nothing_that_it_knows(tmp_path: Path) -> None:
    count = effects_of_adoption(tmp_path / "undisturbed")
    for point in range(1, count + 1):
        world, first, second = half_known_world(tmp_path / f"met-{point}")

        def begin(number: int, _: str, point: int = point, world: World = world) -> None:
            if number == point:
                world.run(TEN, TWO, clear=True)

        with contextlib.suppress(SubmissionError):
            adopt_watched(world, second, begin)
        bring_home(world, second)
        step = world.run(TEN, TWO, clear=True)

        assert {first, second} <= set(step.manifest.batch_ids)
        assert world.billed in (10, 15), point  # 15: the attempt began before anything was written
        assert landed_texts(world) == ANSWERS
        assert all(row["batch_id"] for row in world.rows)


def test_earlier_attempt_that_comes_back_changes_nothing_and_sends_nothing(tmp_path: Path) -> None:
    world, _, second = half_known_world(tmp_path / "zombie")
    with world.attempt(TEN, TWO) as suspended:
        bring_home(world, second)
        with pytest.raises(SubmissionTakenOverError):
            suspended.advance()

    step = world.run(TEN, TWO, clear=True)
    assert second in step.manifest.batch_ids
    assert world.billed == 10


def test_two_adoptions_at_once_lose_neither(tmp_path: Path) -> None:
    world, _, second = half_known_world(tmp_path / "twice")
    count = effects_of_adoption(tmp_path / "undisturbed")
    for point in range(1, count + 1):
        world, first, second = half_known_world(tmp_path / f"twice-{point}")

        def meet(number: int, _: str, point: int = point, world: World = world, second: str = second) -> None:
            if number == point:
                bring_home(world, second)

        with contextlib.suppress(SubmissionError):
            adopt_watched(world, second, meet)
        ledger = load_ledger(FolderLedgerStore(world.folder))
        assert ledger is not None
        assert sorted(ledger.open_batch_ids) == sorted([first, second])
