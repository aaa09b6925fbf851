"""One client's connection over a real socket, for any number of exchanges. h11 implements HTTP/1.1."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

import h11

from airflow_claude_batch.simulator.http.channel import PlainChannel, TLSChannel
from airflow_claude_batch.simulator.http.exchange import (
    Body,
    ConnectionDropped,
    ConnectionRefused,
    ConnectionStalled,
    Handler,
    Request,
    Response,
    TransportFailure,
)
from airflow_claude_batch.simulator.http.outages import Outage
from airflow_claude_batch.simulator.http.request_bodies import BodyBuffer, BodyTooLarge
from airflow_claude_batch.simulator.http.response_bodies import compressed

_DRAIN_SECONDS = 5.0  # how long a rejected upload is still read, so that its sender sees the response
_STALL_CHECK_SECONDS = 0.1

logger = logging.getLogger(__name__)


class Connection:
    """Serves one client until either side closes the connection.

    :param handle: responds to a request. Called in a worker thread.
    :param body_limit: returns the largest body that a path accepts, in bytes.
    :param tls: None: plain http.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        handle: Handler,
        body_limit: Callable[[str], int],
        outage: Outage,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._channel = PlainChannel(sock) if tls is None else TLSChannel(sock, tls)
        self._handle = handle
        self._body_limit = body_limit
        self._outage = outage
        self._http = h11.Connection(h11.SERVER)
        self.idle = True
        self.task = asyncio.get_running_loop().create_task(self._serve())
        # Not in the task itself: a task that is canceled before it starts never runs.
        self.task.add_done_callback(lambda _: sock.close())

    async def _serve(self) -> None:
        try:
            if not await self._channel.open():
                return
            while await self._exchange():
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            await self._send_protocol_error(error)
        except (ConnectionError, TimeoutError, ssl.SSLError):
            pass  # the client has gone
        except Exception:  # the user's answer function may raise while results are sent
            logger.exception("The simulator failed while it sent a response.")

    async def _exchange(self) -> bool:
        """Read a request and send its response. Returns whether another exchange may follow."""
        self.idle = True
        head = await self._next_event()
        self.idle = False
        if not isinstance(head, h11.Request):
            return False
        request = await self._read_request(head)
        try:
            response = await asyncio.to_thread(self._respond, request)
            await asyncio.sleep(response.delay_seconds)
            await self._send(response)
        except ConnectionDropped as failure:
            self._drop(failure)
            return False
        except ConnectionRefused:
            self._drop(ConnectionDropped(reset=True))
            return False
        except ConnectionStalled:
            await self._stall()
            return False
        if request.body is None:
            await self._drain_upload()
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            return True
        await self._channel.end()
        return False

    def _respond(self, request: Request) -> Response:
        try:
            return compressed(self._handle(request), request)
        except TransportFailure:
            raise
        except Exception:
            logger.exception("The simulator failed at %s %s.", request.method, request.path)
            return Response(
                status=500, headers={"content-type": "text/plain"}, body=b"The simulator failed. Its log says why.\n"
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
            target=target,
            query=tuple(parse_qsl(query, keep_blank_values=True)),
            headers=headers,
            body=await self._read_body(headers, limit=self._body_limit(path)),
            base_url=f"{self._channel.scheme}://{headers.get('host', 'localhost')}",
        )

    async def _read_body(self, headers: dict[str, str], *, limit: int) -> Body | None:
        """Read the body. None: it is too large, and its rest has not been read."""
        if int(headers.get("content-length", "0")) > limit:
            return None
        buffer = BodyBuffer(limit=limit)
        try:
            while isinstance(event := await self._next_event(), h11.Data):
                buffer.add(event.data)
        except BodyTooLarge:
            return None
        except BaseException:
            buffer.discard()
            raise
        if isinstance(event, h11.ConnectionClosed):
            buffer.discard()
            raise ConnectionResetError
        return buffer.finish()

    async def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event, never NEED_DATA."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._write(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._channel.read())
        return event

    async def _send(self, response: Response) -> None:
        body = response.body
        headers = list(response.headers.items())
        if isinstance(body, bytes):
            headers.append(("content-length", str(len(body))))
        await self._write(h11.Response(status_code=response.status, headers=headers, reason=_reason(response.status)))
        if isinstance(body, bytes):
            await self._write(h11.Data(data=body))
        else:
            while (piece := await asyncio.to_thread(_next_piece, body)) is not None:
                await self._write(h11.Data(data=piece))
        await self._write(h11.EndOfMessage())

    async def _write(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            await self._channel.write(data)

    async def _send_protocol_error(self, error: h11.RemoteProtocolError) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._send(
                Response(
                    status=error.error_status_hint,
                    headers={"connection": "close", "content-type": "text/plain"},
                    body=f"{error}\n".encode(),
                )
            )

    def _drop(self, failure: ConnectionDropped) -> None:
        """Prepare the close that follows. Unsent data is still sent, except with a reset."""
        if failure.reset:
            self._channel.reset()

    async def _stall(self) -> None:
        """Send nothing until the outage ends or the client gives up."""
        while self._outage.kind == "hang":
            try:
                if not await asyncio.wait_for(self._channel.read(), _STALL_CHECK_SECONDS):
                    return
            except TimeoutError:
                continue

    async def _drain_upload(self) -> None:
        """Read the rest of an upload. A close with unread bytes would discard the response at the sender."""
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while await self._channel.read():
                    pass
        except TimeoutError:
            return


def _reason(status: int) -> bytes:
    """Return the reason phrase, as in recordings of 2026-08. The API's own statuses have none."""
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""


def _next_piece(pieces: Iterator[bytes]) -> bytes | None:
    """Return the next piece that is not empty, because an empty one would end a chunked body. None: no more pieces."""
    return next((piece for piece in pieces if piece), None)
