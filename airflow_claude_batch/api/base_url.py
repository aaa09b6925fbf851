"""Check the base URL before a credential is sent to it: https anywhere, http on this machine or by consent."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import SplitResult, urlsplit

from airflow_claude_batch.exceptions import ConfigurationError

_EXAMPLE: Final = "Set a base URL like https://api.anthropic.com."
# Anthropic's hosts, and those of the clouds that serve its API. All of them speak https.
_NEVER_PLAIN: Final = ("anthropic.com", "claude.com", "claude.ai", "googleapis.com", "api.aws")
# The API itself, and what the clouds pass on unchanged: SDK, lib/aws/_client.py and lib/google_cloud/_client.py.
_FIRST_PARTY: Final = re.compile(
    r"api\.anthropic\.com|claude\.googleapis\.com|aws-external-anthropic\.[a-z0-9-]+\.api\.aws", re.IGNORECASE
)


def check_base_url(url: str, *, allow_http: bool = False) -> str:
    """Return a base URL to which a credential may be sent, without a slash at its end. It may have a path.

    :param allow_http: the consent of a connection to http. It does not count for Anthropic's own hosts.
    :raises ConfigurationError: the URL is not https (except on loopback and by consent), names no host, or has a
        query, a fragment or a user name.
    """
    parts = _split(url)
    if not parts.hostname:
        raise ConfigurationError("The base URL names no host.", _EXAMPLE)
    if parts.query or parts.fragment:
        raise ConfigurationError("The base URL has a query or a fragment.", _EXAMPLE)
    if "@" in parts.netloc:
        raise ConfigurationError(
            "The base URL holds a user name or password.", "Remove them: they would appear in logs."
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and _may_be_plain(parts.hostname, allow_http)):
        raise ConfigurationError(
            f"The base URL must begin with https:// (its host is {parts.hostname}).",
            "Set an https URL, or the credential would be sent unencrypted. http is only for this machine's addresses.",
            *_consent_remedy(parts, allow_http),
        )
    return url.rstrip("/")


def host_of(url: str) -> str:
    """Return the host of a checked URL, with its port if it names one."""
    return urlsplit(url).netloc


def host_in(text: str) -> str | None:
    """Return the host that a URL of unknown origin names, or None."""
    try:
        return urlsplit(text).hostname
    except ValueError:
        return None


def is_first_party(url: str) -> bool:
    """Tell whether a checked URL leads to Anthropic's own API, or to a cloud that serves it with the same models."""
    return _FIRST_PARTY.fullmatch((host_in(url) or "").rstrip(".")) is not None


def is_loopback(host: str) -> bool:
    """Tell whether a host name means this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_plain_http(url: str) -> bool:
    """Tell whether a checked URL leads to another machine without encryption."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def _may_be_plain(host: str, allow_http: bool) -> bool:
    return is_loopback(host) or (allow_http and not _is_vendors(host))


def _is_vendors(host: str) -> bool:
    return f".{host.rstrip('.')}".endswith(tuple(f".{name}" for name in _NEVER_PLAIN))


def _consent_remedy(parts: SplitResult, allow_http: bool) -> Iterator[str]:
    if parts.scheme != "http":
        return
    if not _is_vendors(parts.hostname or ""):
        yield 'Only a test server or a gateway without TLS needs "allow_http": true in the extra of the connection.'
    elif allow_http:
        yield "allow_http does not count for this host: it serves Claude's API over https."


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (reading it is what checks it)
        (parts.hostname or "").encode("idna")  # the system does this before it looks up a name
    except ValueError:
        raise ConfigurationError("The base URL is not a URL.", _EXAMPLE) from None
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise ConfigurationError("The base URL has a space or a character that a URL cannot have.", _EXAMPLE)
    return parts
