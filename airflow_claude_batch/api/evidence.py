"""Decide what the answer to a call proves. Pure functions, and the only place that decides it.

An answer proves something only if it certainly is the API's: its strict error envelope, whose type belongs to the
status. A page of a gateway proves nothing, whatever its status. A create call has no idempotency key, so one that may
have been accepted must never be sent again before somebody has looked for its batch.

``DOES_NOT_EXIST`` is the word of one moment. Callers believe it only if it lasts: :func:`has_lasted`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Final

import msgspec

from airflow_claude_batch.exceptions import APIStatusError

# Limits on spending. Only a person or the next month ends them; SDK, _error_classes.py and rate-limits, 2026-10.
SPEND_LIMIT_CODES: Final = frozenset(
    {
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
        "linked_organization_spend_limit_reached",
        "linked_organization_billing_unavailable",
    }
)


# How long, and in how many polls, a 404 must last before it is believed. Ten minutes are longer than any delay between
# the API's nodes that is known, and longer than a deployment of a gateway.
LASTING: Final = timedelta(seconds=600)
LASTING_POLLS: Final = 3

# The types that belong to each status; API reference, "Errors", and SDK, _error_classes.py. The other 5xx are below.
_TYPES: Final[dict[int, frozenset[str]]] = {
    400: frozenset({"invalid_request_error", "billing_error"}),
    401: frozenset({"authentication_error"}),
    402: frozenset({"billing_error"}),
    403: frozenset({"permission_error"}),
    404: frozenset({"not_found_error"}),
    405: frozenset({"invalid_request_error"}),
    408: frozenset({"timeout_error"}),
    409: frozenset({"conflict_error", "invalid_request_error"}),
    413: frozenset({"request_too_large"}),
    415: frozenset({"invalid_request_error"}),
    422: frozenset({"invalid_request_error"}),
    429: frozenset({"rate_limit_error", "billing_error"}),
    499: frozenset({"api_error"}),
    529: frozenset({"overloaded_error"}),
}
_SERVER_ERROR_TYPES: Final = frozenset({"api_error", "timeout_error", "overloaded_error"})

# The statuses by which the API refuses the request itself, and those by which it refuses it for now.
_REFUSED: Final = frozenset({400, 405, 413, 415, 422})
_NOT_ACCEPTED: Final = frozenset({401, 402, 403, 429, 529})


class Proof(Enum):
    """What the answer to a call proves."""

    ACCEPTED = "the call took effect"
    NOT_ACCEPTED = "the call had no effect, and the same call may succeed later"
    DOES_NOT_EXIST = "the object or the path is not there at this moment, so the call had no effect"
    REFUSED = "the call had no effect, and the same call is refused again"
    NOTHING = "anything may be the case: the answer is not certainly the API's, or there is none"


class Effect(Enum):
    """What sending a call twice does."""

    READ_ONLY = "reads, and changes nothing"
    IDEMPOTENT = "changes something, and twice is the same as once: cancel, delete"
    NOT_IDEMPOTENT = "does it again and bills it again: create"


class Stage(Enum):
    """How far a call without a response had come."""

    CONNECTING = "no byte of the call was sent: name lookup, connect, proxy, TLS, waiting for the connection pool"
    UNTRUSTED = "no byte was sent, and another try will not help: the server's certificate is not trusted"
    SENDING = "part of the call was sent"
    WAITING = "the whole call was sent, but the response did not arrive whole"


@dataclass(frozen=True, slots=True)
class NoResponse:
    """No response arrived, or only part of one."""

    stage: Stage


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """A response with an error status.

    :param error_type: ``error.type`` of the API's strict envelope. None if the body is anything else.
    :param retry_after_seconds: the seconds that the response asks to wait. None if it does not ask.
    :param should_retry: the API's own opinion (``x-should-retry``). None if it has none.
    """

    status_code: int
    error_code: str | None = None
    retry_after_seconds: float | None = None
    should_retry: bool | None = None
    error_type: str | None = None


@dataclass(frozen=True, slots=True)
class InvalidResponse:
    """A response with a success status whose body is not the API's."""


Failure = NoResponse | ErrorResponse | InvalidResponse


def proof_of(error: Exception) -> Proof:
    """Return what the answer behind an error of a call proves.

    Of a call that was sent more than once, this is the proof of the last answer only. Whether any of them may have
    been accepted is ``may_have_been_accepted`` of the error.
    """
    if isinstance(error, APIStatusError):
        return _proof_of_status(error.status_code, error.error_type)
    return Proof.NOTHING


def proof_of_failure(failure: Failure) -> Proof:
    """Return what one failed attempt of a call proves."""
    if isinstance(failure, NoResponse):
        # A server that honours content-length cannot accept a body cut short, so SENDING looks safe. But the error may
        # have come after the last byte, and a proxy may have the whole body already. Looking for the batch costs one
        # call. A wrong guess costs a batch.
        return Proof.NOT_ACCEPTED if failure.stage in (Stage.CONNECTING, Stage.UNTRUSTED) else Proof.NOTHING
    if isinstance(failure, InvalidResponse):
        return Proof.NOTHING
    return _proof_of_status(failure.status_code, failure.error_type)


def may_have_been_accepted(failure: Failure, effect: Effect) -> bool:
    """Tell whether the call may have taken effect although it failed. A call that only reads has no effect."""
    return effect is not Effect.READ_ONLY and proof_of_failure(failure) is Proof.NOTHING


def may_resend(failure: Failure, effect: Effect) -> bool:
    """Tell whether sending the call again cannot do, or bill, the same thing twice."""
    return effect is not Effect.NOT_IDEMPOTENT or not may_have_been_accepted(failure, effect)


def has_lasted(polls: int, elapsed: timedelta) -> bool:
    """Tell whether ``DOES_NOT_EXIST`` has lasted long enough to be believed.

    :param polls: how often it was answered in a row.
    :param elapsed: the time since the first of these answers.
    """
    return polls >= LASTING_POLLS and elapsed >= LASTING


def strict_error_type(status_code: int, body: bytes) -> str | None:
    """Return ``error.type`` if the body certainly is the API's error with this status, otherwise None."""
    try:
        envelope: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    error = envelope.get("error") if isinstance(envelope, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return None
    kind = error.get("type")
    if not isinstance(kind, str) or kind not in _types_of(status_code):
        return None
    return kind if envelope.get("type") == "error" or _is_of_the_edge(status_code, envelope, error) else None


def _types_of(status_code: int) -> frozenset[str]:
    if (types := _TYPES.get(status_code)) is not None:
        return types
    return _SERVER_ERROR_TYPES if 500 <= status_code < 600 else frozenset()


def _is_of_the_edge(status_code: int, envelope: dict[str, Any], error: dict[str, Any]) -> bool:
    """Tell whether it is the 413 of the API's own edge, which lacks the top-level type; API reference, "Errors"."""
    return status_code == 413 and envelope.keys() <= {"error", "request_id"} and error.keys() == {"type", "message"}


def _proof_of_status(status_code: int, error_type: str | None) -> Proof:
    """Return what an error status with this type proves.

    408, 409, 499 and 5xx other than 529 prove nothing even in the API's words: the API, or a proxy before it, gave up
    or lost the response after the call was handed on. A create call can only conflict with a copy of itself.
    """
    if error_type not in _types_of(status_code):
        return Proof.NOTHING
    if status_code == 404:
        return Proof.DOES_NOT_EXIST
    if status_code in _REFUSED:
        return Proof.REFUSED
    return Proof.NOT_ACCEPTED if status_code in _NOT_ACCEPTED else Proof.NOTHING
