"""Errors of Claude Platform on AWS: what AWS says before a call reaches the API, and what to do then.

AWS checks signatures and permissions itself, and its errors do not have the API's form. So they prove nothing about a
create call (:mod:`~airflow_claude_batch.api.evidence`), and only their words are used here. The words are those of
AWS's services; build-with-claude/claude-platform-on-aws and its IAM actions, 2026-11.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from airflow_claude_batch.api.http import HTTPRequest, HTTPResponse
from airflow_claude_batch.api.wire import ErrorEnvelope

#: How far a signature's time may be off. AWS's own limit.
MAX_SKEW: Final = timedelta(minutes=5)

_BATCHES: Final = r"/v1/messages/batches"
# The IAM action of each call; claude-platform-on-aws-iam-actions, 2026-11.
_ACTIONS: Final = tuple(
    (method, re.compile(f"{pattern}$"), action)
    for method, pattern, action in (
        ("POST", _BATCHES, "CreateBatchInference"),
        ("GET", _BATCHES, "ListBatchInferences"),
        ("POST", rf"{_BATCHES}/[^/]+/cancel", "CancelBatchInference"),
        ("DELETE", rf"{_BATCHES}/[^/]+", "DeleteBatchInference"),
        ("GET", rf"{_BATCHES}/[^/]+(/results)?", "GetBatchInference"),
        ("POST", r"/v1/messages/count_tokens", "CountTokens"),
        ("POST", r"/v1/messages", "CreateInference"),
        ("GET", r"/v1/models", "ListModels"),
        ("GET", r"/v1/models/[^/]+", "GetModel"),
    )
)
_XML: Final = re.compile(r"<Code>(?P<code>[^<]*)</Code>\s*<Message>(?P<message>[^<]*)</Message>")
_SKEW: Final = re.compile(r"Signature expired|Signature not yet current|RequestExpired|RequestTimeTooSkewed|too skewed")
_DENIED: Final = re.compile(r"not authorized to perform:? (?:[\w-]+:)?(?P<action>\w+)")
_BAD_KEYS: Final = re.compile(
    r"security token included in the request is|ExpiredToken|UnrecognizedClient|InvalidClient"
)
_BAD_SIGNATURE: Final = re.compile(
    r"signature we calculated|SignatureDoesNotMatch|InvalidSignature|IncompleteSignature"
)
_FEDERATION: Final = re.compile(r"Outbound web identity federation is disabled", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AwsError:
    """What an error of AWS says."""

    code: str | None
    message: str


def aws_error(response: HTTPResponse) -> AwsError | None:
    """Read an error in one of the forms of AWS's services: JSON with a message, or XML. None if it has another."""
    text = response.body.decode("utf-8", "replace")
    if found := _XML.search(text):
        return AwsError(found["code"], found["message"])
    try:
        body: Any = msgspec.json.decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    message = body.get("message", body.get("Message"))
    if not isinstance(message, str):
        return None
    code = response.headers.get("x-amzn-errortype") or body.get("__type") or body.get("code")
    return AwsError(code.partition(":")[0].rpartition("#")[2] if isinstance(code, str) else None, message)


def aws_remedy(request: HTTPRequest, response: HTTPResponse, envelope: ErrorEnvelope) -> str:
    """Say what to do about an error of AWS, in its own words or in the API's. Empty if nothing is known of it."""
    words = f"{envelope.type or ''} {envelope.message or ''}"
    if _FEDERATION.search(words):
        return "Enable it once for the AWS account: aws iam enable-outbound-web-identity-federation"
    if response.status_code not in (400, 401, 403):
        return ""
    skew = _skew(request, response)
    if skew is not None and (abs(skew) > MAX_SKEW or _SKEW.search(words)):
        return _skew_remedy(request, skew)
    if _SKEW.search(words):
        return "Synchronize this machine's clock with NTP: AWS accepts signatures of the last five minutes only."
    if _BAD_KEYS.search(words):
        return request.credential_remedy
    if _BAD_SIGNATURE.search(words):
        return (
            f"{request.credential_remedy}\nAlso check the region, and that no proxy changes the host, the path, the "
            "body or the anthropic- headers of a request."
        )
    return _permission_remedy(request, words) if response.status_code == 403 else ""


def _skew(request: HTTPRequest, response: HTTPResponse) -> timedelta | None:
    """Return by how much AWS's clock was ahead when it responded. None if one of the two times is unknown."""
    try:
        signed_at = datetime.strptime(request.headers.get("x-amz-date", ""), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return response.server_time - signed_at if response.server_time else None


def _skew_remedy(request: HTTPRequest, skew: timedelta) -> str:
    seconds = round(abs(skew.total_seconds()))
    side = "behind" if skew > timedelta(0) else "ahead of"
    upload = (
        "\nIf the clock is right, sending took that long: lower max_batch_bytes in the connection."
        if request.body is not None and skew > timedelta(0)
        else ""
    )
    off = f"This machine's clock is {seconds} s {side} AWS's, which accepts five minutes."
    return f"{off} Synchronize it with NTP.{upload}"


def _permission_remedy(request: HTTPRequest, words: str) -> str:
    denied = _DENIED.search(words)
    action = denied["action"] if denied else _action_of(request)
    if action is None:
        return ""
    bearer = (
        ", and aws-external-anthropic:CallWithBearerToken for an API key" if action != "CallWithBearerToken" else ""
    )
    return (
        f"Allow the IAM action aws-external-anthropic:{action} on the workspace{bearer}. "
        "Check that the workspace is in the region of the connection."
    )


def _action_of(request: HTTPRequest) -> str | None:
    path = request.url.partition("?")[0]
    found = (action for method, pattern, action in _ACTIONS if method == request.method and pattern.search(path))
    return next(found, None)
