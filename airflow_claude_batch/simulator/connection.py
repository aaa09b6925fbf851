"""One client's connection over a real socket, for as many exchanges as it lasts. h11 speaks the protocol."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Iterator
from urllib.parse import parse_qsl, unquote

import h11

from airflow_claude_batch.simulator.bodies import BodyTooLarge, DiskSorter
from airflow_claude_batch.simulator.exchange import (
    Answer,
    Body,
    ConnectionDropped,
    ConnectionRefused,
    Hanging,
    Misfortune,
    Request,
)
from airflow_claude_batch.simulator.outages import Outage

_READ_BYTES = 1 << 18
_LINGER_SECONDS = 5.0  # how long an upload that was refused is still read, so that its sender sees the answer
_HANG_STEP_SECONDS = 0.1
_RESET = struct.pack("ii", 1, 0)

logger = logging.getLogger(__name__)

Handle = Callable[[Request], Answer]


class Connection:
    """Serves one client until either side has had enough.

    :param handle: answers a request; called in a worker thread.
    :param body_limit: the largest body that a path takes.
    """

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
        except Misfortune:
            raise
        except Exception:
            logger.exception("The simulator failed at %s %s", request.method, request.path)
            return Answer(
                status=500, headers={"content-type": "text/plain"}, body=b"the simulator failed; see its log\n"
            )

    async def _read_request(self, head: h11.Request) -> Request:
        headers: dict[str, str] = {}
        for raw_name, value in head.headers:
            name = raw_name.decode("ascii")
            headers[name] = ", ".join(filter(None, (headers.get(name), value.decode("latin-1"))))
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
        spool = DiskSorter(limit=limit)
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


def _next_piece(pieces: Iterator[bytes]) -> bytes | None:
    """The next piece that is not empty (an empty one would end a chunked body), None at the end."""
    return next((piece for piece in pieces if piece), None)
