from __future__ import annotations

import asyncio
import contextvars
import re
from datetime import datetime, timedelta

import pytest
from waiting_world import World

from airflow_claude_batch.api.client import AsyncClaudeClient
from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.wait.shared_client import SharedClient
from airflow_claude_batch.batch.wait.wait_result import WaitResult
from airflow_claude_batch.batch.wait.watcher import Watcher
from airflow_claude_batch.exceptions import InputError
from airflow_claude_batch.simulator import Fault, Simulator

#: Seconds of the loop, not real ones, because it is set after the batches were made.
SLOW = Fault(do="slow", on="any", seconds=5, times=None)


def test_a_single_batch_is_retrieved_until_it_has_ended():
    with World(batch_seconds=95) as world:
        [batch_id] = world.create()

        async def main() -> WaitResult:
            return await world.watcher().wait([batch_id], poll_interval=60)

        result = world.run(main)
        assert result.status == "ended"
        assert result.batches[batch_id].request_counts["succeeded"] == 1
        assert result.batches[batch_id].ended_at is not None
        assert world.now == pytest.approx(100, abs=1)
        assert world.simulator.calls()["retrieve"] == 11
        assert world.simulator.calls()["list"] == 0


def test_two_waiters_share_every_poll():
    with World(batch_seconds=55) as world:
        first, second = world.create(2)

        async def main() -> list[WaitResult]:
            watcher = world.watcher()
            return await asyncio.gather(watcher.wait([first]), watcher.wait([second]))

        results = world.run(main)
        assert [set(result.batches) for result in results] == [{first}, {second}]
        assert world.polls == 7  # at 0, 10, ... 60
        assert world.connects == 1


def test_a_thousand_waiters_cost_at_most_two_calls_an_interval():
    with World(batch_seconds=600) as world:
        batch_ids = world.create(1000)

        async def main() -> list[WaitResult]:
            watcher = world.watcher()
            return await asyncio.gather(*(watcher.wait([b], poll_interval=10) for b in batch_ids))

        results = world.run(main)
        assert all(result.status == "ended" for result in results)
        assert world.now <= 615
        assert world.polls <= 2 * 61


def test_wait_for_any_ends_with_the_first_batch_and_all_with_the_last():
    with World(batch_seconds=3600) as world:
        first, second = world.create(2)
        world.simulator.pace(lambda batch: 30 if batch.id == first else 300)

        async def main() -> tuple[WaitResult, float, WaitResult, float]:
            watcher = world.watcher()
            every = asyncio.ensure_future(watcher.wait([first, second], poll_interval=10))
            one = await watcher.wait([first, second], wait_for="any", poll_interval=10)
            one_at = world.now
            return one, one_at, await every, world.now

        one, one_at, every, every_at = world.run(main)
        assert one_at == pytest.approx(30, abs=10)
        assert {b: s.processing_status for b, s in one.batches.items()} == {first: "ended", second: "in_progress"}
        assert every_at == pytest.approx(300, abs=11)
        assert {s.processing_status for s in every.batches.values()} == {"ended"}


def test_a_canceled_waiter_does_not_affect_others():
    with World(batch_seconds=60) as world:
        [batch_id] = world.create()

        async def main() -> WaitResult:
            watcher = world.watcher()
            canceled = asyncio.ensure_future(watcher.wait([batch_id]))
            other = asyncio.ensure_future(watcher.wait([batch_id]))
            await asyncio.sleep(25)
            canceled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await canceled
            return await other

        assert world.run(main).status == "ended"


def test_waiting_ends_at_the_deadline_and_the_batch_keeps_running():
    with World(batch_seconds=3600) as world:
        [batch_id] = world.create()

        async def main() -> WaitResult:
            return await world.watcher().wait([batch_id], until=world.clock.now() + timedelta(seconds=333))

        result = world.run(main)
        assert (result.status, result.error) == ("due", None)
        assert world.now == pytest.approx(333, abs=0.01)
        assert result.batches[batch_id].processing_status == "in_progress"
        assert world.simulator.calls()["cancel"] == 0


