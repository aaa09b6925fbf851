"""Run DAGs when message batches end that were made elsewhere: by another service, or in the Claude Console."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_claude_batch._airflow.compat import BaseEventTrigger, TriggerEvent
from airflow_claude_batch.exceptions import ConfigurationError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import AsyncClaudeClient
    from airflow_claude_batch.batch.events.shared_listing import SharedListing


#: The pause after an error that nobody expected, such as a setting that cannot be read.
BEGIN_AGAIN_SECONDS: Final = 60.0


class MessageBatchEndedTrigger(BaseEventTrigger):
    """Fire an event when message batches of a workspace end. For an ``AssetWatcher``.

    Each batch is in one event, however often triggerers are restarted. One that ends while none runs has it later.
    Only a triggerer that dies within about ten seconds after an event may leave it to be fired again. Its batches say
    ``may_be_repeated`` then.

    Batches that this package has sent are left out: their DAG has its operator or sensor to wait for them. Of a batch
    that runs, nobody can tell. When it has ended, the first line of its results is read, for its custom_id.

    All watchers of a connection share one API call an interval, ``[claude_batch] poll_interval``.

    :param claude_conn_id: the connection. Its key decides which workspace is watched.
    :param include_own: fire for batches of this package too. A DAG that such an event runs must not send batches, or
        it runs for ever, and is billed.
    :param since: only batches created at or after this time, also those that have ended: ISO 8601 with an offset, or a
        datetime with a time zone. Default: batches that end after the watcher began.
    :raises ConfigurationError: ``since`` is no such time.

    The event's payload is JSON: ``claude_conn_id``, and ``batches`` with ``batch_id``, ``request_counts``,
    ``created_at``, ``ended_at``, ``cancel_initiated_at`` and ``may_be_repeated`` of each. Several events may run a DAG
    once, so it reads all of them.

    Example::

        ended = Asset("batches", watchers=[AssetWatcher(name="ended", trigger=MessageBatchEndedTrigger())])

        @task
        def batch_ids(triggering_asset_events):
            events = [event for events in triggering_asset_events.values() for event in events]
            return sorted({batch["batch_id"] for event in events for batch in event.extra["payload"]["batches"]})

        with DAG("land", schedule=[ended]):
            MessageBatchSensor(task_id="wait", batch=batch_ids(), deferrable=True)
    """

    def __init__(
        self,
        claude_conn_id: str = "claude_default",
        *,
        include_own: bool = False,
        since: str | datetime | None = None,
        **_ignored: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's
        self.claude_conn_id = claude_conn_id
        self.include_own = include_own
        self.since = None if since is None else _parse_since(since)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the keyword arguments, by which Airflow tells watchers apart."""
        return (
            "airflow_claude_batch.events.MessageBatchEndedTrigger",
            {"claude_conn_id": self.claude_conn_id, **self._options()},
        )

    def _options(self) -> dict[str, Any]:
        """Return the arguments that are not the default. Later versions may add some, and then old triggers go on."""
        options = {"include_own": self.include_own, "since": self.since and self.since.isoformat()}
        return {name: value for name, value in options.items() if value}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event whenever batches have ended. It runs until Airflow cancels it, whatever fails."""
        while True:
            try:
                async with aclosing(self._payloads()) as payloads:
                    async for payload in payloads:
                        yield TriggerEvent(payload)  # type: ignore[no-untyped-call]  # Airflow's
            except Exception:  # Airflow would start it again at once, without end
                self.log.exception(
                    "Watching connection %r failed unexpectedly. It begins again in %.0f s where it left off.",
                    self.claude_conn_id,
                    BEGIN_AGAIN_SECONDS,
                )
            await asyncio.sleep(BEGIN_AGAIN_SECONDS)

    async def _payloads(self) -> AsyncGenerator[dict[str, Any], None]:
        from airflow_claude_batch._airflow.event_record import VariableRecordStore, variable_key
        from airflow_claude_batch.batch.events.announcer import Announcer, payload_of
        from airflow_claude_batch.batch.events.shared_listing import LISTINGS

        store = VariableRecordStore(variable_key(self.claude_conn_id, self._options()))
        async with LISTINGS.subscribe(self.claude_conn_id, self._listing) as subscription:
            announcer = Announcer(
                subscription, store, since=self.since, is_own=None if self.include_own else self._is_own
            )
            while True:
                if announcements := await announcer.next():
                    yield payload_of(announcements, self.claude_conn_id)
                await announcer.confirm()

    def _listing(self) -> SharedListing:
        from airflow_claude_batch._airflow.metrics import StatsObserver
        from airflow_claude_batch._airflow.settings import poll_interval
        from airflow_claude_batch.batch.events.shared_listing import SharedListing

        return SharedListing(self.claude_conn_id, self._connect, interval=poll_interval(), observer=StatsObserver())

    async def _connect(self) -> AsyncClaudeClient:
        from airflow_claude_batch.api.client import AsyncClaudeClient
        from airflow_claude_batch.hooks import ClaudeHook

        config = await ClaudeHook(self.claude_conn_id).get_async_config()
        return AsyncClaudeClient(replace(config, max_retries=0))

    async def _is_own(self, batch_id: str) -> bool:
        """Tell whether this package has sent an ended batch."""
        from airflow_claude_batch.api.client import ClaudeClient
        from airflow_claude_batch.batch.events.maker import is_own
        from airflow_claude_batch.hooks import ClaudeHook

        config = await ClaudeHook(self.claude_conn_id).get_async_config()

        def read() -> bool:
            with ClaudeClient(replace(config, max_retries=0)) as client:
                return is_own(client, batch_id)

        return await asyncio.to_thread(read)


def _parse_since(since: str | datetime) -> datetime:
    try:
        time = datetime.fromisoformat(since) if isinstance(since, str) else since
    except ValueError:
        time = None
    if not isinstance(time, datetime) or time.tzinfo is None:
        raise ConfigurationError(
            f"since={str(since)!r:.60} is not a time with an offset.",
            "Nothing is watched, and nothing was sent.",
            "Give ISO 8601, such as '2026-11-30T00:00:00+00:00', or a datetime with a time zone.",
        )
    return time.astimezone(UTC)
