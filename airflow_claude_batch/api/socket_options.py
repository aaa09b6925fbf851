"""Socket options that bound how long a lost connection goes unnoticed."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

# Seconds: notice a peer that vanished while a call waits for its response.
_KEEPALIVE: Final = {"SO_KEEPALIVE": 1, "TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15}


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """Trace function for httpx that sets the options of each new connection's socket.

    A kernel sends what a process has written for up to a quarter of an hour, even after the process has died. So a
    create call could arrive long after everybody believes it lost. These options drop unconfirmed bytes after
    ``write_timeout`` seconds.
    """

    write_timeout: float

    def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        if not event.endswith("connect_tcp.complete"):
            return
        opened = info["return_value"].get_extra_info("socket")
        for name, value in (_KEEPALIVE | {"TCP_USER_TIMEOUT": int(self.write_timeout * 1000)}).items():
            level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
            if hasattr(socket, name):  # macOS lacks some
                opened.setsockopt(level, getattr(socket, name), value)

    async def on_loop(self, event: str, info: Mapping[str, Any]) -> None:
        """Do the same as an async trace function."""
        self(event, info)