def test_without_batches_it_is_a_timer_that_never_connects():
    with World() as world:

        async def main() -> WaitResult:
            return await world.watcher().wait([], until=world.clock.now() + timedelta(hours=20))

        assert world.run(main) == WaitResult("due")
        assert world.now == pytest.approx(72_000, abs=0.01)
        assert world.connects == 0


def test_without_batches_and_deadline_it_returns_at_once():
    with World() as world:

        async def main() -> WaitResult:
            return await world.watcher().wait([])

        assert world.run(main) == WaitResult("due")


@pytest.mark.parametrize("kind", ["refuse", "hang", "html", "status:500", "status:503", "status:529", "status:429"])
def test_an_outage_of_an_hour_is_survived_and_logged_twice(kind):
    with World(batch_seconds=120) as world:
        batch_ids = world.create(3)

        async def main() -> list[WaitResult]:
            watcher = world.watcher()
            waits = [watcher.wait([b], poll_interval=60, write_log=world.log_of(b)) for b in batch_ids]
            world.loop.call_later(15, world.simulator.outage, kind)
            world.loop.call_later(3615, world.simulator.end_outage)
            return await asyncio.gather(*waits)

        results = world.run(main)
        assert [result.status for result in results] == ["ended"] * 3
        assert 3615 <= world.now <= 3615 + 121
        for batch_id in batch_ids:
            began, over, ended = world.lines[batch_id]
            assert "is unavailable (connection 'claude_default')" in began
            assert re.search(r"is available again \(connection 'claude_default'\), after (59 minutes|1 hour)", over)
            assert re.fullmatch(rf"Message batch {batch_id} has ended after [1-9][\w ]+: 1 succeeded\.", ended)
        assert world.polls < 90


def test_malformed_responses_are_survived_too():
    with World(batch_seconds=120) as world:
        [batch_id] = world.create()
        world.simulator.inject(Fault(do="malformed", on="retrieve", times=20))

        async def main() -> WaitResult:
            return await world.watcher().wait([batch_id])

        assert world.run(main).status == "ended"


def test_an_outage_longer_than_the_wait_ends_it_as_due():
    with World(batch_seconds=120) as world:
        [batch_id] = world.create()
        world.simulator.outage("refuse")

        async def main() -> WaitResult:
            return await world.watcher().wait([batch_id], until=world.clock.now() + timedelta(hours=2))

        assert world.run(main) == WaitResult("due")
        assert world.now == pytest.approx(7200, abs=0.01)


def test_a_single_failed_poll_is_not_logged():
    with World(batch_seconds=60) as world:
        [batch_id] = world.create()
        world.simulator.inject(Fault(do="status", status=503, on="retrieve", skip=1))

        async def main() -> WaitResult:
            return await world.watcher().wait([batch_id], write_log=world.log_of("it"))

        assert world.run(main).status == "ended"
        assert len(world.lines["it"]) == 1


def test_a_waiter_that_arrives_during_an_outage_gets_its_log_line():
    with World(batch_seconds=600) as world:
        first, second = world.create(2)
        world.simulator.outage("status:503")

        async def main() -> None:
            watcher = world.watcher()
            early = asyncio.ensure_future(watcher.wait([first]))
            await asyncio.sleep(60)
            late = asyncio.ensure_future(watcher.wait([second], write_log=world.log_of("late")))
            await asyncio.sleep(60)
            world.simulator.end_outage()
            await asyncio.gather(early, late)

        world.run(main)
        assert ["is unavailable" in line for line in world.lines["late"]] == [True, False, False]


def test_retry_after_holds_for_all_waiters():
    with World(batch_seconds=3600) as world:
        batch_ids = world.create(2)
        world.simulator.inject(Fault(do="status", status=429, retry_after=400, on="any"))

        async def main() -> int:
            watcher = world.watcher()
            waits = [asyncio.ensure_future(watcher.wait([b])) for b in batch_ids]
            await asyncio.sleep(399)
            polls = world.polls
            await asyncio.sleep(2)
            assert world.polls > polls
            for wait in waits:
                wait.cancel()
            return polls

        assert world.run(main) == 1


