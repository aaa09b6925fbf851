"""What the answer store costs a task in calls of the storage: none without a store, and none more in its own folder."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from answer_world import WatchedFolder
from submission_world import TEN, World, make_world

from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.storage import Folder, LocalFolder

POLICY = Policy(max_requests=4)
#: Calls in the folder of the task of :func:`ran`, counted in the release before the answer store.
BEFORE = Counter(names=50, replace_file=38, open=27, remove=5, sizes=9, size=4, read_range=8)


@dataclass
class CountingWorld(World):
    """A task instance that counts the calls of its folder, of the store's folder, and of the API."""

    calls: Counter[str] = field(default_factory=Counter)
    store_calls: Counter[str] = field(default_factory=Counter)

    @property
    def folder(self) -> Any:
        return self._watched(LocalFolder(self.path / "submission"), self.calls)

    def open_store(self, name: str) -> Folder:
        self.store_calls["opened"] += 1
        return self._watched(LocalFolder(self.store_path / name), self.store_calls)

    @property
    def api_calls(self) -> Counter[str]:
        return Counter(self.simulator.books()["calls"])

    def _watched(self, folder: Folder, calls: Counter[str]) -> Any:
        return WatchedFolder(folder, lambda _, name: calls.update([name]))


def ran(path: Path, *, with_store: bool) -> CountingWorld:
    """Run a task, a retry of it that finds everything done, and a clear with a changed input."""
    path.mkdir()
    made = make_world(path / "task")
    made.path.mkdir()
    world = CountingWorld(made.path, made.simulator, made.clock)
    store = {"open_folder": world.open_store} if with_store else None
    world.run(TEN, POLICY, store=store)
    world.run(TEN, POLICY, store=store)
    world.run([*TEN[:9], "something new"], POLICY, store=store, clear=True)
    assert world.billed == 11
    return world


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> tuple[CountingWorld, CountingWorld]:
    path = tmp_path_factory.mktemp("worlds")
    return ran(path / "without", with_store=False), ran(path / "with", with_store=True)


def test_nothing_is_read_below_a_store_that_is_not_named(worlds: tuple[CountingWorld, CountingWorld]) -> None:
    without, with_store = worlds
    assert not without.store_calls
    assert not without.store_path.exists()
    assert with_store.store_calls["sizes"] > 0, "the counting itself works"
    assert with_store.store_calls["replace_file"] > 0


def test_task_without_a_store_makes_no_more_calls_than_before_there_were_stores(
    worlds: tuple[CountingWorld, CountingWorld],
) -> None:
    without, with_store = worlds
    assert without.calls <= BEFORE
    more = with_store.calls - without.calls
    # Each of two attempts that send something notes in the ledger, which is in the folder here, that it has looked up.
    assert more["replace_file"] <= 2
    assert more.total() <= 8


def test_store_asks_the_api_for_nothing_that_the_task_does_not_ask(
    worlds: tuple[CountingWorld, CountingWorld],
) -> None:
    without, with_store = worlds
    assert with_store.api_calls["create"] == without.api_calls["create"]
    assert with_store.api_calls["list"] - without.api_calls["list"] <= 2  # any response names the workspace
