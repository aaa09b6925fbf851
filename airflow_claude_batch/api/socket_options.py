"""Prepare each new connection: socket options that notice a lost peer, and limits of time for its reads."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_claude_batch.api.time_limit import limit_reads

# Seconds: notice a peer that vanished while a call waits for its response.
_KEEPALIVE: Final = {"SO_KEEPALIVE": 1, "TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15}


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """Trace function for httpx that prepares each new connection.

    A kernel sends what a process has written for up to a quarter of an hour, even after the process has died. So a
    create call could arrive long after everybody believes it lost. These options drop unconfirmed bytes after
    ``write_timeout`` seconds.
    """

    write_timeout: float

    def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        """Set the socket's options, and limit the reads of the connection. TLS makes a new stream of it."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            limit_reads(info["return_value"])
        self._set_options(event, info)

    async def on_loop(self, event: str, info: Mapping[str, Any]) -> None:
        """Set the socket's options, as an async trace function. On an event loop, calls are limited as a whole."""
        self._set_options(event, info)

    def _set_options(self, event: str, info: Mapping[str, Any]) -> None:
        if not event.endswith("connect_tcp.complete"):
            return
        opened = info["return_value"].get_extra_info("socket")
        for name, value in (_KEEPALIVE | {"TCP_USER_TIMEOUT": int(self.write_timeout * 1000)}).items():
            level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
            if hasattr(socket, name):  # macOS lacks some
                opened.setsockopt(level, getattr(socket, name), value)