def test_a_few_404s_are_ignored():
    with World(batch_seconds=400) as world:
        [batch_id] = world.create()
        world.simulator.inject(Fault(do="not_found_blip", on="retrieve", times=5))

        async def main() -> WaitResult:
            return await world.watcher().wait([batch_id], write_log=world.log_of("it"))

        assert world.run(main).status == "ended"
        assert ["does not find" in line for line in world.lines["it"]] == [True, False]


def test_a_single_404_is_not_logged():
    with World(batch_seconds=400) as world:
        [batch_id] = world.create()
        world.simulator.inject(Fault(do="not_found_blip", on="retrieve"))

        async def main() -> WaitResult:
            return await world.watcher().wait([batch_id], write_log=world.log_of("it"))

        assert world.run(main).status == "ended"
        assert len(world.lines["it"]) == 1


@pytest.mark.parametrize(("poll_interval", "words"), [(60, "9 minutes"), (3600, "1 hour")])
def test_denied_batch_is_said_to_be_given_up_when_it_is(poll_interval, words):
    with World(batch_seconds=36000) as world:
        [batch_id] = world.create()
        world.simulator.inject(Fault(do="not_found_blip", on="retrieve", times=None))

        lines: list[tuple[float, str]] = []

        async def main() -> WaitResult:
            def write_log(level: int, text: str, *args: object) -> None:
                lines.append((world.now, text % args))

            return await world.watcher().wait([batch_id], poll_interval=poll_interval, write_log=write_log)

        assert world.run(main).lost == (batch_id,)
        at, line = next((at, line) for at, line in lines if "does not find" in line)
        assert f"does not find message batch {batch_id}" in line
        assert f"The wait fails in about {words}, unless the API finds it" in line
        assert world.now - at == pytest.approx({"9 minutes": 540, "1 hour": 3600}[words], abs=60)


def test_a_batch_denied_for_ten_minutes_is_lost_for_its_waiter_alone():
    with World(batch_seconds=3600) as world:
        lost, found = world.create(2)
        world.simulator.inject(
            Fault(do="not_found_blip", on="retrieve", match=lost, times=None),
            Fault(do="status", status=403, on="list", times=None),
        )

        async def main() -> tuple[WaitResult, float, WaitResult]:
            watcher = world.watcher()
            other = asyncio.ensure_future(watcher.wait([found]))
            result = await watcher.wait([lost])
            return result, world.now, await other

        result, at, other = world.run(main)
        assert (result.status, result.error_type, result.lost) == ("error", "NotFoundError", (lost,))
        assert lost in result.error
        assert "claude_default" in result.error
        assert 600 <= at <= 700
        assert other.status == "ended"


def test_batches_denied_together_are_lost_together():
    with World(batch_seconds=3600) as world:
        first, second, found = world.create(3)
        world.simulator.inject(
            Fault(do="not_found_blip", on="retrieve", match=first, times=None),
            Fault(do="not_found_blip", on="retrieve", match=second, times=None),
            Fault(do="status", status=403, on="list", times=None),
        )

        async def main() -> WaitResult:
            return await world.watcher().wait([first, second, found])

        result = world.run(main)
        assert set(result.lost) == {first, second}
        assert first in result.error
        assert second in result.error


def test_a_refused_listing_leaves_single_calls():
    with World(batch_seconds=100) as world:
        batch_ids = world.create(20)
        world.simulator.inject(Fault(do="status", status=403, on="list", times=None))

        async def main() -> WaitResult:
            return await world.watcher().wait(batch_ids)

        assert world.run(main).status == "ended"
        assert world.simulator.calls()["list"] <= 4


