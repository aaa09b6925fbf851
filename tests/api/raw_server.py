"""A server that misbehaves as a test wants: partial responses, resets, silence, TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable


class RawServer:
    """Listens on loopback. ``serve`` gets each connection in a thread of its own. Then the connection is closed."""

    def __init__(self, serve: Callable[[Connection], None], *, context: ssl.SSLContext | None = None) -> None:
        self._serve = serve
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self.connections: list[Connection] = []
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> RawServer:
        self._start(self._accept)
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.connections:
            connection.over.set()
        for thread in self._threads:
            thread.join(10)

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                opened, _ = self._listener.accept()
            except OSError:
                return
            self._start(lambda opened=opened: self._handle(opened))

    def _handle(self, opened: socket.socket) -> None:
        connection = Connection(opened)
        self.connections.append(connection)
        with contextlib.suppress(OSError), opened:
            if self._context:
                connection.socket = self._context.wrap_socket(opened, server_side=True)
            with connection.socket:
                self._serve(connection)


class Connection:
    """One connection. ``over`` is set when the test ends."""

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.socket.settimeout(10)
        self.over = threading.Event()
        self.received = bytearray()

    def head(self) -> str:
        """Read up to the end of a request's headers."""
        while b"\r\n\r\n" not in self.received:
            self.received += self._more()
        end = self.received.index(b"\r\n\r\n")
        head = self.received[:end].decode()
        del self.received[: end + 4]
        return head

    def body(self, length: int) -> bytes:
        while len(self.received) < length:
            self.received += self._more()
        body = bytes(self.received[:length])
        del self.received[:length]
        return body

    def request(self) -> tuple[str, bytes]:
        """Read a whole request."""
        head = self.head()
        lengths = [line.split(":")[1] for line in head.lower().split("\r\n") if line.startswith("content-length:")]
        return head, self.body(int(lengths[0]) if lengths else 0)

    def respond(self, status: str, body: bytes = b"", *headers: str, length: int | None = None) -> None:
        lines = [f"HTTP/1.1 {status}", *headers, f"content-length: {len(body) if length is None else length}"]
        self.socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def reset(self) -> None:
        """Close it with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _more(self) -> bytes:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the client is gone")
        return data
