"""Submissions under a budget of the day, against the simulator: days, repair rounds, retries, crashes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import IO

import pytest
from submission_world import TEN, World, fails_first

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.collection import Collection
from airflow_claude_batch.batch.input.request_file import RequestFile, open_requests
from airflow_claude_batch.batch.land.handed_over import HandedOver
from airflow_claude_batch.batch.money.day_limit import DayLimit, DaySpending, Entry, current_entries
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.send.day_budget import DayBudget
from airflow_claude_batch.batch.send.day_entries import DayEntries
from airflow_claude_batch.batch.steps import AskStep, DoneStep, WaitStep
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.exceptions import APIError, DailyCostLimitError
from airflow_claude_batch.simulator import ManualClock, Simulator
from airflow_claude_batch.simulator.faults import Fault

EVENING = datetime(2026, 11, 22, 20, tzinfo=UTC)
#: Room for one submission, not for two: ten requests of 64 tokens may cost up to $0.000162.
LIMIT = Decimal("0.0003")
ONE_TASK = Policy(max_requests=5)


class Crash(BaseException):
    """The process dies."""


@dataclass
class Effects:
    """Counts what is written and removed, and what comes before. ``dies_at``: the process dies then, once."""

    dies_at: int = 0
    count: int = 0

    def step(self) -> None:
        self.count += 1
        if self.count == self.dies_at:
            raise Crash


class DyingFolder(LocalFolder):
    """A folder whose changes may be the last thing that a process does."""

    def __init__(self, path: Path, step: Callable[[], None]) -> None:
        super().__init__(path)
        self._step = step

    @contextlib.contextmanager
    def replace_file(self, name: str) -> Iterator[IO[bytes]]:
        if name.startswith("ledger"):
            self._step()  # after a create call, and before its batch is noted
        with super().replace_file(name) as file:
            yield file
        self._step()

    def remove(self, name: str) -> None:
        super().remove(name)
        self._step()


@dataclass
class DyingWorld(World):
    """A task instance whose processes may die."""

    effects: Effects = field(default_factory=Effects)

    @property
    def folder(self) -> LocalFolder:
        return DyingFolder(self.path / "submission", self.effects.step)


@dataclass
class Deployment:
    """Task instances with one budget and one simulator."""

    path: Path
    simulator: Simulator
    clock: ManualClock
    limit: Decimal = LIMIT
    url: str | None = None
    effects: Effects = field(default_factory=Effects)

    def budget(self, submission_id: str) -> DayBudget:
        return DayBudget(
            limits=[DayLimit(usd=self.limit, name="[claude_batch] max_cost_per_day")],
            entries=DayEntries(lambda day: DyingFolder(self.path / "_spending" / day, self.effects.step), {}),
            dag="aaaaaaaaaaaa",
            submission_id=submission_id,
            clock=self.clock.now,
            sleep=lambda _: None,
        )

    def task(self, submission_id: str) -> DyingWorld:
        path = self.path / submission_id
        path.mkdir()
        return DyingWorld(
            path,
            self.simulator,
            self.clock,
            url=self.url,
            day_budget=self.budget(submission_id),
            effects=self.effects,
        )

    def use_up(self) -> None:
        """Let another submission spend the whole budget of today."""
        budget, day = self.budget("ffff"), self.clock.now().date()
        entry = Entry("bbbbbbbbbbbb", "ffff", 1, False, 300, "000000000000")
        budget.entries.write(day, entry, DaySpending(spent_usd=LIMIT))

    def sums(self, day: str = "2026-11-22") -> dict[str, tuple[bool, Decimal]]:
        entries = self.budget("0").entries.read(datetime.fromisoformat(day).date())
        return {id_: (entry.is_open, entry.usd) for id_, entry in current_entries(entries).items()}


def deployment(path: Path, **options: object) -> Deployment:
    clock = ManualClock(EVENING)
    return Deployment(path, Simulator(clock=clock, **{"batch_seconds": 600, **options}), clock)  # type: ignore[arg-type]


def cost(done: DoneStep) -> Decimal:
    assert done.manifest.cost is not None
    return Decimal(done.manifest.cost["usd"]).quantize(Decimal("0.000001"), "ROUND_CEILING")


def test_two_submissions_on_two_days_over_sockets(tmp_path: Path) -> None:
    """While the first one is open, the second one has no room. It has once the first one has ended, or next day."""
    world = deployment(tmp_path)
    with world.simulator.serve() as server:
        world.url = server.url
        first, second, third = world.task("a1"), world.task("b2"), world.task("c3")
        with first.attempt(TEN, ONE_TASK) as submission:
            step = submission.advance()
            assert isinstance(step, WaitStep)
            is_open, reserved = world.sums()["a1"]
            assert is_open
            assert LIMIT / 2 < reserved < LIMIT
            with pytest.raises(DailyCostLimitError, match="It frees up at 00:00 UTC, in 4 h 0 min"):
                second.run(TEN, ONE_TASK)
            assert len(world.simulator.books()["batches"]) == 2
            done = first.finish(submission)
        assert world.sums() == {"a1": (False, cost(done))}
        assert cost(done) < reserved / 2

        with second.attempt(TEN, ONE_TASK) as submission:
            assert isinstance(submission.advance(), WaitStep)
            world.clock.advance((datetime(2026, 11, 23, 0, 0, 1, tzinfo=UTC) - world.clock.now()).total_seconds())
            assert third.run(TEN, ONE_TASK).failure is None  # the new day has room beside what still runs
            assert second.finish(submission).failure is None

    assert world.sums()["b2"] == (False, cost(done))  # noted on the day on which it was sent
    assert world.sums("2026-11-23") == {"c3": (False, cost(done))}
    assert world.simulator.books()["billed_requests"] == 30


def test_repair_round_of_the_next_day_counts_on_that_day(tmp_path: Path) -> None:
    """A batch runs over midnight, then its expired request is sent again."""
    world = deployment(tmp_path, outcome=fails_first(1, "expired", 3))
    task = world.task("a1")

    with task.attempt(TEN, ONE_TASK) as submission:
        submission.advance()
        world.clock.advance(5 * 3600)
        done = task.finish(submission)

    assert done.failure is None
    is_open, repaired = world.sums("2026-11-23")["a1"]
    assert not is_open
    assert repaired < cost(done) / 5
    assert world.sums()["a1"][0]  # that day is over: nobody counts it any more


def test_repair_round_without_room_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = deployment(tmp_path, outcome=fails_first(1, "expired", 3))
    task = world.task("a1")
    with task.attempt(TEN, ONE_TASK) as submission:
        submission.advance()
        world.use_up()
        done = task.finish(submission)

    assert "Repair round 1 is skipped. 1 request may cost up to" in caplog.text
    assert "max_cost_per_day has $0.00 left today" in str(done.failure)
    assert world.sums()["a1"] == (False, cost(done))


@pytest.mark.parametrize("status", [400, 403])
def test_refused_create_call_leaves_no_reservation(status: int, tmp_path: Path) -> None:
    """Else a day of runs with a wrong key uses up the budget without sending anything."""
    world = deployment(tmp_path)
    world.simulator.inject(Fault(do="status", on="create", status=status, times=None))
    with pytest.raises(APIError):
        world.task("a1").run(TEN, ONE_TASK)
    assert world.sums() == {"a1": (False, Decimal(0))}

    world.simulator.clear_faults()
    assert world.task("b2").run(TEN, ONE_TASK).failure is None


def test_create_call_whose_response_is_lost_keeps_its_reservation(tmp_path: Path) -> None:
    world = deployment(tmp_path)
    world.simulator.inject(
        Fault(do="drop_after_accept", on="create", times=1),
        Fault(do="status", on="list", status=400, skip=1, times=None),
    )
    task = world.task("a1")
    with contextlib.suppress(APIError), task.attempt(TEN, ONE_TASK) as submission:
        submission.advance()
    assert world.sums()["a1"][0]


def test_full_queue_sends_the_rest_of_a_round_on_its_first_reservation(tmp_path: Path) -> None:
    world = deployment(tmp_path, queue_limit=5)
    task = world.task("a1")
    with task.attempt(TEN, ONE_TASK) as submission:
        submission.advance()
        assert task.billed == 0
        world.use_up()
        done = task.finish(submission)

    assert done.failure is None
    assert task.billed == 10
    assert len(list((tmp_path / "_spending" / "2026-11-22").glob("*-a1-*"))) == 2


def test_refused_rest_waits_for_the_batches_of_an_earlier_try(tmp_path: Path) -> None:
    world = deployment(tmp_path, queue_limit=5)
    task = world.task("a1")
    with task.attempt(TEN, ONE_TASK) as submission:
        submission.advance()
    world.use_up()
    with pytest.raises(DailyCostLimitError, match="Nothing more was sent"):
        task.run(TEN, ONE_TASK)
    assert [row["status"] for row in task.rows] == ["succeeded"] * 5
    assert not world.sums()["a1"][0]
    world.clock.advance(12 * 3600)

    assert task.run(TEN, ONE_TASK).failure is None  # the next day

    assert task.billed == 10


def test_retry_after_a_kill_settles_its_own_reservation(tmp_path: Path) -> None:
    world = deployment(tmp_path)
    task = world.task("a1")
    with task.attempt(TEN, ONE_TASK) as submission:
        submission.advance()

    done = task.run(TEN, ONE_TASK)

    assert world.sums() == {"a1": (False, cost(done))}
    assert task.run(TEN, ONE_TASK, clear=True).failure is None
    assert world.sums() == {"a1": (False, cost(done))}


def test_clear_without_earlier_answers_adds_its_cost(tmp_path: Path) -> None:
    world = deployment(tmp_path)
    task = world.task("a1")
    done = task.run(TEN, ONE_TASK)
    assert task.day_budget is not None
    task.day_budget = replace(task.day_budget, lineage="1")

    task.run(TEN, ONE_TASK, clear=True, reuse_answers=False)

    assert task.billed == 20
    _, usd = world.sums()["a1"]
    assert cost(done) * 2 - usd <= Decimal("0.000001")


def test_timeout_that_leaves_batches_running_keeps_the_reservation(tmp_path: Path) -> None:
    world = deployment(tmp_path)
    task = world.task("a1")
    policy = replace(ONE_TASK, timeout=timedelta(minutes=5), on_timeout="leave")

    done = task.run(TEN, policy)

    assert done.failure is not None
    assert world.sums()["a1"][0]
    world.clock.advance(3600)
    assert task.run(TEN, policy).failure is None
    assert not world.sums()["a1"][0]


def test_sensor_settles_what_the_operator_reserved(tmp_path: Path) -> None:
    world = deployment(tmp_path)
    task = world.task("a1")
    done = task.run(TEN, replace(ONE_TASK, wait_for_completion=False))
    reservation = HandedOver.of_manifest(done.manifest.for_sensor or {}).reservation
    assert reservation == "2026-11-22/1"
    settle = partial(world.budget("a1").settle_handed_over, reservation)

    def requests() -> RequestFile:
        opened = open_requests(task.folder, tmp_path, verify=False)
        assert opened is not None
        return opened

    config = ClientConfig(credentials=ApiKey("sk-test"), base_url="http://127.0.0.1:1", max_retries=0)
    with ClaudeClient(config, transport=world.simulator.transport()) as client:
        collection = Collection(
            client=client,
            submission_id="s",
            batch_ids=done.manifest.batch_ids,
            folder=task.folder,
            requests=requests,
            policy=Policy(),
            prices=PriceTable.load(),
            deadline=world.clock.now() + timedelta(hours=2),
            clock=world.clock.now,
            sleep=lambda _: None,
            settle=settle,
        )
        assert isinstance(collection.advance(), WaitStep)
        assert world.sums()["a1"][0]
        world.clock.advance(3601)
        landed = collection.advance()

    assert isinstance(landed, DoneStep)
    assert world.sums() == {"a1": (False, cost(landed))}


def test_nothing_is_reserved_while_a_person_thinks_and_approved_requests_need_room(tmp_path: Path) -> None:
    world = deployment(tmp_path)
    task = world.task("a1")
    policy = replace(ONE_TASK, approve_above=Decimal(0), sample=3)
    with task.attempt(TEN, policy) as submission:
        assert isinstance(task.advance(submission), AskStep)
        is_open, sampled = world.sums()["a1"]
        assert not is_open
        assert 0 < sampled < LIMIT / 4
        submission.answer(approved=True, by="ann", at=world.clock.now())
    world.use_up()
    with pytest.raises(DailyCostLimitError):
        task.run(TEN, policy)
    world.clock.advance(5 * 3600)

    done = task.run(TEN, policy)  # the next day, and nobody is asked again

    assert world.sums()["a1"] == (False, sampled)
    is_open, rest = world.sums("2026-11-23")["a1"]
    assert not is_open
    assert sampled + rest - cost(done) <= Decimal("0.000002")


def test_death_after_any_change_counts_nothing_twice_and_forgets_nothing(tmp_path: Path) -> None:
    """The second try ends with what was billed, whatever the first one had written."""
    for dies_at in range(1, 1000):
        path = tmp_path / str(dies_at)
        path.mkdir()
        world = deployment(path, batch_seconds=90, outcome=fails_first(1, "expired", 3))
        world.effects.dies_at = dies_at
        task = world.task("a1")
        try:
            task.run(TEN, Policy())
        except Crash:
            sent = world.simulator.books()["batches"]
            assert not sent or world.sums()["a1"][1] > 0
        else:
            break
        done = task.run(TEN, Policy())
        assert done.failure is None
        assert world.sums() == {"a1": (False, cost(done))}, dies_at
    assert dies_at > 15


ASKS_DIRECTLY = Policy(
    max_requests=4,
    timeout=timedelta(minutes=60),
    on_timeout="ask_directly",
    direct_reserve=timedelta(minutes=30),
    direct_concurrency=2,
)


def test_direct_requests_count_in_the_budget_at_full_price(tmp_path: Path) -> None:
    world = deployment(tmp_path, batch_seconds=36_000)
    world.limit = 2 * LIMIT

    done = world.task("a1").run(TEN, ASKS_DIRECTLY)

    assert done.failure is None
    assert world.sums()["a1"] == (False, cost(done))


def test_without_room_in_the_budget_nothing_is_asked_directly(tmp_path: Path) -> None:
    world = deployment(tmp_path, batch_seconds=36_000)
    task = world.task("a1")
    with task.attempt(TEN, ASKS_DIRECTLY) as submission:
        submission.advance()
        world.use_up()
        done = task.finish(submission)

    assert world.simulator.books()["direct"]["billed_requests"] == 0
    assert "Not all of them were asked directly" in str(done.failure)
    assert "max_cost_per_day" in str(done.failure)
    assert all("max_cost_per_day" in row["error"]["message"] for row in task.rows)


def test_requests_that_may_be_asked_only_later_are_reserved_at_full_price_before_they_are(tmp_path: Path) -> None:
    asked = []

    def answer(params: object, position: int) -> str:
        asked.append(sum(amount for _, amount in world.sums().values()))
        return "word " * 200  # all of max_tokens

    world = deployment(tmp_path, batch_seconds=36_000, queue_limit=4, cancel_seconds=600, answer=answer)
    world.limit = 2 * LIMIT

    done = world.task("a1").run(TEN, ASKS_DIRECTLY)

    assert done.failure is None
    assert max(asked) >= cost(done)
