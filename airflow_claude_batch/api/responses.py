"""Making a value, or an error that says what to do, out of an answer."""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar

import msgspec

from airflow_claude_batch.api.base_url import host_in
from airflow_claude_batch.api.evidence import (
    SPEND_LIMIT_CODES,
    Effect,
    ErrorResponse,
    InvalidResponse,
    NoResponse,
    Stage,
    may_have_been_accepted,
    retry_after_seconds,
)
from airflow_claude_batch.api.http import CallFailed, HTTPRequest, HTTPResponse
from airflow_claude_batch.api.limits import MAX_BATCH_BYTES
from airflow_claude_batch.api.wire import ErrorEnvelope, ErrorObject, decode, decode_error, with_server_time
from airflow_claude_batch.exceptions import (
    APIConnectionError,
    APIError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    BillingError,
    MalformedResponseError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
)

T = TypeVar("T", bound=msgspec.Struct)

_CLASSES: Final[dict[int, type[APIStatusError]]] = {
    401: AuthenticationError,
    402: BillingError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: ServerError,
    413: RequestTooLargeError,
    429: RateLimitError,
    499: ServerError,
    529: OverloadedError,
}

# Both are said with a plain 400 invalid_request_error. Their wording is known from users' reports and is not stable:
# when it changes, the error is a BadRequestError, which is not sent again either.
_BILLING_WORDS: Final = ("specified api usage limits", "credit balance")

_BILLING_REMEDY: Final = (
    "No retry will help before the limit is raised, credit is added, or (for a monthly limit) the next month begins; "
    "see Billing and Limits in the Claude Console."
)

_REMEDIES: Final = {
    403: "The credential is valid but may not do this: check its workspace and its permissions.",
    407: "The proxy wants a user name and password: put them into the connection's proxy URL.",
    413: (
        f"The API's limit is {MAX_BATCH_BYTES:,} bytes for one message batch, and a proxy on the way may have a "
        "lower one: send fewer requests at once."
    ),
}

_ROAD_REMEDIES: Final = {
    Stage.CONNECTING: "Check the connection's host, and that this machine reaches it: network, firewall, proxy.",
    Stage.UNTRUSTED: "Check the connection's host, and name the CA file of your proxy or gateway in the connection.",
}

_CODE_REMEDIES: Final = {
    "claude_code_key_creator_not_member": "The key's creator has left the organization: make a new key.",
    "cmek_key_disabled": "The organization's own encryption key is disabled: enable it.",
    "organization_on_hold": "The organization is on hold: its administrators have to write to Anthropic.",
}

_SECRET: Final = re.compile(
    r"\bsk-[\w.*-]{6,}|eyJ[\w-]+\.[\w-]+\.[\w-]*|(?i:bearer|basic)\s+[\w+/=.~-]{6,}|(?<=://)[^/\s@]+@"
)


def read_response(request: HTTPRequest, answer: HTTPResponse, kind: type[T]) -> T:
    """Read a successful answer into a value, with the server's time where the value has a place for it.

    :raises CallFailed: the answer is an error, or not the API's.
    """
    if not answer.succeeded:
        raise error_response_failure(request, answer)
    try:
        value = decode(answer.body, kind)
    except MalformedResponseError as error:
        raise invalid_response_failure(request, f"{error}; {_looks_like(request, answer, with_text=False)}") from error
    return with_server_time(value, answer.server_time)


def error_response_failure(request: HTTPRequest, answer: HTTPResponse) -> CallFailed:
    """Build the error of an answer that is no success."""
    if 300 <= answer.status_code < 400:
        return _redirected(request, answer)
    envelope = _hushed(_envelope(answer.body), request)
    said = _what_it_said(request, answer, envelope)
    failure = ErrorResponse(
        answer.status_code,
        error_code=envelope.error_code,
        retry_after_seconds=retry_after_seconds(answer.headers, now=answer.server_time),
        should_retry={"true": True, "false": False}.get(answer.headers.get("x-should-retry", "")),
    )
    accepted = may_have_been_accepted(failure, request.effect)
    kind = _exception_class(answer.status_code, envelope)
    request_id = envelope.request_id or _short(answer.headers.get("request-id"), request)
    parts = [
        f"could not {request.what}: {request.host} answered {said}",
        _remedy(request, answer.status_code, kind, envelope),
        _ending(request.effect, accepted=accepted),
        f"(request id {request_id})" if request_id else "",
    ]
    error = kind(
        " ".join(part for part in parts if part),
        status_code=answer.status_code,
        error_type=envelope.type,
        error_code=envelope.error_code,
        request_id=request_id,
        retry_after=failure.retry_after_seconds,
        may_have_been_accepted=accepted,
    )
    return CallFailed(failure, error, request.effect)


def invalid_response_failure(request: HTTPRequest, reason: str) -> CallFailed:
    """Build the error of a success whose body is not the API's."""
    failure = InvalidResponse()
    accepted = may_have_been_accepted(failure, request.effect)
    ending = _ending(request.effect, accepted=accepted)
    error = MalformedResponseError(
        f"could not {request.what}: {request.host} answered with success, but {reason}. {ending}".rstrip(),
        may_have_been_accepted=accepted,
    )
    return CallFailed(failure, error, request.effect)