def test_a_listing_that_was_refused_once_is_used_again():
    with World(batch_seconds=600) as world:
        batch_ids = world.create(300)
        world.simulator.inject(Fault(do="status", status=401, on="list"))

        async def main() -> list[WaitResult]:
            watcher = world.watcher()
            return await asyncio.gather(*(watcher.wait([b], poll_interval=30) for b in batch_ids))

        assert {result.status for result in world.run(main)} == {"ended"}
        assert world.now <= 640
        assert world.simulator.calls()["retrieve"] <= 2 * 64


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(do="malformed", on="list", times=None), id="no JSON"),
        pytest.param(Fault(do="status", status=503, on="list", times=None), id="503"),
        pytest.param(Fault(do="html", on="list", times=None), id="HTML"),
        pytest.param(Fault(do="slow", on="list", times=None, seconds=300), id="silence"),
    ],
)
def test_a_listing_that_always_fails_blinds_nobody(fault):
    with World(batch_seconds=120) as world:
        batch_ids = world.create(40)
        world.simulator.inject(fault)

        async def main() -> list[WaitResult]:
            watcher = world.watcher()
            return await asyncio.gather(*(watcher.wait([b], poll_interval=30) for b in batch_ids))

        assert {result.status for result in world.run(main)} == {"ended"}
        assert world.now <= 400


def test_a_rotated_key_is_read_from_the_connection_and_waiting_goes_on():
    keys = {"sk-test": "wrkspc_1"}
    with World(batch_seconds=300, keys=keys) as world:
        [batch_id] = world.create()
        world.key = "sk-old"

        async def main() -> WaitResult:
            world.loop.call_soon(setattr, world, "key", "sk-old")
            wait = asyncio.ensure_future(world.watcher().wait([batch_id], write_log=world.log_of("it")))
            await asyncio.sleep(0)
            world.key = "sk-test"
            return await wait

        result = world.run(main)
        assert result.status == "ended"
        assert len(world.lines["it"]) == 1


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("seconds", [5, 60, 570])
def test_a_credential_that_is_rejected_for_a_while_is_waited_out(status, seconds):
    with World(batch_seconds=60) as world:
        batch_ids = world.create(30)
        world.simulator.inject(Fault(do="status", status=status, times=None))
        world.loop.call_later(seconds, world.simulator.clear_faults)

        async def main() -> list[WaitResult]:
            watcher = world.watcher()
            return await asyncio.gather(*(watcher.wait([b], write_log=world.log_of("it")) for b in batch_ids))

        assert {result.status for result in world.run(main)} == {"ended"}
        assert world.now <= seconds + 130
        assert 2 <= world.connects <= 16
        assert world.closed == world.connects - 1
        warned = [line for line in world.lines["it"] if "cannot be used now" in line]
        assert len(warned) == len(batch_ids)


@pytest.mark.parametrize("status", [401, 403])
def test_a_rejected_credential_ends_every_wait_after_ten_minutes(status):
    with World(batch_seconds=3600) as world:
        batch_ids = world.create(3)
        world.simulator.inject(Fault(do="status", status=status, times=None))

        async def main() -> list[WaitResult]:
            watcher = world.watcher()
            return await asyncio.gather(*(watcher.wait([b]) for b in batch_ids))

        results = world.run(main)
        assert [result.status for result in results] == ["error"] * 3
        assert results[0].error_type == {401: "AuthenticationError", 403: "PermissionDeniedError"}[status]
        assert "Connection 'claude_default'" in results[0].error
        assert "sk-test" not in str(results)
        assert world.connects >= 5
        assert 600 <= world.now <= 670
        assert world.simulator.calls()["cancel"] == 0


