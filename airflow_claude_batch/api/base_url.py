"""Where calls may go: https anywhere, plain http on this machine only."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

from airflow_claude_batch.exceptions import ConfigurationError


def check_base_url(url: str) -> str:
    """Give back a base URL to which a credential may be sent, without a slash at its end; it may have a path.

    :raises ConfigurationError: not https (except on loopback), no host, or something in it that does not belong.
    """
    parts = _split(url)
    if not parts.hostname or parts.query or parts.fragment:
        raise ConfigurationError("the base URL must be like https://api.anthropic.com, with no query or fragment")
    if "@" in parts.netloc:
        raise ConfigurationError("the base URL must not hold a user name or password: they would end up in logs")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise ConfigurationError(
            f"the base URL must begin with https:// (its host is {parts.hostname}): over anything else the "
            "credential would travel readable. Plain http is for this machine's own addresses"
        )
    return url.rstrip("/")


def host_of(url: str) -> str:
    """The host, and port if there is one, of a URL that has been checked."""
    return urlsplit(url).netloc


def host_in(text: str) -> str | None:
    """The host that a URL of unknown origin names, None if it names none."""
    try:
        return urlsplit(text).hostname
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether a host name means this machine."""
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
        (parts.hostname or "").encode("idna")  # as the system does before it looks a name up
    except ValueError:
        raise ConfigurationError("the base URL is not a URL") from None
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise ConfigurationError("the base URL has a blank or a character that does not belong in a URL")
    return parts
