"""Verifies Signature Version 4, from what arrived. An own reading of AWS's documentation, as AWS words its refusals."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote_to_bytes

from airflow_claude_batch.simulator.http.errors import APIError
from airflow_claude_batch.simulator.http.exchange import Body, Request, Response, json_response

SERVICE = "aws-external-anthropic"
_WINDOW = timedelta(minutes=5)
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<key>[^/, ]+)/(?P<date>\d{8})/(?P<region>[^/, ]*)/(?P<service>[^/, ]*)/"
    r"(?P<end>[^/, ]*), *SignedHeaders=(?P<headers>[a-z0-9;-]+), *Signature=(?P<signature>[0-9a-f]{64})"
)
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)
_STEP_BYTES = 1 << 20


class AwsError(APIError):
    """AWS refuses a call before it reaches the API. Its error does not have the API's form."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, message, kind=code)

    def response(self, request_id: str) -> Response:
        """Build the response in the form of AWS's services with JSON."""
        headers = {"x-amzn-errortype": self.kind, "x-amzn-requestid": request_id}
        return json_response({"message": self.message}, status=self.status, headers=headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsKey:
    """A secret access key. Those of a role have a session token too, and end."""

    secret: str
    session_token: str | None = None
    expires_at: datetime | None = None


def verify_signature(request: Request, keys: Mapping[str, AwsKey | str], *, region: str, now: datetime) -> None:
    """Refuse a call whose signature is not that of one of the keys.

    :raises AwsError: 403, with AWS's words for what is wrong.
    """
    text = request.headers.get("authorization")
    if text is None:
        raise AwsError(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    found = _AUTHORIZATION.fullmatch(text)
    signed_at = _time(request.headers.get("x-amz-date", ""))
    if found is None or signed_at is None:
        raise AwsError(403, "IncompleteSignatureException", "Authorization header or X-Amz-Date is incomplete.")
    names = found["headers"].split(";")
    _check_scope(found, request.headers["x-amz-date"], region)
    _check_signed(names, request.headers)
    key = _key(found["key"], keys, request.headers.get("x-amz-security-token"), now)
    _check_time(signed_at, now)
    to_sign = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            request.headers["x-amz-date"],
            f"{found['date']}/{found['region']}/{found['service']}/aws4_request",
            hashlib.sha256(_canonical(request, names).encode("latin-1")).hexdigest(),
        ]
    )
    made = ("AWS4" + key.secret).encode()
    for part in (found["date"], region, SERVICE, "aws4_request", to_sign):
        made = hmac.digest(made, part.encode("latin-1"), "sha256")
    if not hmac.compare_digest(made.hex(), found["signature"]):
        raise AwsError(403, "InvalidSignatureException", _MISMATCH)


def _time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _check_scope(found: re.Match[str], date: str, region: str) -> None:
    wrong = ""
    if found["region"] != region:
        wrong = f"a valid region, not '{found['region']}'."
    elif found["service"] != SERVICE:
        wrong = f"correct service: '{SERVICE}'."
    elif found["end"] != "aws4_request":
        wrong = "have a terminator 'aws4_request'."
    elif not date.startswith(found["date"]):
        wrong = "the date of X-Amz-Date."
    if wrong:
        raise AwsError(403, "InvalidSignatureException", f"Credential should be scoped to {wrong}")


def _check_signed(names: list[str], headers: Mapping[str, str]) -> None:
    """Refuse a call with a header that must be signed and is not: what a thief of a signature could change."""
    needed = {"host", *(name for name in headers if name.startswith("x-amz-"))}
    if names != sorted(set(names)) or not needed <= set(names):
        message = "'Host' and the X-Amz- headers must be 'SignedHeader's in the AWS Authorization."
        raise AwsError(403, "InvalidSignatureException", message)


def _key(name: str, keys: Mapping[str, AwsKey | str], token: str | None, now: datetime) -> AwsKey:
    found = keys.get(name)
    key = AwsKey(secret=found) if isinstance(found, str) else found
    if key is None or key.session_token != token:
        raise AwsError(403, "UnrecognizedClientException", "The security token included in the request is invalid.")
    if key.expires_at is not None and now >= key.expires_at:
        raise AwsError(403, "ExpiredTokenException", "The security token included in the request is expired")
    return key


def _check_time(signed_at: datetime, now: datetime) -> None:
    if signed_at < now - _WINDOW:
        words = "expired", "is now earlier than", now - _WINDOW, "-"
    elif signed_at > now + _WINDOW:
        words = "not yet current", "is still later than", now + _WINDOW, "+"
    else:
        return
    what, than, limit, sign = words
    message = f"Signature {what}: {_stamp(signed_at)} {than} {_stamp(limit)} ({_stamp(now)} {sign} 5 min.)"
    raise AwsError(403, "InvalidSignatureException", message)


def _stamp(at: datetime) -> str:
    return at.strftime("%Y%m%dT%H%M%SZ")


def _canonical(request: Request, names: Iterable[str]) -> str:
    path, _, query = (request.target or request.path).partition("?")
    pairs = sorted(
        tuple(_encoded(unquote_to_bytes(part)) for part in pair.partition("=")[::2]) for pair in query.split("&")
    )
    headers = [f"{name}:{' '.join(request.headers.get(name, '').split())}" for name in names]
    return "\n".join(
        [
            request.method,
            _canonical_path(path),
            "&".join(f"{name}={value}" for name, value in pairs) if query else "",
            *headers,
            "",
            ";".join(names),
            _body_hash(request.body or b""),
        ]
    )


def _canonical_path(path: str) -> str:
    """Return the path as AWS's services but S3 sign it: normalized, then each part encoded once more."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part not in ("", ".", ".."):
            parts.append(part)
    slash = "/" if parts and path.endswith("/") else ""
    return "/" + "/".join(_encoded(part.encode("latin-1")) for part in parts) + slash


def _encoded(data: bytes) -> str:
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in data)


def _body_hash(body: Body) -> str:
    digest = hashlib.sha256()
    for start in range(0, len(body), _STEP_BYTES):
        digest.update(body[start : start + _STEP_BYTES])
    return digest.hexdigest()
