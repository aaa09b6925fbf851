"""Make the API calls of a poll round with the shared async client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from typing import TypeVar

from airflow_claude_batch.batch.observer import NullObserver, Observer
from airflow_claude_batch.batch.wait.poll_round import Call, ListPage, PollResult, Response, Retrieve
from airflow_claude_batch.batch.wait.shared_client import SharedClient
from airflow_claude_batch.batch.wait.watch_list import WatchList
from airflow_claude_batch.exceptions import APIConnectionError, APIError, ConfigurationError

log = logging.getLogger(__name__)

R = TypeVar("R")


class Poller:
    """Makes the calls of poll rounds. It never raises for a failed call: errors are part of the result.

    :param observer: counts failed calls.
    """

    def __init__(self, client: SharedClient, observer: Observer | None = None) -> None:
        self._client = client
        self._observer = observer or NullObserver()

    async def poll(self, watch_list: WatchList, *, now: float) -> PollResult:
        """Run one poll round of a watch list."""
        return await self.run(watch_list.begin_round(now))

    async def run(self, round_: Generator[list[Call], list[Response], R]) -> R:
        """Make the calls of a round, and return its result. The calls of each step run concurrently."""
        try:
            calls = next(round_)
            while True:
                calls = round_.send(await asyncio.gather(*map(self._call, calls)))
        except StopIteration as stop:
            result: R = stop.value
            return result

    async def _call(self, call: Call) -> Response:
        """Make one call. Return its error instead of raising it."""
        try:
            async with self._client.use() as client:
                match call:
                    case Retrieve(batch_id):
                        return await client.retrieve_batch(batch_id)
                    case ListPage(limit, after_id):
                        return await client.list_batches(limit=limit, after_id=after_id)
        except (APIError, ConfigurationError) as error:
            self._observer.poll_failed(error)
            return error
        except Exception as error:  # a single poll must not end the wait of all
            self._observer.poll_failed(error)
            log.exception("A poll failed unexpectedly: %r", call)
            return APIConnectionError(f"Unexpected {type(error).__name__}, see the triggerer's log.")
