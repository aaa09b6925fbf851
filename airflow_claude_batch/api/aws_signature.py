"""AWS Signature Version 4: the headers that sign a request. Pure functions.

Own code and not botocore's, because botocore holds the body. Here its hash is made piece by piece, in an extra pass.
Source: IAM User Guide, "Create a signed AWS API request", 2026-11. botocore judges the results in the tests.

Of the headers, only those are signed that no proxy on the way changes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlsplit

from airflow_claude_batch.api.request_body import RequestBody

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_SIGNED_HEADERS: Final = frozenset({"content-type", "host"})
_SIGNED_PREFIXES: Final = ("anthropic-", "x-amz-")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """Keys of AWS that sign requests. Keys of a role have a session token, and end with it."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SigningScope:
    """The region and the service for which a signature holds."""

    region: str
    service: str


def signature_headers(
    method: str,
    url: str,
    headers: Mapping[str, str],
    *,
    body_hash: str,
    keys: AwsKeys,
    scope: SigningScope,
    now: datetime,
) -> dict[str, str]:
    """Return the headers that sign a request: ``authorization``, ``x-amz-date`` and perhaps ``x-amz-security-token``.

    :param headers: those of the request. The host is taken from the URL.
    :param body_hash: see :func:`hash_body`.
    :param now: the wall clock. AWS refuses a signature that is more than five minutes off.
    """
    timestamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    added = {"x-amz-date": timestamp}
    if keys.session_token:
        added["x-amz-security-token"] = keys.session_token
    signed = dict(sorted(_signed_headers({**headers, "host": _host(url), **added})))
    names = ";".join(signed)
    canonical = "\n".join(
        [
            method,
            _canonical_path(urlsplit(url).path),
            _canonical_query(urlsplit(url).query),
            *(f"{name}:{value}" for name, value in signed.items()),
            "",
            names,
            body_hash,
        ]
    )
    credential = "/".join([timestamp[:8], scope.region, scope.service, "aws4_request"])
    to_sign = "\n".join([_ALGORITHM, timestamp, credential, hashlib.sha256(canonical.encode()).hexdigest()])
    signature = hmac.new(_signing_key(keys.secret_key, credential), to_sign.encode(), hashlib.sha256).hexdigest()
    return {
        "authorization": f"{_ALGORITHM} Credential={keys.access_key}/{credential}, SignedHeaders={names}, "
        f"Signature={signature}",
        **added,
    }


def hash_body(body: RequestBody | None) -> str:
    """Return the hash of a body, read piece by piece.

    :raises UploadStopped: the body cannot be read as announced, or its deadline has passed.
    """
    digest = hashlib.sha256()
    for chunk in body.chunks() if body is not None else ():
        digest.update(chunk)
    return digest.hexdigest()


def _signed_headers(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in headers.items():
        lower = name.lower()
        if lower in _SIGNED_HEADERS or lower.startswith(_SIGNED_PREFIXES):
            yield lower, " ".join(value.split())


def _host(url: str) -> str:
    """Return the host header as HTTP clients send it: without the scheme's own port."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if parts.port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f"{host}:{parts.port}"


def _canonical_path(path: str) -> str:
    """Return the path without dot segments and empty segments, encoded once more, as AWS does for all but S3."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    end = "/" if path.endswith("/") and kept else ""
    return quote(f"/{'/'.join(kept)}{end}", safe="/~")


def _canonical_query(query: str) -> str:
    """Return the query sorted by names and values, which are encoded already."""
    pairs = (pair.partition("=") for pair in query.split("&") if query)
    return "&".join(f"{name}={value}" for name, value in sorted((name, value) for name, _, value in pairs))


def _signing_key(secret_key: str, credential: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in credential.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