def test_a_connection_that_cannot_be_read_for_a_while_is_waited_out():
    with World(batch_seconds=60) as world:
        batch_ids = world.create(30)

        async def connect() -> AsyncClaudeClient:
            if world.now < 500:
                raise RuntimeError("the secrets back end is gone: pass/word")
            return await world.connect()

        async def main() -> list[WaitResult]:
            watcher = Watcher("claude_default", connect, clock=world.clock.now)
            early = [watcher.wait([b], write_log=world.log_of(b)) for b in batch_ids[:20]]
            early_waits = asyncio.gather(*early)
            await asyncio.sleep(400)
            late = asyncio.gather(*(watcher.wait([b], write_log=world.log_of(b)) for b in batch_ids[20:]))
            return [*await early_waits, *await late]

        assert {result.status for result in world.run(main)} == {"ended"}
        assert world.now <= 560
        assert all("cannot be used now" in lines[0] for lines in world.lines.values())
        assert "pass/word" not in str(world.lines)


def test_a_connection_that_stays_unreadable_is_reported_after_ten_minutes():
    with World() as world:
        [batch_id] = world.create()

        async def main() -> WaitResult:
            return await Watcher("claude_default", unreadable).wait([batch_id])

        async def unreadable() -> None:
            world.connects += 1
            raise RuntimeError("not a port: 'pass/word'")

        result = world.run(main)
        assert (result.status, result.error_type) == ("error", "RuntimeError")
        assert "Connection 'claude_default' cannot be read: RuntimeError, see the triggerer's log." in result.error
        assert "pass/word" not in str(result)
        assert 600 <= world.now <= 670
        assert 10 <= world.connects <= 16


def test_a_corrected_host_is_used_during_an_outage():
    with World(batch_seconds=60) as world:
        [batch_id] = world.create()
        good, world.simulator = world.simulator, Simulator(clock=world.clock)
        world.simulator.outage("refuse")

        async def main() -> WaitResult:
            world.loop.call_later(100, setattr, world, "simulator", good)
            return await world.watcher().wait([batch_id])

        assert world.run(main).status == "ended"
        assert world.now <= 300 + 60 + 60
        assert world.connects == 2
    assert world.closed == 2


def test_a_connection_that_cannot_be_read_again_leaves_the_old_one_in_use():
    with World(batch_seconds=60) as world:
        [batch_id] = world.create()
        world.simulator.outage("status:503")
        world.loop.call_later(2000, world.simulator.end_outage)

        async def connect() -> AsyncClaudeClient:
            if world.connects:
                world.connects += 1
                raise RuntimeError("the secrets back end is gone")
            return await world.connect()

        async def main() -> WaitResult:
            return await Watcher("claude_default", connect, clock=world.clock.now).wait([batch_id])

        assert world.run(main).status == "ended"
        assert 5 <= world.connects <= 8


def test_an_unexpected_error_of_one_poll_is_survived_like_an_outage(caplog):
    failures = [KeyError("odd")]

    class Odd(AsyncClaudeClient):
        async def retrieve_batch(self, batch_id: str) -> MessageBatch:
            if failures:
                raise failures.pop()
            return await super().retrieve_batch(batch_id)

    with World(batch_seconds=60) as world:
        [batch_id] = world.create()

        async def connect() -> AsyncClaudeClient:
            return Odd(world.config(), transport=world.simulator.transport(), clock=world.loop.time)

        async def main() -> WaitResult:
            return await Watcher("claude_default", connect, clock=world.clock.now).wait([batch_id])

        assert world.run(main).status == "ended"
        assert "failed unexpectedly" in caplog.text


def test_a_waiter_that_leaves_during_a_poll_is_ignored():
    with World(batch_seconds=60) as world:
        first, second = world.create(2)
        world.simulator.inject(SLOW)

        async def main() -> WaitResult:
            watcher = world.watcher()
            leaving = asyncio.ensure_future(watcher.wait([first]))
            staying = asyncio.ensure_future(watcher.wait([second]))
            await asyncio.sleep(2)
            leaving.cancel()
            return await staying

        assert list(world.run(main).batches) == [second]


