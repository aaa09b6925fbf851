from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from events_world import EventsWorld, MemoryStore
from waiting_world import BODY, World

from airflow_claude_batch.batch.events import announcer
from airflow_claude_batch.batch.input.custom_id import content_hash, make_custom_id
from airflow_claude_batch.exceptions import SubmissionRecordError
from airflow_claude_batch.simulator import Fault

OWN_BODY = BODY.replace(b'"r0"', f'"{make_custom_id("0123456789ab", 0, content_hash(b"x"))}"'.encode())
HOUR, DAY = 3600.0, 86_400.0


def create(world: World, body: bytes = BODY) -> str:
    with world.sync_client() as client:
        return client.create_batch(body).id


def run(main: Callable[[EventsWorld], Awaitable[None]], **settings: object) -> EventsWorld:
    """Run a test's coroutine in a new world."""
    with World(**{"batch_seconds": 600.0, **settings}) as world:
        events = EventsWorld(world)

        async def bounded() -> None:
            async with asyncio.timeout(100 * DAY):
                await main(events)

        world.run(bounded)
        return events


def test_batch_that_ends_has_one_event_within_an_interval() -> None:
    async def main(events: EventsWorld) -> None:
        async with events.process():
            await asyncio.sleep(30)
            batch_id = create(events.world)
            await asyncio.sleep(HOUR)
        [event] = events.events
        assert event.batch_id == batch_id
        assert 630 <= event.at <= 630 + events.interval
        assert not event.may_be_repeated

    run(main)


def test_batches_that_ended_before_the_first_start_have_none_and_those_that_ran_have() -> None:
    async def main(events: EventsWorld) -> None:
        ended, running = create(events.world), create(events.world)
        events.world.simulator.end(ended)
        await events.run_for(HOUR)
        assert events.fired == [running]

    run(main)


def test_batches_since_a_time_have_events_even_if_they_ended_before_the_start() -> None:
    async def main(events: EventsWorld) -> None:
        create(events.world)
        await asyncio.sleep(HOUR)
        since = events.world.clock.now()
        later = create(events.world)
        await asyncio.sleep(3 * DAY)
        await events.run_for(HOUR, since=since)
        assert events.fired == [later]
        await events.run_for(HOUR, since=since)
        assert events.fired == [later]

    run(main)


def test_restarted_process_fires_what_ended_meanwhile_and_nothing_again() -> None:
    async def main(events: EventsWorld) -> None:
        world = events.world
        async with events.process():
            await asyncio.sleep(1)  # the baseline
            first, running = create(world), create(world)
            world.simulator.end(first)
            await asyncio.sleep(300)
        assert events.fired == [first]
        unseen = create(world)
        await asyncio.sleep(2 * DAY)
        newest = [create(world) for _ in range(60)]  # those before are pages away
        await events.run_for(HOUR)
        assert events.fired[:3] == [first, running, unseen]
        assert sorted(events.fired[3:]) == sorted(newest)
        await events.run_for(HOUR)
        assert len(events.fired) == 63
        assert not any(event.may_be_repeated for event in events.events)

    run(main)


@pytest.mark.parametrize(("seconds_after_event", "count"), [(0, 2), (1, 2), (5, 2), (9, 2), (11, 1), (60, 1)])
def test_death_within_seconds_of_an_event_repeats_it_and_the_repetition_says_so(
    seconds_after_event: float, count: int
) -> None:
    async def main(events: EventsWorld) -> None:
        async with events.process():
            await asyncio.sleep(1)
            events.world.simulator.end(create(events.world))
            await events.has_handed_over.wait()
            await asyncio.sleep(seconds_after_event)
        await events.run_for(HOUR)
        stored = [event.may_be_repeated for event in events.events]
        assert stored[-1] is (count == 2)
        assert len(stored) == (1 if seconds_after_event < 2 else count)

    run(main)


@pytest.mark.parametrize("seed", range(3))
def test_deaths_at_any_moment_lose_nothing(seed: int) -> None:
    rng = random.Random(seed)

    async def main(events: EventsWorld) -> None:
        await events.run_for(1)
        created = []
        for _ in range(15):
            async with events.process():
                for _ in range(3):
                    created += [create(events.world) for _ in range(rng.randrange(3))]
                    await asyncio.sleep(rng.uniform(0, 200))
            await asyncio.sleep(rng.uniform(0, 900))
        await events.run_for(HOUR)
        counts = Counter(events.fired)
        assert set(counts) == set(created)
        unflagged = Counter(event.batch_id for event in events.events if not event.may_be_repeated)
        assert max(unflagged.values()) == 1
        assert sum(counts.values()) - len(counts) < 10

    run(main, batch_seconds=lambda batch: rng.uniform(0, 1500))


