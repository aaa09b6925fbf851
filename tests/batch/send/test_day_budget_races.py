"""Submissions that come at the same time never exceed the day's budget together, whatever the order of their calls.

Every call of the storage is a point at which another submission may go on, and at which a process may die.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from batch.send.day_budgets import Store, bill_of, estimate_of, reserve, settle
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_claude_batch.batch.send.day_budget import DayBudget
from airflow_claude_batch.exceptions import DailyCostLimitError

LIMIT = 10


class Crash(BaseException):
    """The process dies."""


class Turns:
    """Lets threads run one at a time, from one call of the storage to the next.

    :param pick: chooses whose turn it is, by the number of those who may go on.
    """

    def __init__(self, pick: Callable[[int], int]) -> None:
        self._pick = pick
        self._may_run: dict[int, threading.Semaphore] = {}
        self._stopped = threading.Semaphore(0)

    def wait(self) -> None:
        """End the turn of the current thread."""
        self._stopped.release()
        self._may_run[threading.get_ident()].acquire()

    def run(self, works: Sequence[Callable[[], None]]) -> None:
        threads = [threading.Thread(target=self._run_one, args=[work], daemon=True) for work in works]
        for thread in threads:
            thread.start()
            self._stopped.acquire()
        while alive := [thread for thread in threads if thread.is_alive()]:
            thread = alive[self._pick(len(alive))]
            self._may_run[thread.ident or 0].release()
            self._stopped.acquire()
            if not any(thread is other for other in self._waiting(threads)):
                thread.join()

    def _waiting(self, threads: Sequence[threading.Thread]) -> list[threading.Thread]:
        return [thread for thread in threads if thread.ident in self._may_run]

    def _run_one(self, work: Callable[[], None]) -> None:
        self._may_run[threading.get_ident()] = threading.Semaphore(0)
        self.wait()
        try:
            work()
        finally:
            del self._may_run[threading.get_ident()]
            self._stopped.release()


@dataclass
class Sender:
    """One submission: rounds with an upper bound and a real cost. It dies at some calls, and is tried again.

    ``exposure`` is what it has cost, and may still cost.
    """

    name: str
    rounds: Sequence[tuple[int, int]]
    crashes: frozenset[int]
    store: Store
    let_through: Callable[[], None]
    calls: int = 0
    billed: int = 0
    exposure: int = 0
    refused: int = 0
    budget: DayBudget = field(init=False)

    def __post_init__(self) -> None:
        self.budget = self.store.budget(self.name, str(LIMIT))

    def call(self) -> None:
        self.calls += 1
        if self.calls in self.crashes:
            raise Crash

    def run(self) -> None:
        for most, cost in self.rounds:
            while not self._try(most):
                if self.refused:
                    return
            self.exposure = self.billed + most
            self.let_through()  # its batches run for a while
            self.billed += cost
            self.exposure = self.billed
            try:
                settle(self.budget, str(self.billed))
            except Crash:
                continue

    def _try(self, most: int) -> bool:
        try:
            reserve(self.budget, str(most), str(self.billed))
        except Crash:
            return False
        except DailyCostLimitError:
            self.refused += 1
            return False
        return True


def run(
    scripts: Sequence[tuple[Sequence[tuple[int, int]], frozenset[int]]], pick: Callable[[int], int]
) -> tuple[Store, list[Sender]]:
    store, turns, senders = Store(), Turns(pick), list[Sender]()
    of_thread: dict[int, Sender] = {}

    def before(call: str) -> None:
        turns.wait()
        of_thread[threading.get_ident()].call()

    def let_through() -> None:
        exposures = {sender.name: sender.exposure for sender in senders}
        assert sum(exposures.values()) <= LIMIT, exposures
        turns.wait()

    failures: list[AssertionError] = []

    def work_of(sender: Sender) -> Callable[[], None]:
        def work() -> None:
            of_thread[threading.get_ident()] = sender
            try:
                sender.run()
            except AssertionError as error:
                failures.append(error)

        return work

    store.before = before
    senders += [Sender(f"a{n}", rounds, crashes, store, let_through) for n, (rounds, crashes) in enumerate(scripts)]
    turns.run([work_of(sender) for sender in senders])
    assert not failures, failures
    store.before = lambda call: None
    return store, senders


ROUNDS = st.lists(
    st.integers(LIMIT // 3, LIMIT).flatmap(lambda most: st.tuples(st.just(most), st.integers(0, most))),
    min_size=1,
    max_size=2,
)
CRASHES = st.frozensets(st.integers(1, 30), max_size=2)


@settings(deadline=None, max_examples=80)
@given(
    scripts=st.lists(st.tuples(ROUNDS, CRASHES), min_size=2, max_size=3),
    order=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 8)), max_size=12),  # whose turn, for how many calls
)
def test_what_is_let_through_never_exceeds_the_limit(
    scripts: list[tuple[list[tuple[int, int]], frozenset[int]]], order: list[tuple[int, int]]
) -> None:
    turns = iter([whose for whose, calls in order for _ in range(calls)])

    store, senders = run(scripts, lambda count: next(turns, 0) % count)

    sums = store.sums()
    for sender in senders:
        _, usd = sums.get(sender.name, (False, Decimal(0)))
        assert usd >= sender.billed  # nothing that was paid for is forgotten
        if not sender.crashes and not sender.refused:
            assert (False, sender.billed) == sums[sender.name]


@pytest.mark.parametrize("first_calls", range(10))
@pytest.mark.parametrize("second_calls", range(1, 10))
def test_one_that_stops_anywhere_while_another_one_passes_is_not_let_through_beside_it(
    first_calls: int, second_calls: int
) -> None:
    turns = iter([0] * first_calls + [1] * second_calls)

    _, senders = run([([(6, 6)], frozenset())] * 2, lambda count: next(turns, 0) % count)

    assert sum(sender.refused for sender in senders) >= 1


def test_of_equal_ones_that_take_turns_one_passes() -> None:
    turn = 0

    def pick(count: int) -> int:
        nonlocal turn
        turn += 1
        return turn % count

    _, senders = run([([(6, 6)], frozenset())] * 2, pick)

    assert sorted(sender.refused for sender in senders) == [0, 1]


def test_ones_that_fit_together_all_pass() -> None:
    store, senders = run([([(5, 4)], frozenset())] * 2, lambda count: 0)

    assert [sender.refused for sender in senders] == [0, 0]
    reserve(store.budget("b", str(LIMIT)), "2")


def test_bills_and_estimates_of_these_tests_are_what_they_say() -> None:
    cost, estimate = bill_of("2.50").cost, estimate_of("3")
    assert cost is not None
    assert cost.usd == Decimal("2.50")
    assert estimate.usd is not None
    assert estimate.usd.upper == 3
