"""Check the base URL before a credential is sent to it: https anywhere, http on this machine only."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import SplitResult, urlsplit

from airflow_claude_batch.exceptions import ConfigurationError

_EXAMPLE: Final = "Set a base URL like https://api.anthropic.com."


def check_base_url(url: str) -> str:
    """Return a base URL to which a credential may be sent, without a slash at its end. It may have a path.

    :raises ConfigurationError: the URL is not https (except on loopback), names no host, or has a query, a fragment
        or a user name.
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
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise ConfigurationError(
            f"The base URL must begin with https:// (its host is {parts.hostname}).",
            "Set an https URL, or the credential would be sent unencrypted. http is only for this machine's addresses.",
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


def is_loopback(host: str) -> bool:
    """Tell whether a host name means this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