def test_record_stays_small_over_weeks_of_batches() -> None:
    async def main(events: EventsWorld) -> None:
        events.interval = 1200
        async with events.process():
            await asyncio.sleep(1)
            for _ in range(30):
                create(events.world)
                await asyncio.sleep(6 * HOUR)
        assert len(events.events) == 30
        assert len(events.store.text or "") < 500

    run(main, batch_seconds=HOUR / 2)


def test_one_call_an_interval_for_all_watchers_of_a_connection() -> None:
    async def main(events: EventsWorld) -> None:
        others = [EventsWorld(events.world) for _ in range(9)]
        create(events.world)
        async with asyncio.TaskGroup() as tasks:
            for each in [events, *others]:
                tasks.create_task(each.run_for(HOUR))
        assert all(each.fired == events.fired for each in others)
        assert len(events.fired) == 1
        assert events.world.simulator.calls()["list"] <= 61
        assert events.world.polls <= 61 + 1
        assert events.world.connects == 1
        assert events.world.closed == 1

    run(main)


def test_own_batches_are_left_out_and_looked_at_once() -> None:
    async def main(events: EventsWorld) -> None:
        async with events.process(is_own=events.is_own):
            await asyncio.sleep(1)
            create(events.world, OWN_BODY)
            foreign = create(events.world)
            await asyncio.sleep(HOUR)
        await events.run_for(HOUR, is_own=events.is_own)
        assert events.fired == [foreign]
        assert events.world.simulator.calls()["results"] == 2

    run(main)


@pytest.mark.parametrize("minutes", [5, 60])
def test_unreadable_results_delay_an_event_for_ten_minutes_at_most(minutes: int) -> None:
    async def main(events: EventsWorld) -> None:
        simulator = events.world.simulator
        async with events.process(is_own=events.is_own):
            await asyncio.sleep(1)
            own, foreign = create(events.world, OWN_BODY), create(events.world)
            for batch_id in (own, foreign):
                simulator.end(batch_id)
            simulator.inject(Fault(do="status", on="results", status=500, times=None))
            await asyncio.sleep(minutes * 60)
            assert sorted(events.fired) == ([] if minutes == 5 else sorted([own, foreign]))
            simulator.clear_faults()
            await asyncio.sleep(HOUR)
        assert (own in events.fired) is (minutes == 60)
        assert foreign in events.fired

    run(main)


def test_outage_delays_events_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main(events: EventsWorld) -> None:
        simulator = events.world.simulator
        async with events.process():
            await asyncio.sleep(1)
            batch_id = create(events.world)
            simulator.inject(Fault(do="status", on="list", status=529, times=None))
            await asyncio.sleep(50 * 60)
            calls = simulator.calls()["list"]
            assert calls < 60
            simulator.clear_faults()
            await asyncio.sleep(120)
            assert events.fired == [batch_id]

    caplog.set_level("INFO")
    run(main)
    logged = [record.getMessage() for record in caplog.records if "listed" in record.getMessage()]
    assert len(logged) == 2
    assert "late until that works again, not lost" in logged[0]
    assert "can be listed again, after" in logged[1]


def test_rotated_key_is_read_again_and_a_refused_one_never_ends_the_watch() -> None:
    async def main(events: EventsWorld) -> None:
        world = events.world
        async with events.process():
            await asyncio.sleep(1)
            batch_id = create(world)
            world.simulator.inject(Fault(do="status", on="list", status=401, times=None))
            await asyncio.sleep(HOUR)
            assert world.connects > 10
            assert world.simulator.calls()["list"] < 80
            world.simulator.clear_faults()
            await asyncio.sleep(120)
        assert events.fired == [batch_id]
        assert world.connects - world.closed == 0

    run(main)


def test_deleted_batch_has_no_event_and_is_looked_for_no_longer(caplog: pytest.LogCaptureFixture) -> None:
    async def main(events: EventsWorld) -> None:
        world = events.world
        async with events.process():
            await asyncio.sleep(1)
            batch_id = create(world)
            await asyncio.sleep(100)
            world.simulator.end(batch_id)
            with world.sync_client() as client:
                client.delete_batch(batch_id)
            await asyncio.sleep(HOUR)
            calls = world.simulator.calls()["retrieve"]
            await asyncio.sleep(HOUR)
            assert world.simulator.calls()["retrieve"] == calls
        assert events.fired == []
        assert f"Message batch {batch_id} of connection 'claude_default' ended without an event" in caplog.text

    run(main)


