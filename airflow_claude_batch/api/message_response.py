"""The API's response to a request that is asked directly, through the Messages API."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import msgspec

from airflow_claude_batch.api.evidence import Proof, proof_of_failure
from airflow_claude_batch.api.http import HTTPRequest, HTTPResponse
from airflow_claude_batch.api.lenient_json import is_too_deep, read_object
from airflow_claude_batch.api.rate_limits import RateLimits, read_rate_limits
from airflow_claude_batch.api.responses import error_response_failure, invalid_response_failure, redacted_envelope
from airflow_claude_batch.exceptions import APIStatusError


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageResponse:
    """What the API itself said to one request: an answer, a refusal, or that it does not take the request now.

    :param proof: ``ACCEPTED`` for an answer, which is billed. ``REFUSED`` or ``DOES_NOT_EXIST`` for a request that is
        refused. ``NOT_ACCEPTED`` if the same request may succeed later. What is not accepted is not billed.
    :param result: JSON in one line: the ``result`` of a batch's results line, succeeded or errored.
    :param rate_limits: as the headers of the response report them.
    :param error: of a response that is no answer; its ``retry_after`` has the seconds that the API asks to wait.
    """

    proof: Proof
    result: bytes = field(repr=False)
    rate_limits: RateLimits
    error: APIStatusError | None = None

    def result_line(self, custom_id: str) -> bytes:
        """Return the line that a batch's results would have, without a newline. ``decode_result_line`` reads it."""
        return b'{"custom_id":%b,"result":%b}' % (msgspec.json.encode(custom_id), self.result)


class _Head(msgspec.Struct):
    """The fields by which a message is told from anything else. Some gateways leave out the type."""

    type: str = "message"
    content: list[msgspec.Raw] | str | None = None


_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_head: Final = msgspec.json.Decoder(_Head)


def read_message_response(request: HTTPRequest, response: HTTPResponse) -> MessageResponse:
    """Read the response to one request.

    :raises CallFailed: the credential is refused, or the response is not certainly the API's: a page of a gateway, a
        server error. Such a response proves nothing, so the request may have been answered and billed.
    """
    limits = read_rate_limits(response.headers, now=response.server_time)
    if response.succeeded:
        if (message := _read_message(response.body)) is None:
            raise invalid_response_failure(request, "its body is not a message")
        result = b'{"type":"succeeded","message":%b}' % message
        return MessageResponse(proof=Proof.ACCEPTED, result=result, rate_limits=limits)
    failure = error_response_failure(request, response)
    proof = proof_of_failure(failure.failure)
    if proof is Proof.NOTHING or response.status_code == 401 or not isinstance(failure.error, APIStatusError):
        raise failure
    envelope = redacted_envelope(request, response)
    error = {"type": "error", "error": envelope.error, "request_id": envelope.request_id}
    result = msgspec.json.encode({"type": "errored", "error": error})
    return MessageResponse(proof=proof, result=result, rate_limits=limits, error=failure.error)


def _read_message(body: bytes) -> bytes | None:
    """Return a message as JSON in one line. None if the body is none.

    An answer may hold what JSON does not allow, such as half a surrogate pair. It is paid for, so the rest is kept.
    """
    try:
        msgspec.json.decode(body)
        message = msgspec.json.format(body, indent=-1) if b"\n" in body or b"\r" in body else body.strip()
        if is_too_deep(message):
            raise RecursionError
    except _UNREADABLE:
        start = body.removeprefix(_BYTE_ORDER_MARK).lstrip()
        value = read_object(start)
        if value is None or start[value.end :].strip():
            return None
        message = value.json
    return message if _is_message(message) else None


def _is_message(message: bytes) -> bool:
    try:
        head = _head.decode(message)
    except _UNREADABLE:
        return False
    return head.type == "message" and head.content is not None
