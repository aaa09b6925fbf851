"""Find the running watcher of a connection, so that all tasks of a process share it."""

from __future__ import annotations

import asyncio
from typing import Final
from weakref import WeakKeyDictionary

from airflow_claude_batch.batch.observer import Observer
from airflow_claude_batch.batch.wait.shared_client import Connect
from airflow_claude_batch.batch.wait.watcher import Watcher


class WatcherRegistry:
    """The running watchers of this process, by event loop and connection.

    By event loop, because a client belongs to one loop, and ``dag.test()`` runs each trigger in a loop of its own.
    """

    def __init__(self) -> None:
        self._running: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Watcher]] = WeakKeyDictionary()

    def __len__(self) -> int:
        return sum(map(len, self._running.values()))

    def get(self, conn_id: str, connect: Connect, *, observer: Observer | None = None) -> Watcher:
        """Return the watcher of a connection on the running event loop.

        :param connect: reads the connection and builds a client. Used only if no watcher is running.
        :param observer: counts failed polls. Used only if no watcher is running.
        """
        running = self._running.get(asyncio.get_running_loop(), {}).get(conn_id)
        return running or Watcher(conn_id, connect, observer=observer, on_start=self._add, on_stop=self._remove)

    def _add(self, watcher: Watcher) -> None:
        self._running.setdefault(watcher.loop, {})[watcher.conn_id] = watcher

    def _remove(self, watcher: Watcher) -> None:
        watchers = self._running.get(watcher.loop, {})
        if watchers.get(watcher.conn_id) is watcher:
            del watchers[watcher.conn_id]
        if not watchers:
            self._running.pop(watcher.loop, None)


#: The registry of this process.
WATCHERS: Final = WatcherRegistry()
