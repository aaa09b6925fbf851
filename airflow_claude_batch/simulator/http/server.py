"""Real sockets: a small HTTP/1.1 server in a thread of its own.

It can do what the servers of web frameworks cannot: end a connection without a response, end a body halfway,
and stop listening for a while.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ipaddress
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from airflow_claude_batch.simulator.http.address import (
    host_name,
    is_loopback,
    open_listener,
    own_address,
    own_names,
    url_host,
)
from airflow_claude_batch.simulator.http.connection import Connection
from airflow_claude_batch.simulator.http.exchange import Handler
from airflow_claude_batch.simulator.http.outages import Outage

_OUTAGE_CHANGE_SECONDS = 5.0  # how long a change of the outage waits until the server has applied it

logger = logging.getLogger(__name__)


class Server:
    """Serves on a socket from ``start`` to ``stop``, or during a ``with`` block.

    ::

        with simulator.serve() as server:
            requests.get(f"{server.url}/v1/models", headers={"x-api-key": "sk-test", "anthropic-version": "2023-06-01"})
    """

    def __init__(
        self,
        handle: Handler,
        *,
        body_limit: Callable[[str], int],
        outage: Outage,
        host: str = "127.0.0.1",
        port: int = 0,
        names: Sequence[str] = (),
        tls_folder: Path | None = None,
    ) -> None:
        self._handle = handle
        self._body_limit = body_limit
        self._outage = outage
        self._host = host.removeprefix("[").removesuffix("]")
        self._port = port
        self._names = tuple(host_name(name) for name in names)
        self._tls_folder = None if tls_folder is None else tls_folder.absolute()
        self._tls: ssl.SSLContext | None = None
        self._everywhere = False
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="claude-simulator", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: socket.socket | None = None
        self._stopping = asyncio.Event()
        self._connections: set[Connection] = set()

    @property
    def host(self) -> str:
        """The name or address by which clients reach it: the first of its names, else the address it listens on."""
        if self._names:
            return self._names[0]
        return own_address(self._host) if self._everywhere else self._host

    @property
    def url(self) -> str:
        """The base URL, such as ``http://127.0.0.1:8700``."""
        scheme = "http" if self._tls_folder is None else "https"
        return f"{scheme}://{url_host(self.host)}:{self._port}"

    @property
    def ca_file(self) -> Path | None:
        """The certificate that clients have to trust. None: plain http."""
        return None if self._tls_folder is None else self._tls_folder / "ca.pem"

    @property
    def listens_everywhere(self) -> bool:
        """Whether it listens on all addresses of this machine."""
        return self._everywhere

    def connection(self, key: str = "sk-simulator") -> dict[str, Any]:
        """Return an Airflow connection to this server, as ``AIRFLOW_CONN_CLAUDE_DEFAULT`` holds it in JSON."""
        connection: dict[str, Any] = {"conn_type": "claude", "password": key, "host": self.url}
        if self.ca_file is not None:
            connection["extra"] = {"ca_file": str(self.ca_file)}
        elif not is_loopback(self.host):
            connection["extra"] = {"allow_http": True}
        return connection

    def start(self) -> Server:
        """Start to listen.

        :raises OSError: when it cannot listen on the address, or cannot keep its certificate in the folder.
        """
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        """Stop listening and end all connections."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._listen()
        try:
            self._tls = self._load_tls()
            self._outage.add_listener(self._outage_changed)
            self._ready.set()
            await self._stopping.wait()
            self._outage.remove_listener(self._outage_changed)
        finally:
            self._close_listener()
            await self._end(list(self._connections))

    def _listen(self) -> None:
        listener = open_listener(self._host, self._port)
        address, self._port, *_ = listener.getsockname()
        self._everywhere = ipaddress.ip_address(address.partition("%")[0]).is_unspecified
        # asyncio's own servers lose connections that arrive while they are closed (Python 3.11).
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)
        self._listener = listener

    def _load_tls(self) -> ssl.SSLContext | None:
        if self._tls_folder is None:
            return None
        # Imported here because only servers with TLS need it.
        from airflow_claude_batch.simulator.http.certificates import server_context

        return server_context(self._tls_folder, [*self._names, self.host, *own_names()])

    def _close_listener(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # BlockingIOError: no more clients are waiting
            while True:
                sock, _ = listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = Connection(
                    sock, handle=self._handle, body_limit=self._body_limit, outage=self._outage, tls=self._tls
                )
                self._connections.add(connection)
                connection.task.add_done_callback(partial(self._ended, connection))

    def _ended(self, connection: Connection, _: asyncio.Task[None]) -> None:
        self._connections.discard(connection)

    @staticmethod
    async def _end(connections: list[Connection]) -> None:
        for connection in connections:
            connection.task.cancel()
        await asyncio.gather(*(connection.task for connection in connections), return_exceptions=True)

    def _outage_changed(self) -> None:
        """Apply a changed outage, and return when it is in force.

        Called by the thread that changed it, which is never the server's own.
        """
        if self._loop is not None and not self._loop.is_closed():
            applying = asyncio.run_coroutine_threadsafe(self._apply_outage(), self._loop)
            concurrent.futures.wait([applying], timeout=_OUTAGE_CHANGE_SECONDS)

    async def _apply_outage(self) -> None:
        refusing = self._outage.kind == "refuse"
        if refusing and self._listener is not None:
            self._close_listener()
            await self._end([connection for connection in self._connections if connection.idle])
        elif not refusing and self._listener is None and not self._stopping.is_set():
            try:
                self._listen()
            except OSError:
                logger.exception("The simulator cannot listen on port %s again after the outage.", self._port)
