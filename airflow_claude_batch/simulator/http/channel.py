"""The bytes of one connection: plain, or encrypted by TLS.

A connection can be dropped or reset at any time, in the middle of a response too. asyncio's streams do not allow that
with TLS, so it is done here on the raw socket.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

_T = TypeVar("_T")

_READ_BYTES = 1 << 18
_RESET = struct.pack("ii", 1, 0)
_NEEDS_TLS = b"This port speaks https. Use a URL that begins with https://\n"
_PLAIN_REPLY = (
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_NEEDS_TLS), _NEEDS_TLS)
)


class PlainChannel:
    """Reads from a socket and writes to it, as it is."""

    scheme = "http"

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def open(self) -> bool:
        """Prepare the connection. Returns whether it can be used."""
        return True

    async def read(self) -> bytes:
        """Return the next bytes, or b"" when the other side has closed the connection."""
        return await asyncio.get_running_loop().sock_recv(self._sock, _READ_BYTES)

    async def write(self, data: bytes) -> None:
        """Send all bytes."""
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def end(self) -> None:
        """Tell the other side that nothing more follows. The socket is closed by its owner."""

    def reset(self) -> None:
        """Let the close that follows be a TCP reset."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


class TLSChannel(PlainChannel):
    """Reads from a socket and writes to it, encrypted."""

    scheme = "https"

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_side=True)

    async def open(self) -> bool:
        """Perform the handshake. Returns false if the client does not trust the certificate, or speaks no TLS."""
        try:
            await self._perform(self._tls.do_handshake)
        except ssl.SSLError as error:
            if error.reason == "HTTP_REQUEST":
                await super().write(_PLAIN_REPLY)
            return False
        return True

    async def read(self) -> bytes:
        try:
            return await self._perform(partial(self._tls.read, _READ_BYTES))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[await self._perform(partial(self._tls.write, left)) :]

    async def end(self) -> None:
        with suppress(ssl.SSLError):  # SSLWantReadError: the client's own end, for which nobody waits
            self._tls.unwrap()
        await self._flush()

    async def _perform(self, step: Callable[[], _T]) -> _T:
        """Perform a step of TLS, and exchange what it needs with the other side."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush()
                self._receive(await super().read())
            except ssl.SSLError:
                await self._flush()  # the alert that says why
                raise
            else:
                await self._flush()
                return result

    def _receive(self, data: bytes) -> None:
        if data:
            self._received.write(data)
        else:
            self._received.write_eof()

    async def _flush(self) -> None:
        if self._to_send.pending:
            await super().write(self._to_send.read())
