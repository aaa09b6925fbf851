"""Processes that fire events of ended batches, and an Airflow that stores them, on virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

from waiting_world import World

from airflow_claude_batch.batch.events.announcer import Announcement, Announcer, payload_of
from airflow_claude_batch.batch.events.maker import is_own
from airflow_claude_batch.batch.events.record import EventRecord, decode, encode
from airflow_claude_batch.batch.events.shared_listing import LISTINGS, SharedListing

#: How long Airflow takes to store an event.
STORE_SECONDS = 2.0


@dataclass
class MemoryStore:
    """A record as the text that Airflow would keep. It fails while ``error`` is set, and answers after ``delay``."""

    text: str | None = None
    error: Exception | None = None
    delay: float = 0.0
    saves: int = 0

    async def load(self) -> EventRecord | None:
        await self._answer()
        return None if self.text is None else decode(self.text)

    async def save(self, record: EventRecord) -> None:
        await self._answer()
        self.saves += 1
        self.text = encode(record)

    async def _answer(self) -> None:
        await asyncio.sleep(self.delay)
        if self.error is not None:
            raise self.error


@dataclass(frozen=True)
class Event:
    """An event that Airflow has stored."""

    at: float
    batch_id: str
    may_be_repeated: bool


@dataclass
class EventsWorld:
    """A workspace, and one trigger that watches it. A process of the trigger runs until it is killed.

    :param handed_over: the batches that processes have handed over to Airflow.
    :param payloads: the events in which they did.
    :param events: what Airflow has stored of that, batch by batch.
    """

    world: World
    store: MemoryStore = field(default_factory=MemoryStore)
    handed_over: list[Announcement] = field(default_factory=list)
    payloads: list[dict[str, Any]] = field(default_factory=list)
    has_handed_over: asyncio.Event = field(default_factory=asyncio.Event)
    events: list[Event] = field(default_factory=list)
    interval: float = 60.0

    @property
    def fired(self) -> list[str]:
        return [event.batch_id for event in self.events]

    @contextlib.asynccontextmanager
    async def process(self, **options: Any) -> Any:
        """Run a process of the trigger during the block, and kill it at the end."""
        pending: set[asyncio.TimerHandle] = set()
        task = self.world.loop.create_task(self._fire(pending, options))
        try:
            yield task
        finally:
            is_over = task.done()
            for timer in pending:
                timer.cancel()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert not is_over

    async def run_for(self, seconds: float, **options: Any) -> None:
        async with self.process(**options):
            await asyncio.sleep(seconds)

    def listing(self) -> SharedListing:
        world = self.world
        return SharedListing(
            "claude_default", world.connect, interval=self.interval, clock=world.clock.now, jitter=lambda: 0.0
        )

    async def is_own(self, batch_id: str) -> bool:
        with self.world.sync_client() as client:
            return is_own(client, batch_id)

    async def _fire(self, pending: set[asyncio.TimerHandle], options: dict[str, Any]) -> None:
        async with LISTINGS.subscribe("claude_default", self.listing) as subscription:
            announcer = Announcer(subscription, self.store, monotonic=self.world.loop.time, **options)
            while True:
                if announcements := await announcer.next():
                    self.payloads.append(payload_of(announcements, "claude_default"))
                    self.handed_over += announcements
                    self.has_handed_over.set()
                for announcement in announcements:
                    event = Event(self.world.now, announcement.batch.id, announcement.may_be_repeated)
                    pending.add(self.world.loop.call_later(STORE_SECONDS, self.events.append, event))
                await announcer.confirm()
