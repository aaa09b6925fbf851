"""Parts are landed while the storage fails and files are damaged: no answer is lost, and none is paid for twice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from stores import FailingStore, Store, small_disk
from submission_world import TEN, World, fails_first, make_world

from airflow_claude_batch.batch.input.elements import Defaults
from airflow_claude_batch.batch.land.landed_parts import find_parts
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.steps import DoneStep
from airflow_claude_batch.batch.storage import ObjectFolder
from airflow_claude_batch.exceptions import ClaudeBatchError
from airflow_claude_batch.simulator import ManualClock, Simulator

SIX = TEN[:6]
LONG = Defaults(model="claude-haiku-5-5", max_tokens=2048)
POLICY = Policy(max_requests=2, repair_rounds=0, delete_batches=True)
#: One part runs at a time, so that each is landed by itself.
OPTIONS: dict[str, Any] = {"queue_limit": 2, "batch_seconds": 90}
#: These requests fail in the first run. Their answers come in three parts, beside the rows of the first run.
FAILED = (0, 1, 3, 4, 5)


@dataclass
class StoreWorld(World):
    """A submission whose folder is in an object store."""

    store: Any = None

    @property
    def folder(self) -> Any:
        return ObjectFolder(self.store, "/bucket/run", uri="s3://bucket/run")


def world_of(path: Path, store: Store) -> StoreWorld:
    path.mkdir(exist_ok=True)
    clock = ManualClock()
    outcome = fails_first(1, "errored:overloaded_error", *FAILED)
    return StoreWorld(path, Simulator(clock=clock, outcome=outcome, **OPTIONS), clock, store=store)


def check_end(world: World, done: DoneStep | None, *, may_leave_parts: bool = False) -> None:
    assert done is not None
    assert done.failure is None
    assert [(row["index"], row["status"]) for row in world.rows] == [(index, "succeeded") for index in range(6)]
    assert world.billed == 6
    assert done.manifest.counts["succeeded"] == 6
    assert done.manifest.usage["output_tokens"] == sum(row["usage"]["output_tokens"] for row in world.rows)
    names = {name for name in world.folder.names() if not name.startswith("ledger-")}
    if may_leave_parts:  # what could not be removed stays, and does not count
        assert find_parts(world.folder) == []
        names = {name for name in names if not name.startswith("landed-")}
    assert names == {"requests.jsonl", "results.jsonl", "manifest.json"}


def run_until_done(world: World, *, tries: int = 4) -> DoneStep | None:
    """Run try after try, until one ends without an error."""
    for _ in range(tries):
        with contextlib.suppress(ClaudeBatchError, OSError):
            done = world.run(SIX, POLICY)
            if done.failure is None:
                return done
    return None


def calls_of(kind: str, path: Path, about: str) -> int:
    counter = FailingStore(kind, about=about)
    check_end(world := world_of(path / "undisturbed", counter.store()), run_until_done(world))
    return counter.calls


@pytest.mark.parametrize(
    ("kind", "about", "long", "stride"),
    [
        ("put", "landed-", 1, 1),
        ("put", "landed-", 6, 4),
        ("open", "landed-", 1, 3),
        ("range", "landed-", 1, 5),
        ("remove", "landed-", 1, 3),
        ("put", "results", 1, 1),
        ("open", "results", 1, 2),
        ("range", "results", 1, 2),
        ("list", "", 1, 9),
    ],
)
def test_failure_of_the_store_at_any_moment_loses_no_part(
    kind: str, about: str, long: int, stride: int, tmp_path: Path
) -> None:
    calls = calls_of(kind, tmp_path, about)
    assert calls > 1
    for number in range(1, calls + 1, stride):
        failing = FailingStore(kind, set(range(number, number + long)), about=about)
        world = world_of(tmp_path / str(number), failing.store())
        done = run_until_done(world, tries=4 + long)
        failing.failing = set()
        try:
            check_end(world, done, may_leave_parts=kind in ("remove", "list"))
        except AssertionError as error:
            raise AssertionError(f"calls {number} to {number + long - 1}: {error}") from error


@pytest.mark.parametrize(("kind", "stride"), [("open", 3), ("range", 4)])
def test_part_that_the_store_denies_for_a_moment_is_landed_and_counted_once(
    kind: str, stride: int, tmp_path: Path
) -> None:
    for number in range(1, calls_of(kind, tmp_path, "landed-") + 1, stride):
        failing = FailingStore(kind, {number}, about="landed-", error=FileNotFoundError)
        world = world_of(tmp_path / str(number), failing.store())
        check_end(world, run_until_done(world), may_leave_parts=False)


# ---------------------------------------------------------------- full disks


def test_disk_that_is_full_while_parts_are_merged_loses_nothing(tmp_path: Path) -> None:
    world = make_world(tmp_path, answer=lambda params, n: "word " * 1000, **OPTIONS)
    with world.attempt(SIX, POLICY, defaults=LONG) as submission:
        while len(find_parts(world.folder)) < 2:
            world.clock.advance(100)
            submission.advance()
        before = {path.name: path.read_bytes() for path in world.folder.path.glob("landed-*")}
        world.clock.advance(100)
        with small_disk(25_000):  # a part is smaller, the rows are larger
            step = submission.advance()

        assert not isinstance(step, DoneStep)
        assert {path.name: path.read_bytes() for path in world.folder.path.glob("landed-*")} == before
        assert not (world.folder.path / "results.jsonl").exists()
        assert world.finish(submission).failure is None
    assert [len(row["text"]) for row in world.rows] == [5000] * 6
    assert world.billed == 6
    assert not list(world.folder.path.glob("landed-*"))
    assert not list(world.folder.path.glob(".*"))


# ---------------------------------------------------------------- damaged and missing files


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("suffix", ["jsonl", "index"])
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("damage", [Path.unlink, _cut, _flip])
@pytest.mark.parametrize("then", ["goes on", "retry", "clear", "other input"])
def test_part_that_is_damaged_or_gone_is_downloaded_again_and_the_rows_before_it_stay(
    then: str, damage: Callable[[Path], None], number: int, suffix: str, tmp_path: Path
) -> None:
    world = make_world(tmp_path, outcome=fails_first(1, "errored:overloaded_error", *FAILED), **OPTIONS)
    assert world.run(SIX, POLICY).failure is not None  # its batches are deleted: only the folder has its rows
    with world.attempt(SIX, POLICY, clear=True) as submission:
        while len(parts := find_parts(world.folder)) < 2:
            submission.advance()
            world.clock.advance(100)
        damage(world.folder.path / f"{parts[number - 1].name}.{suffix}")
        done = world.finish(submission) if then == "goes on" else None
    if then == "other input":
        assert world.run([*SIX[1:], SIX[0]], POLICY).failure is None
    elif then != "goes on":
        done = world.run(SIX, POLICY, clear=then == "clear")

    if done is not None:
        check_end(world, done)
    assert world.billed == 6


def test_clear_that_sends_everything_again_never_counts_parts_that_it_could_not_remove(tmp_path: Path) -> None:
    failing = FailingStore("remove", about="landed-")
    world = world_of(tmp_path, failing.store())
    for _ in range(2):
        with world.attempt(SIX, POLICY, clear=True, reuse_answers=False) as submission:
            while not find_parts(world.folder):
                world.clock.advance(100)
                submission.advance()
        failing.failing = set(range(1, 1000))
        with (
            pytest.raises((OSError, ClaudeBatchError), match="has failed"),
            world.attempt(SIX, POLICY, clear=True, reuse_answers=False),
        ):
            pass
        failing.failing = set()
    done = world.run(SIX, POLICY, clear=True, reuse_answers=False)

    assert [row["index"] for row in world.rows] == list(range(6))
    assert set(world.folder.names()) >= {"results.jsonl"}
    assert {row["batch_id"] for row in world.rows} <= set(done.manifest.batch_ids)