def test_a_wall_clock_that_is_set_moves_the_deadline():
    with World(batch_seconds=80_000) as world:
        [batch_id] = world.create()
        ahead = timedelta(0)

        def clock() -> datetime:
            return world.clock.now() + ahead

        async def main() -> WaitResult:
            nonlocal ahead
            until = clock() + timedelta(hours=10)
            wait = asyncio.ensure_future(world.watcher(clock=clock).wait([batch_id], until=until))
            await asyncio.sleep(1000)
            ahead = timedelta(hours=5)
            return await wait

        assert world.run(main).status == "due"
        assert world.now == pytest.approx(5 * 3600, abs=1)


def test_the_client_is_closed_soon_after_the_last_waiter_and_opened_for_the_next():
    with World() as world:
        first, second = world.create(2)

        async def main() -> None:
            watcher = world.watcher()
            await watcher.wait([first])
            await asyncio.sleep(20)
            await watcher.wait([second])
            assert (world.connects, world.closed) == (1, 0)
            await asyncio.sleep(31)
            assert world.closed == 1
            assert len(asyncio.all_tasks()) == 1
            await watcher.wait([first])
            assert world.connects == 2

        world.run(main)
    assert world.closed == 2


def test_an_invalid_batch_id_is_refused_before_any_call():
    with World() as world:

        async def main() -> None:
            with pytest.raises(InputError, match="is not the id"):
                await world.watcher().wait(["../models"])

        world.run(main)
        assert world.polls == 0


def test_a_refusal_other_than_404_never_makes_a_batch_lost():
    with World(batch_seconds=3600) as world:
        [batch_id] = world.create()
        world.simulator.inject(Fault(do="status", status=400, times=None))

        async def main() -> WaitResult:
            return await world.watcher().wait([batch_id])

        result = world.run(main)
        assert (result.status, result.error_type, result.lost) == ("error", "BadRequestError", ())


def test_each_waiter_is_logged_in_its_own_context():
    name = contextvars.ContextVar("name", default="nobody")
    with World(batch_seconds=30) as world:
        first, second = world.create(2)
        logged: list[tuple[str, str]] = []

        async def main() -> None:
            watcher = world.watcher()

            async def wait(who: str, batch_id: str) -> None:
                name.set(who)
                await watcher.wait([batch_id], write_log=lambda *_: logged.append((who, name.get())))

            await asyncio.gather(wait("first", first), wait("second", second))

        world.run(main)
        assert sorted(logged) == [("first", "first"), ("second", "second")]


def test_a_batch_canceled_elsewhere_is_logged_and_waited_for():
    with World(batch_seconds=3600, cancel_seconds=60) as world:
        [batch_id] = world.create()

        async def main() -> WaitResult:
            wait = asyncio.ensure_future(world.watcher().wait([batch_id], write_log=world.log_of("it")))
            await asyncio.sleep(100)
            world.sync_client().cancel_batch(batch_id)
            return await wait

        assert world.run(main).batches[batch_id].request_counts["canceled"] == 1
        canceling, ended = world.lines["it"]
        assert canceling == f"Message batch {batch_id} is canceling."
        assert re.fullmatch(rf"Message batch {batch_id} has ended after [1-9][\w ]+: 1 canceled\.", ended)


def test_polling_takes_at_most_a_tenth_of_the_rate_limit():
    with World(batch_seconds=3600, requests_per_minute=60) as world:
        batch_ids = world.create(40)
        world.simulator.inject(Fault(do="status", status=403, on="list", times=None))

        async def main() -> WaitResult:
            return await world.watcher().wait(batch_ids, poll_interval=10)

        assert world.run(main).status == "ended"
        assert world.polls <= 6 * 3600 / 60 + 100


def test_a_batch_beyond_the_pages_read_is_retrieved():
    with World(batch_seconds=100) as world:
        old = world.create()
        world.create(300)
        new = world.create()

        async def main() -> WaitResult:
            return await world.watcher().wait(old + new)

        assert world.run(main).status == "ended"
        assert world.simulator.calls()["list"] < 12