def test_listing_that_lags_or_has_many_pages_hides_nothing() -> None:
    async def main(events: EventsWorld) -> None:
        world = events.world
        async with events.process():
            await asyncio.sleep(1)
            old = [create(world) for _ in range(30)]
            await asyncio.sleep(HOUR)
            world.simulator.inject(Fault(do="listing_lag", on="create", seconds=600))
            late = create(world)
            many = [create(world) for _ in range(120)]
            await asyncio.sleep(900)
            for batch_id in (late, *many, *old):
                world.simulator.end(batch_id)
            await asyncio.sleep(600)
        assert Counter(events.fired) == Counter([late, *many, *old])

    run(main, batch_seconds=DAY)


def test_record_that_cannot_be_written_holds_events_back() -> None:
    async def main(events: EventsWorld) -> None:
        async with events.process():
            await asyncio.sleep(1)
            batch_id = create(events.world)
            events.store.error = ConnectionError("the supervisor does not answer")
            await asyncio.sleep(HOUR)
            assert events.handed_over == []
            events.store.error = None
            await asyncio.sleep(120)
        assert events.fired == [batch_id]

    run(main)


def test_damaged_record_holds_events_back_and_says_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    async def main(events: EventsWorld) -> None:
        events.store.text = "{}..."
        create(events.world)
        async with events.process():
            await asyncio.sleep(HOUR)
            assert events.store.text == "{}..."
        assert events.fired == []

    run(main)
    assert "The record of fired events cannot be read" in caplog.text
    assert "pause the DAGs that watch, delete it, and unpause them" in caplog.text


def test_stuck_triggerer_has_more_time_to_store_events() -> None:
    async def main(events: EventsWorld) -> None:
        async with events.process():
            await asyncio.sleep(1)
            events.world.simulator.end(create(events.world))
            await events.has_handed_over.wait()
            events.store.delay = 30
            saves = events.store.saves
            await asyncio.sleep(300)
            assert events.store.saves == saves
            events.store.delay = 0
            await asyncio.sleep(60)
            assert events.store.saves == saves + 1

    run(main)


def test_process_that_stood_still_fires_nothing_that_its_successor_has_fired() -> None:
    async def main(events: EventsWorld) -> None:
        """The first process sees nothing for a while. Its record is the second's too."""
        world = events.world
        async with events.process():
            await asyncio.sleep(1)
            batch_id = create(world)
            await asyncio.sleep(120)
            successor = EventsWorld(world, store=events.store)
            # Both notice the end at the same reading; the second one waits for the first to write.
            async with successor.process():
                await asyncio.sleep(HOUR)
        repeated = [event for event in (*events.events, *successor.events) if not event.may_be_repeated]
        assert {event.batch_id for event in repeated} == {batch_id}

    run(main)


def test_payload_has_ids_counts_and_times_alone() -> None:
    async def main(events: EventsWorld) -> None:
        async with events.process():
            await asyncio.sleep(1)
            batch_id = create(events.world)
            await asyncio.sleep(HOUR)
        [payload] = events.payloads
        [batch] = payload.pop("batches")
        assert payload == {"version": 1, "claude_conn_id": "claude_default"}
        assert batch == {
            "batch_id": batch_id,
            "request_counts": {"processing": 0, "succeeded": 1, "errored": 0, "canceled": 0, "expired": 0},
            "created_at": "2026-11-22T00:00:01+00:00",
            "ended_at": "2026-11-22T00:10:01+00:00",
            "cancel_initiated_at": None,
            "may_be_repeated": False,
        }

    run(main)


def test_batches_that_end_at_the_same_time_share_an_event() -> None:
    """Airflow may give only the first of several events to a run."""

    async def main(events: EventsWorld) -> None:
        async with events.process():
            await asyncio.sleep(1)
            batch_ids = {create(events.world) for _ in range(3)}
            await asyncio.sleep(HOUR)
        [payload] = events.payloads
        assert {batch["batch_id"] for batch in payload["batches"]} == batch_ids

    run(main)


def test_record_of_the_first_version_is_read() -> None:
    """A copy of what was stored. Later versions may add fields."""
    text = (
        '{"watermark":"2026-11-21T23:00:00Z","open":{"msgbatch_running":"2026-11-21T23:00:00Z"},'
        '"done":{"msgbatch_done":"2026-11-21T22:55:00Z"},"firing":["msgbatch_running"],"of_the_future":1}'
    )

    async def main(events: EventsWorld) -> None:
        events.store.text = text
        record = await events.store.load()
        assert record is not None
        assert record.watermark == datetime(2026, 11, 21, 23, tzinfo=UTC)
        assert record.firing == ("msgbatch_running",)

    run(main)


def test_text_that_is_no_record_is_refused() -> None:
    with pytest.raises(SubmissionRecordError):
        asyncio.run(MemoryStore("[]").load())


def test_airflow_has_longer_to_store_an_event_than_its_two_loops_take() -> None:
    assert announcer.SETTLE_SECONDS >= 5 * 2
