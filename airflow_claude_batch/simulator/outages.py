"""Outages: times when no operation is answered as it should be."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

from airflow_claude_batch.simulator.errors import Refusal
from airflow_claude_batch.simulator.exchange import Answer, ConnectionRefused, Hanging
from airflow_claude_batch.simulator.ids import new_id

_STATUS = re.compile(r"status:([45]\d\d)")
HTML_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"


def html_page() -> Answer:
    """What a proxy says when the service behind it is gone: no JSON, no request id."""
    return Answer(status=502, headers={"content-type": "text/html"}, body=HTML_PAGE)


class Outage:
    """The outage of the moment, if there is one. Its length is real time.

    :param on_change: called after each change, from the thread that made it, and when the time is over.
    """

    def __init__(self) -> None:
        self._kind: str | None = None
        self._ends_at: float | None = None
        self._timer: threading.Timer | None = None
        self._watchers: list[Callable[[], None]] = []
        self._lock = threading.RLock()

    @property
    def kind(self) -> str | None:
        if self._ends_at is not None and time.monotonic() >= self._ends_at:
            return None
        return self._kind

    def watch(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called after each change, from whichever thread made it."""
        with self._lock:
            self._watchers.append(callback)

    def unwatch(self, callback: Callable[[], None]) -> None:
        with self._lock:
            self._watchers.remove(callback)

    def begin(self, kind: str, *, seconds: float | None) -> None:
        """Begin an outage in place of any other.

        :param kind: ``refuse`` (nobody listens), ``hang``, ``html`` or ``status:<code>``.
        :param seconds: how long; None: until `end`.
        """
        if kind not in ("refuse", "hang", "html") and _STATUS.fullmatch(kind) is None:
            raise ValueError(f"unknown outage {kind!r}; there are: refuse, hang, html, status:<4xx or 5xx>")
        with self._lock:
            self._stop_timer()
            self._kind = kind
            self._ends_at = None if seconds is None else time.monotonic() + seconds
            if seconds is not None:
                self._timer = threading.Timer(seconds, self.end)
                self._timer.daemon = True
                self._timer.start()
        self._tell()

    def end(self) -> None:
        with self._lock:
            self._stop_timer()
            self._kind = None
            self._ends_at = None
        self._tell()

    def answer(self) -> Answer | None:
        """What a call gets instead of its answer, None if all is well.

        :raises Misfortune: if it gets no answer at all.
        """
        kind = self.kind
        if kind is None:
            return None
        if kind == "refuse":
            raise ConnectionRefused
        if kind == "hang":
            raise Hanging
        if kind == "html":
            return html_page()
        status = int(kind.removeprefix("status:"))
        return Refusal(status, "The service is temporarily unavailable.").answer(new_id("req_011C"))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self) -> None:
        with self._lock:
            watchers = list(self._watchers)
        for watcher in watchers:
            watcher()