def test_a_watcher_that_fails_notifies_every_waiter():
    with World(batch_seconds=100) as world:
        [batch_id] = world.create()

        def broken() -> float:
            raise ZeroDivisionError

        async def main() -> list[WaitResult]:
            watcher = world.watcher(jitter=broken)
            return await asyncio.gather(watcher.wait([batch_id]), watcher.wait([batch_id]))

        assert {(result.status, result.error_type) for result in world.run(main)} == {("error", "ZeroDivisionError")}


def test_a_canceled_watcher_restarts_for_its_waiters():
    with World(batch_seconds=100) as world:
        [batch_id] = world.create()

        async def main() -> WaitResult:
            wait = asyncio.ensure_future(world.watcher().wait([batch_id]))
            await asyncio.sleep(15)
            [task] = [task for task in asyncio.all_tasks() if task.get_name().startswith("claude-batch-watcher")]
            task.cancel()
            return await wait

        assert world.run(main).status == "ended"
        assert world.connects == 2


def test_the_log_says_once_an_hour_that_batches_still_run():
    with World(batch_seconds=3.5 * 3600) as world:
        first, second = world.create(2)

        async def main() -> None:
            watcher = world.watcher()
            await asyncio.gather(
                watcher.wait([first], write_log=world.log_of("one")),
                watcher.wait([first, second], write_log=world.log_of("two")),
            )

        world.run(main)
    one = [line for line in world.lines["one"] if "still in progress" in line]
    two = [line for line in world.lines["two"] if "still in progress" in line]
    assert one == [f"Message batch {first} is still in progress, {n} after it was created." for n in HOURS]
    assert two == [f"2 message batches are still in progress, the oldest for {n}." for n in HOURS]


HOURS = ("1 hour", "2 hours", "3 hours")


def test_a_client_that_is_replaced_while_calls_run_is_closed_after_them_and_once():
    with World(batch_seconds=3600) as world:
        batch_ids = world.create(3)
        world.simulator.inject(SLOW)

        async def main() -> None:
            shared = SharedClient("claude_default", world.connect)

            async def call(batch_id: str) -> None:
                async with shared.use() as client:
                    assert (await client.retrieve_batch(batch_id)).id == batch_id

            calls = [asyncio.ensure_future(call(batch_id)) for batch_id in batch_ids]
            await asyncio.sleep(1)
            await asyncio.gather(shared.reconnect(), shared.reconnect(), shared.reconnect())
            assert (world.connects, world.closed) == (4, 2)
            await asyncio.gather(*calls)
            assert world.closed == 3
            await asyncio.gather(shared.close(), shared.close())
            assert world.closed == 4

        world.run(main)


@pytest.mark.parametrize("seconds", [0.5, 1.5])
def test_a_client_opened_while_everything_closes_is_not_left_open(seconds):
    with World(batch_seconds=3600) as world:
        [batch_id] = world.create()

        async def slow() -> AsyncClaudeClient:
            await asyncio.sleep(1)
            return await world.connect()

        async def main() -> None:
            shared = SharedClient("claude_default", slow)
            using = asyncio.ensure_future(use(shared))
            renewing = asyncio.ensure_future(shared.reconnect())
            await asyncio.sleep(seconds)
            await shared.close()
            await asyncio.gather(using, renewing)
            await shared.close()

        async def use(shared: SharedClient) -> None:
            async with shared.use() as client:
                await client.retrieve_batch(batch_id)

        world.run(main)
        assert world.connects == world.closed == 2


def test_a_batch_that_was_taken_for_ended_is_polled_alone_and_not_at_once():
    with World(batch_seconds=300) as world:
        batch_ids = world.create(30)

        async def main() -> tuple[WaitResult, float]:
            watcher = world.watcher()
            others = [asyncio.ensure_future(watcher.wait([b])) for b in batch_ids[1:]]
            await asyncio.sleep(0)
            result = await watcher.wait(batch_ids[:1], unconfirmed=batch_ids[:1])
            await asyncio.gather(*others)
            return result, world.now

        result, _ = world.run(main)
        assert result.status == "ended"
        assert world.simulator.calls()["retrieve"] >= 1
