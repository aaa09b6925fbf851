"""Decide what a failed call proves: can it have been accepted? Pure functions.

A create call has no idempotency key. So a create call that may have been accepted must never be sent again before
somebody has looked for its batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

# Limits on spending. Only a person or the next month ends them; SDK, _error_classes.py and rate-limits, 2026-10.
SPEND_LIMIT_CODES: Final = frozenset(
    {
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
        "linked_organization_spend_limit_reached",
        "linked_organization_billing_unavailable",
    }
)


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

    :param retry_after_seconds: the seconds that the response asks to wait. None if it does not ask.
    :param should_retry: the API's own opinion (``x-should-retry``). None if it has none.
    """

    status_code: int
    error_code: str | None = None
    retry_after_seconds: float | None = None
    should_retry: bool | None = None


@dataclass(frozen=True, slots=True)
class InvalidResponse:
    """A response with a success status whose body is not the API's."""


Failure = NoResponse | ErrorResponse | InvalidResponse


def may_have_been_accepted(failure: Failure, effect: Effect) -> bool:
    """Tell whether the call may have taken effect although it failed. A call that only reads has no effect."""
    if effect is Effect.READ_ONLY:
        return False
    if isinstance(failure, NoResponse):
        # A server that honours content-length cannot accept a body cut short, so SENDING looks safe. But the error may
        # have come after the last byte, and a proxy may have the whole body already. Looking for the batch costs one
        # call. A wrong guess costs a batch.
        return failure.stage in (Stage.SENDING, Stage.WAITING)
    return isinstance(failure, InvalidResponse) or _status_may_hide_acceptance(failure.status_code)


def may_resend(failure: Failure, effect: Effect) -> bool:
    """Tell whether sending the call again cannot do, or bill, the same thing twice."""
    return effect is not Effect.NOT_IDEMPOTENT or not may_have_been_accepted(failure, effect)


def _status_may_hide_acceptance(status_code: int) -> bool:
    """Tell whether a proxy may respond with this status although the API accepted the call.

    303 points to the outcome of a finished POST. 408 and, from some proxies, 499 are timeouts between the proxy and
    the API. 409 refuses this call, but a create call can only conflict with a copy of itself. 529 is the API's own
    refusal. Proxies send other 5xx when they lost the API's response.
    """
    if 500 <= status_code < 600:
        return status_code != 529
    return status_code in (303, 408, 409, 499) or not 300 <= status_code < 500
