"""Outages: periods in which every call fails."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

from airflow_claude_batch.simulator.http.errors import APIError
from airflow_claude_batch.simulator.http.exchange import ConnectionRefused, ConnectionStalled, Response
from airflow_claude_batch.simulator.ids import Ids

_STATUS = re.compile(r"status:([45]\d\d)")
HTML_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"


def html_error_response() -> Response:
    """Build a proxy's response when the service behind it is gone: no JSON, no request id."""
    return Response(status=502, headers={"content-type": "text/html"}, body=HTML_PAGE)


class Outage:
    """The current outage, if there is one. Its duration is real time."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._kind: str | None = None
        self._ends_at: float | None = None
        self._timer: threading.Timer | None = None
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.RLock()

    @property
    def kind(self) -> str | None:
        if self._ends_at is not None and time.monotonic() >= self._ends_at:
            return None
        return self._kind

    def add_listener(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after each change, from the thread that made the change."""
        with self._lock:
            self._listeners.append(callback)

    def remove_listener(self, callback: Callable[[], None]) -> None:
        with self._lock:
            self._listeners.remove(callback)

    def begin(self, kind: str, *, seconds: float | None) -> None:
        """Begin an outage in place of any earlier one.

        :param kind: ``refuse`` (nothing listens), ``hang``, ``html`` or ``status:<code>``.
        :param seconds: duration. None: until `end`.
        :raises ValueError: when the kind is unknown.
        """
        if kind not in ("refuse", "hang", "html") and _STATUS.fullmatch(kind) is None:
            raise ValueError(f"There is no outage {kind!r}.\nChoose refuse, hang, html or status:<400 to 599>.")
        with self._lock:
            self._stop_timer()
            self._kind = kind
            self._ends_at = None if seconds is None else time.monotonic() + seconds
            if seconds is not None:
                self._timer = threading.Timer(seconds, self.end)
                self._timer.daemon = True
                self._timer.start()
        self._notify()

    def end(self) -> None:
        with self._lock:
            self._stop_timer()
            self._kind = None
            self._ends_at = None
        self._notify()

    def response(self) -> Response | None:
        """Return the outage's response to any call. None: there is no outage.

        :raises TransportFailure: when calls get no response at all.
        """
        kind = self.kind
        if kind is None:
            return None
        if kind == "refuse":
            raise ConnectionRefused
        if kind == "hang":
            raise ConnectionStalled
        if kind == "html":
            return html_error_response()
        status = int(kind.removeprefix("status:"))
        return APIError(status, "The service is temporarily unavailable.").response(self._ids.new("req_011C"))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _notify(self) -> None:
        with self._lock:
            watchers = list(self._listeners)
        for watcher in watchers:
            watcher()