def no_response_failure(request: HTTPRequest, stage: Stage, reason: str) -> CallFailed:
    """Build the error of a call to which no answer came, or only a part of one."""
    failure = NoResponse(stage)
    accepted = may_have_been_accepted(failure, request.effect)
    remedy = _ROAD_REMEDIES.get(stage, "")
    parts = [f"could not {request.what}: {request.host}: {shorten(reason, 300)}."]
    parts += [remedy, _ending(request.effect, accepted=accepted)]
    error = APIConnectionError(" ".join(part for part in parts if part), may_have_been_accepted=accepted)
    return CallFailed(failure, error, request.effect)


def shorten(text: str, length: int) -> str:
    """Make text of unknown origin fit for a log: one line, printable, no secrets, not longer than that."""
    line = " ".join(_SECRET.sub("***", text).split())
    clean = "".join(character if character.isprintable() else "?" for character in line)
    return clean if len(clean) <= length else clean[: length - 3] + "..."


def _redirected(request: HTTPRequest, answer: HTTPResponse) -> CallFailed:
    failure = ErrorResponse(answer.status_code)
    accepted = may_have_been_accepted(failure, request.effect)
    to = request.redact(host_in(answer.headers.get("location", "")) or "an unnamed place")
    ending = _ending(request.effect, accepted=accepted)
    error: APIError = MalformedResponseError(
        f"could not {request.what}: {request.host} answered {answer.status_code}, a redirect to {shorten(to, 100)}. "
        "The API does not redirect, and credentials are not sent after redirects: check the connection's base URL "
        f"and proxy. {ending}".rstrip(),
        may_have_been_accepted=accepted,
    )
    return CallFailed(failure, error, request.effect)


def _envelope(body: bytes) -> ErrorEnvelope:
    """Read an error in any of its shapes: the API's, the edge's, OAuth's (RFC 6749), or none at all."""
    try:
        return decode_error(body)
    except MalformedResponseError:
        pass
    try:
        flat: Any = decode(body, dict[str, Any])
    except MalformedResponseError:
        return ErrorEnvelope(ErrorObject())
    kind, message = flat.get("error"), flat.get("error_description")
    return ErrorEnvelope(
        ErrorObject(kind if isinstance(kind, str) else None, message if isinstance(message, str) else None)
    )


def _hushed(envelope: ErrorEnvelope, request: HTTPRequest) -> ErrorEnvelope:
    """An error with nothing in it that must not get into logs, or that would fill them."""
    error, code = envelope.error, _short(envelope.error_code, request)
    message = None if error.message is None else shorten(request.redact(error.message), 500)
    details = {"error_code": code} if code else None
    return ErrorEnvelope(
        ErrorObject(_short(error.type, request), message, details), _short(envelope.request_id, request)
    )


def _short(word: str | None, request: HTTPRequest) -> str | None:
    return None if word is None else shorten(request.redact(word), 100)


def _what_it_said(request: HTTPRequest, answer: HTTPResponse, envelope: ErrorEnvelope) -> str:
    if envelope.type is None:
        return f"{answer.status_code}, and {_looks_like(request, answer, with_text=True)}."
    code = f" ({envelope.error_code})" if envelope.error_code else ""
    message = (envelope.message or "no message").rstrip(".")
    return f"{answer.status_code} {shorten(envelope.type, 60)}{code}: {message}."


def _looks_like(request: HTTPRequest, answer: HTTPResponse, *, with_text: bool) -> str:
    """Describe a body that is not the API's. Of a success nothing is shown: it may hold prompts or answers."""
    text = request.redact(answer.body[:2000].decode("utf-8", "replace").strip())
    if text.startswith("<"):
        title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
        named = f" ({shorten(title[1], 100)!r})" if title and title[1].strip() else ""
        return f"the body is an HTML page{named}: it looks like a proxy's, or the base URL is wrong"
    shown = f": {shorten(text, 100)!r}" if with_text and text else ""
    return f"the body is {len(answer.body)} bytes that are not the API's JSON{shown}"


def _exception_class(status_code: int, envelope: ErrorEnvelope) -> type[APIStatusError]:
    if envelope.error_code in SPEND_LIMIT_CODES or envelope.type == "billing_error":
        return BillingError
    message = (envelope.message or "").lower()
    if status_code == 400 and any(words in message for words in _BILLING_WORDS):
        return BillingError
    return _CLASSES.get(status_code, BadRequestError if status_code < 500 else ServerError)


def _remedy(request: HTTPRequest, status_code: int, kind: type[APIStatusError], envelope: ErrorEnvelope) -> str:
    if kind is BillingError:
        return _BILLING_REMEDY
    if kind is AuthenticationError:
        return request.credential_remedy
    if kind is NotFoundError:
        return request.not_found_remedy
    return _CODE_REMEDIES.get(envelope.error_code or "") or _REMEDIES.get(status_code, "")


def _ending(effect: Effect, *, accepted: bool) -> str:
    """Say what became of the money. Only a create can cost any."""
    if effect is not Effect.NOT_IDEMPOTENT:
        return ""
    return (
        "The batch may have been created nevertheless: look for it before sending again."
        if accepted
        else "Nothing was created."
    )
