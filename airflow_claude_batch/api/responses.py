"""Turn an HTTP response, or its absence, into a value or into an error that says what to do."""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar

import msgspec

from airflow_claude_batch.api.aws_errors import aws_error, aws_remedy
from airflow_claude_batch.api.base_url import host_in
from airflow_claude_batch.api.evidence import (
    SPEND_LIMIT_CODES,
    Effect,
    ErrorResponse,
    Failure,
    InvalidResponse,
    NoResponse,
    Stage,
    may_have_been_accepted,
    strict_error_type,
)
from airflow_claude_batch.api.google_errors import google_error, google_remedy
from airflow_claude_batch.api.headers import retry_after_seconds
from airflow_claude_batch.api.http import CallFailed, HTTPRequest, HTTPResponse
from airflow_claude_batch.api.limits import MAX_BATCH_BYTES
from airflow_claude_batch.api.redaction import shorten
from airflow_claude_batch.api.wire import ErrorEnvelope, ErrorObject, decode, decode_error, with_server_time
from airflow_claude_batch.exceptions import (
    APIConnectionError,
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

# The API reports both with a 400 invalid_request_error. The wording is known from users' reports and may change. Then
# the error is a BadRequestError, which is not retried either.
_BILLING_WORDS: Final = ("specified api usage limits", "credit balance")

_BILLING_REMEDY: Final = (
    "Raise the limit or add credit under Billing and Limits in the Claude Console. No retry will help before, except "
    "that a monthly limit ends with the month."
)

# Of a server that does not speak HTTP/1.1: RFC 9110 for 426 and 505, and AWS's load balancers for 464.
_HTTP_2_ONLY: Final = (
    "Put a gateway or load balancer that accepts HTTP/1.1 on the connection's host: this one seems to accept only "
    "another protocol, such as HTTP/2. Also check whether the URL should begin with https."
)

_STATUS_REMEDIES: Final = {
    403: "Check the credential's workspace and its permissions: it is valid but may not do this.",
    426: _HTTP_2_ONLY,
    464: _HTTP_2_ONLY,
    505: _HTTP_2_ONLY,
    407: "Put the proxy's user name and password into the connection's proxy URL.",
    413: (
        f"Send fewer requests at once. The API's limit is {MAX_BATCH_BYTES:,} bytes for one message batch, and a proxy "
        "may have a lower one."
    ),
}

_NO_TLS: Final = (
    "The host or its proxy seems to speak http, not https.\n"
    "If it is a test server or a gateway, begin the connection's host with http://. allow_http may be needed too."
)

_STAGE_REMEDIES: Final = {
    Stage.CONNECTING: "Check the connection's host, and that this machine reaches it: network, firewall, proxy.",
    Stage.UNTRUSTED: "Check the connection's host, and name the CA file of your proxy or gateway in the connection.",
}

# Of a proxy that refuses the tunnel (CONNECT) to the host.
_PROXY_REMEDY: Final = (
    "Let the proxy allow tunnels (CONNECT) to the connection's host, or change the connection's proxy."
)
_PROXY_REMEDIES: Final = {407: "Put the proxy's credentials into the connection's proxy URL: http://user:…@host:port."}
# How TLS and HTTP/1.1 show a server that speaks another protocol.
_PLAIN_HTTP: Final = "WRONG_VERSION_NUMBER"
_NO_HTTP_1: Final = ("NO_APPLICATION_PROTOCOL", "illegal request line", "illegal status line")

_CODE_REMEDIES: Final = {
    "claude_code_key_creator_not_member": "The key's creator has left the organization: make a new key.",
    "cmek_key_disabled": "The organization's own encryption key is disabled: enable it.",
    "workspace_human_review_disabled": (
        "The workspace has human review turned off, and message batches need it: use a key of another workspace, or "
        "let an administrator turn it on."
    ),
    "organization_on_hold": "The organization is on hold: its administrators have to write to Anthropic.",
}

_REDIRECT_REMEDY: Final = (
    "Check the connection's base URL and proxy. The API does not redirect, and the credential is not sent elsewhere."
)


def read_response(request: HTTPRequest, response: HTTPResponse, kind: type[T]) -> T:
    """Decode a response, and add the server's time to values that have a field for it.

    :raises CallFailed: the response has an error status, or its body is not the API's.
    """
    if not response.succeeded:
        raise error_response_failure(request, response)
    try:
        value = decode(response.body, kind)
    except MalformedResponseError as error:
        reason = f"{error.summary.rstrip('.')}; {_describe_body(request, response, show_text=False)}"
        raise invalid_response_failure(request, reason) from error
    return with_server_time(value, response.server_time)


def error_response_failure(request: HTTPRequest, response: HTTPResponse) -> CallFailed:
    """Build the failure for a response with an error status."""
    if 300 <= response.status_code < 400:
        return _redirect_failure(request, response)
    envelope = redacted_envelope(request, response)
    request_id = envelope.request_id or _short(_request_id(response), request)
    failure = ErrorResponse(
        response.status_code,
        error_code=envelope.error_code,
        retry_after_seconds=retry_after_seconds(response.headers, now=response.server_time),
        should_retry={"true": True, "false": False}.get(response.headers.get("x-should-retry", "")),
        error_type=strict_error_type(response.status_code, response.body),
    )
    accepted = may_have_been_accepted(failure, request.effect)
    error_class = _error_class(response.status_code, envelope)
    error = error_class(
        *_lines(
            f"Could not {request.action}: {request.host} responded with {_status(response, envelope)}.",
            _message(request, response, envelope, request_id),
            _money(request, accepted=accepted),
            _remedy(request, response, error_class, envelope),
        ),
        status_code=response.status_code,
        error_type=failure.error_type,
        error_code=envelope.error_code,
        request_id=request_id,
        retry_after=failure.retry_after_seconds,
        may_have_been_accepted=accepted,
    )
    return CallFailed(failure, error, request.effect)


def redacted_envelope(request: HTTPRequest, response: HTTPResponse) -> ErrorEnvelope:
    """Read the error of a response, without the request's secrets, and with texts that are fit for a row."""
    return _redacted(_envelope_of(request, response), request)


def invalid_response_failure(request: HTTPRequest, reason: str) -> CallFailed:
    """Build the failure for a success status with a body that is not the API's."""
    what = f"the response of {request.host} is not the API's."
    return _malformed(request, InvalidResponse(), what, f"It has a success status, but {reason}.")


def no_response_failure(request: HTTPRequest, stage: Stage, reason: str) -> CallFailed:
    """Build the failure for a call to which no response arrived, or only part of one.

    :param reason: the text of the network's error. It decides which remedy fits.
    """
    failure = NoResponse(stage)
    accepted = may_have_been_accepted(failure, request.effect)
    lines = _lines(
        f"Could not {request.action}: no response from {request.host} ({shorten(reason, 300)}).",
        _money(request, accepted=accepted),
        _network_remedy(stage, reason),
    )
    return CallFailed(failure, APIConnectionError(*lines, may_have_been_accepted=accepted), request.effect)


def _network_remedy(stage: Stage, reason: str) -> str:
    if stage is Stage.CONNECTING and (refused := re.search(r"ProxyError: (\d{3})\b", reason)):
        return _PROXY_REMEDIES.get(int(refused[1]), _PROXY_REMEDY)
    if any(words in reason for words in _NO_HTTP_1):
        return _HTTP_2_ONLY
    if _PLAIN_HTTP in reason:
        return _NO_TLS
    return _STAGE_REMEDIES.get(stage, "")


def _redirect_failure(request: HTTPRequest, response: HTTPResponse) -> CallFailed:
    host = request.redact(host_in(response.headers.get("location", "")) or "an unnamed host")
    what = f"{request.host} responded with {response.status_code}, a redirect to {shorten(host, 100)}."
    return _malformed(request, ErrorResponse(response.status_code), what, "", _REDIRECT_REMEDY)


def _malformed(request: HTTPRequest, failure: Failure, what: str, detail: str, remedy: str = "") -> CallFailed:
    accepted = may_have_been_accepted(failure, request.effect)
    money = _money(request, accepted=accepted)
    lines = _lines(f"Could not {request.action}: {what}", detail, money, remedy)
    return CallFailed(failure, MalformedResponseError(*lines, may_have_been_accepted=accepted), request.effect)


def _lines(*lines: str) -> list[str]:
    return [line for line in lines if line]


def _envelope_of(request: HTTPRequest, response: HTTPResponse) -> ErrorEnvelope:
    if request.platform == "google" and (of_google := google_error(response)) is not None:
        return of_google
    envelope = _envelope(response.body)
    if request.platform != "aws" or envelope.message is not None or (found := aws_error(response)) is None:
        return envelope
    return ErrorEnvelope(ErrorObject(found.code, found.message))


def _request_id(response: HTTPResponse) -> str | None:
    return response.headers.get("request-id") or response.headers.get("x-amzn-requestid")


def _envelope(body: bytes) -> ErrorEnvelope:
    """Read an error in any form: the API's, its edge's, OAuth's (RFC 6749), or none of them."""
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


def _redacted(envelope: ErrorEnvelope, request: HTTPRequest) -> ErrorEnvelope:
    """Mask secrets in an error and shorten its texts, so that it is fit for a log."""
    error, code = envelope.error, _short(envelope.error_code, request)
    message = None if error.message is None else shorten(request.redact(error.message), 500)
    details = {"error_code": code} if code else None
    return ErrorEnvelope(
        ErrorObject(_short(error.type, request), message, details), _short(envelope.request_id, request)
    )


def _short(text: str | None, request: HTTPRequest) -> str | None:
    return None if text is None else shorten(request.redact(text), 100)


def _status(response: HTTPResponse, envelope: ErrorEnvelope) -> str:
    words = [str(response.status_code)]
    if envelope.type is not None:
        words.append(shorten(envelope.type, 60))
    if envelope.error_code:
        words.append(f"({envelope.error_code})")
    return " ".join(words)


def _message(request: HTTPRequest, response: HTTPResponse, envelope: ErrorEnvelope, request_id: str | None) -> str:
    if envelope.type is None:
        body = _describe_body(request, response, show_text=True)
        text = f"{body[0].upper()}{body[1:]}."
    else:
        text = f"Message: {(envelope.message or 'none').rstrip('.')}."
    return f"{text} Request id: {request_id}." if request_id else text


def _describe_body(request: HTTPRequest, response: HTTPResponse, *, show_text: bool) -> str:
    """Describe a body that is not the API's. The text of a success is never shown: it may hold prompts or answers."""
    text = request.redact(response.body[:2000].decode("utf-8", "replace").strip())
    if text.startswith("<"):
        title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
        named = f" ({shorten(title[1], 100)!r})" if title and title[1].strip() else ""
        return f"the body is an HTML page{named}: it looks like a proxy's, or the base URL is wrong"
    shown = f": {shorten(text, 100)!r}" if show_text and text else ""
    return f"the body is {len(response.body)} bytes that are not the API's JSON{shown}"


def _error_class(status_code: int, envelope: ErrorEnvelope) -> type[APIStatusError]:
    if envelope.error_code in SPEND_LIMIT_CODES or envelope.type == "billing_error":
        return BillingError
    message = (envelope.message or "").lower()
    if status_code == 400 and any(words in message for words in _BILLING_WORDS):
        return BillingError
    return _CLASSES.get(status_code, BadRequestError if status_code < 500 else ServerError)


def _remedy(
    request: HTTPRequest, response: HTTPResponse, error_class: type[APIStatusError], envelope: ErrorEnvelope
) -> str:
    status_code = response.status_code
    if request.platform == "aws" and (remedy := aws_remedy(request, response, envelope)):
        return remedy
    if request.platform == "google" and (by_google := google_remedy(request, response, envelope)):
        return by_google
    if error_class is BillingError:
        return _BILLING_REMEDY
    if error_class is AuthenticationError:
        return request.credential_remedy
    if error_class is NotFoundError:
        return request.not_found_remedy
    return _CODE_REMEDIES.get(envelope.error_code or "") or _STATUS_REMEDIES.get(status_code, "")


def _money(request: HTTPRequest, *, accepted: bool) -> str:
    """Say what the failure means for money. After a failed cancel call, the batch may go on and is billed."""
    if request.effect is Effect.READ_ONLY:
        return "This call sends nothing and costs nothing."
    if request.effect is Effect.IDEMPOTENT:
        return ""
    return request.money[0] if accepted else request.money[1]
