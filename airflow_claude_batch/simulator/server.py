"""The door of real sockets: a small HTTP/1.1 server in a thread of its own.

h11 speaks the protocol; asyncio holds the connections. It can do what a web framework's server hides: end a
connection without an answer, end a body halfway, stop listening for a while.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import TracebackType
from urllib.parse import parse_qsl, unquote

import h11

from airflow_claude_batch.simulator.bodies import BodyTooLarge, Spool
from airflow_claude_batch.simulator.exchange import (
    Answer,
    Body,
    ConnectionDropped,
    ConnectionRefused,
    Hanging,
    Request,
)
from airflow_claude_batch.simulator.outages import Outage

_READ_BYTES = 1 << 18
_BACKLOG = 4096  # thousands of clients may connect at once
_LINGER_SECONDS = 5.0  # how long an upload that was refused is still read, so that its sender sees the answer
_FOLLOW_SECONDS = 5.0
_HANG_STEP_SECONDS = 0.05
_RESET = struct.pack("ii", 1, 0)

logger = logging.getLogger(__name__)

Handle = Callable[[Request], Answer]


class Server:
    """Serves on a socket from ``start`` to ``stop``, or for the length of a ``with`` block.

    :raises OSError: from ``start``, if the address cannot be listened on.
    """

    def __init__(
        self,
        handle: Handle,
        *,
        body_limit: Callable[[str], int],
        outage: Outage,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._handle = handle
        self._body_limit = body_limit
        self._outage = outage
        self._host = host
        self._port = port
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="claude-simulator", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: socket.socket | None = None
        self._stopping = asyncio.Event()
        self._connections: set[_Connection] = set()

    @property
    def url(self) -> str:
        """The base URL, such as ``http://127.0.0.1:8700``."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def start(self) -> Server:
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
        self._outage.watch(self._outage_changed)
        self._ready.set()
        try:
            await self._stopping.wait()
        finally:
            self._outage.unwatch(self._outage_changed)
            self._close_listener()
            await self._end(list(self._connections))

    def _listen(self) -> None:
        listener = _listening(self._host, self._port)
        self._port = listener.getsockname()[1]
        # asyncio's own servers lose connections that arrive while they are closed (Python 3.11).
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)
        self._listener = listener

    def _close_listener(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # BlockingIOError: nobody is left to accept
            while True:
                sock, _ = listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = _Connection(sock, handle=self._handle, body_limit=self._body_limit, outage=self._outage)
                self._connections.add(connection)
                connection.task.add_done_callback(partial(self._ended, connection))

    def _ended(self, connection: _Connection, _: asyncio.Task[None]) -> None:
        self._connections.discard(connection)

    @staticmethod
    async def _end(connections: list[_Connection]) -> None:
        for connection in connections:
            connection.task.cancel()
        await asyncio.gather(*(connection.task for connection in connections), return_exceptions=True)

    def _outage_changed(self) -> None:
        """Called from whichever thread changed the outage, never the server's own; back when it is in force."""
        if self._loop is not None and not self._loop.is_closed():
            following = asyncio.run_coroutine_threadsafe(self._follow_outage(), self._loop)
            concurrent.futures.wait([following], timeout=_FOLLOW_SECONDS)

    async def _follow_outage(self) -> None:
        refusing = self._outage.kind == "refuse"
        if refusing and self._listener is not None:
            self._close_listener()
            await self._end([connection for connection in self._connections if connection.idle])
        elif not refusing and self._listener is None and not self._stopping.is_set():
            try:
                self._listen()
            except OSError:
                logger.exception("The simulator cannot listen on port %s again after the outage", self._port)


class _Connection:
    """One client's connection, for as many exchanges as it lasts."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        handle: Handle,
        body_limit: Callable[[str], int],
        outage: Outage,
    ) -> None:
        self._sock = sock
        self._handle = handle
        self._body_limit = body_limit
        self._outage = outage
        self._http = h11.Connection(h11.SERVER)
        self.idle = True
        self.task = asyncio.get_running_loop().create_task(self._serve())
        # Not in the task itself: one that is canceled before it begins never runs.
        self.task.add_done_callback(lambda _: sock.close())

    async def _serve(self) -> None:
        try:
            while await self._exchange():
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            await self._send_protocol_error(error)
        except (ConnectionError, TimeoutError):
            pass  # the client has gone; so be it
        except Exception:  # an answer script may raise while results are sent
            logger.exception("The simulator failed while it sent an answer")

    async def _exchange(self) -> bool:
        """One request and its answer; whether another may follow."""
        self.idle = True
        head = await self._next_event()
        self.idle = False
        if not isinstance(head, h11.Request):
            return False
        request = await self._read_request(head)
        try:
            answer = await asyncio.to_thread(self._answer, request)
            await asyncio.sleep(answer.delay_seconds)
            await self._send(answer)
        except ConnectionDropped as fault:
            self._drop(fault)
            return False
        except ConnectionRefused:
            self._drop(ConnectionDropped(reset=True))
            return False
        except Hanging:
            await self._hang()
            return False
        if request.body is None:
            await self._linger()
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    def _answer(self, request: Request) -> Answer:
        try:
            return self._handle(request)
        except (ConnectionDropped, ConnectionRefused, Hanging):
            raise
        except Exception:
            logger.exception("The simulator failed at %s %s", request.method, request.path)
            return Answer(
                status=500, headers={"content-type": "text/plain"}, body=b"the simulator failed; see its log\n"
            )

    async def _read_request(self, head: h11.Request) -> Request:
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        target = head.target.decode("latin-1")
        raw_path, _, query = target.partition("?")
        path = unquote(raw_path)
        return Request(
            method=head.method.decode("ascii"),
            path=path,
            query=tuple(parse_qsl(query, keep_blank_values=True)),
            headers=headers,
            body=await self._read_body(headers, limit=self._body_limit(path)),
            base_url=f"http://{headers.get('host', 'localhost')}",
        )

    async def _read_body(self, headers: dict[str, str], *, limit: int) -> Body | None:
        """The body, None if it is too large; what is left of it then has not been read."""
        if int(headers.get("content-length", "0")) > limit:
            return None
        spool = Spool(limit=limit)
        try:
            while isinstance(event := await self._next_event(), h11.Data):
                spool.add(event.data)
        except BodyTooLarge:
            return None
        except BaseException:
            spool.discard()
            raise
        if isinstance(event, h11.ConnectionClosed):
            spool.discard()
            raise ConnectionResetError
        return spool.finish()

    async def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next event, never NEED_DATA."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._write(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._read())
        return event

    async def _send(self, answer: Answer) -> None:
        body = answer.body
        headers = list(answer.headers.items())
        if isinstance(body, bytes):
            headers.append(("content-length", str(len(body))))
        await self._write(h11.Response(status_code=answer.status, headers=headers))
        if isinstance(body, bytes):
            await self._write(h11.Data(data=body))
        else:
            while (piece := await asyncio.to_thread(_next_piece, body)) is not None:
                await self._write(h11.Data(data=piece))
        await self._write(h11.EndOfMessage())

    async def _write(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def _read(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._sock, _READ_BYTES)

    async def _send_protocol_error(self, error: h11.RemoteProtocolError) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._send(
                Answer(
                    status=error.error_status_hint,
                    headers={"connection": "close", "content-type": "text/plain"},
                    body=f"{error}\n".encode(),
                )
            )

    def _drop(self, fault: ConnectionDropped) -> None:
        """Prepare the close that follows: what was written goes out, unless it is to be a reset."""
        if fault.reset:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    async def _hang(self) -> None:
        """Say nothing until the outage is over or the client gives up."""
        while self._outage.kind == "hang":
            try:
                if not await asyncio.wait_for(self._read(), _HANG_STEP_SECONDS):
                    return
            except TimeoutError:
                continue

    async def _linger(self) -> None:
        """Read on what nobody wants: a close with unread bytes would take the answer away from the sender."""
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while await self._read():
                    pass
        except TimeoutError:
            return


def _listening(host: str, port: int) -> socket.socket:
    """A socket at exactly one address, which an outage can give back and take again."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _next_piece(pieces: Iterator[bytes]) -> bytes | None:
    """The next piece that is not empty (an empty one would end a chunked body), None at the end."""
    return next((piece for piece in pieces if piece), None)
