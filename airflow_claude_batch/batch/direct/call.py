"""Ask one request, tell the caller, and say how the call has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol

from airflow_claude_batch.api.evidence import Proof
from airflow_claude_batch.api.message_response import MessageResponse
from airflow_claude_batch.batch.direct.request import DirectRequest
from airflow_claude_batch.exceptions import (
    APIConnectionError,
    APIError,
    BillingError,
    MalformedResponseError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)

#: Seconds in which a request must be answered. The vendor's SDK waits as long; SDK, _constants.py.
ANSWER_SECONDS: Final = 600.0

#: The API's word about a request, or the error of one whose response was lost and which may be billed.
DirectResult = MessageResponse | APIError


class MessageClient(Protocol):
    """Client for the call that asks one request; many threads share it."""

    def create_message(self, params: bytes, *, seconds: float) -> MessageResponse: ...


class CallEnd(Enum):
    """How one call has ended."""

    ANSWERED = auto()
    REFUSED = auto()
    LOST = auto()
    HELD_BACK = auto()  # certainly not accepted: it may be asked again
    MAY_ASK_AGAIN = auto()  # lost, and the caller wants it to be asked again
    REFUSED_TO_ALL = auto()
    NOT_SENT = auto()


class EndedCall(NamedTuple):
    """How a call has ended, and what came of it. There is no result of a request that was not sent."""

    end: CallEnd
    result: DirectResult | None = None


class RequestAsker:
    """Asks one request, and tells the caller. Runs in the threads."""

    def __init__(
        self,
        client: MessageClient,
        before: Callable[[DirectRequest], object],
        answered: Callable[[DirectRequest, DirectResult], object],
        may_ask_again: Callable[[DirectRequest, APIError], bool],
        answer_until: float,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._before = before
        self._answered = answered
        self._may_ask_again = may_ask_again
        self._answer_until = answer_until
        self._clock = clock
        #: Once it is set, requests that are not sent yet stay unsent.
        self.halt = threading.Event()

    def ask(self, request: DirectRequest, *, is_first: bool) -> EndedCall:
        """Ask a request.

        :param is_first: it was not asked before, so the caller is told.
        """
        if is_first:
            self._before(request)
        seconds = min(ANSWER_SECONDS, self._answer_until - self._clock())
        if self.halt.is_set() or seconds <= 0:
            return EndedCall(CallEnd.NOT_SENT)
        result: DirectResult
        try:
            result = self._client.create_message(request.params, seconds=seconds)
        except APIError as error:
            result = error
        end = end_of(result)
        if end is CallEnd.LOST and isinstance(result, APIError) and self._may_ask_again(request, result):
            end = CallEnd.MAY_ASK_AGAIN
        if end in (CallEnd.ANSWERED, CallEnd.REFUSED, CallEnd.LOST):
            self._answered(request, result)
        return EndedCall(end, result)


def end_of(result: DirectResult) -> CallEnd:
    """Return how a call has ended, by what its result proves."""
    if isinstance(result, APIError):
        if result.may_have_been_accepted:
            return CallEnd.LOST
        passes = isinstance(result, APIConnectionError | MalformedResponseError | RateLimitError | ServerError)
        return CallEnd.HELD_BACK if passes or getattr(result, "status_code", 0) == 529 else CallEnd.REFUSED_TO_ALL
    if result.proof is Proof.ACCEPTED:
        return CallEnd.ANSWERED
    if isinstance(result.error, BillingError | PermissionDeniedError):
        return CallEnd.REFUSED_TO_ALL
    return CallEnd.HELD_BACK if result.proof is Proof.NOT_ACCEPTED else CallEnd.REFUSED
