"""Recognize what people write as a host although the API is not there."""

from __future__ import annotations

import re
from typing import Final

from airflow_claude_batch.api.base_url import host_in
from airflow_claude_batch.exceptions import ConfigurationError

_QUOTED: Final = re.compile(r"^[\"'`<\u2018-\u201f]|[\"'`>\u2018-\u201f]$")
#: A scheme with a mistake: "https:/host", "https//host", "https:host", "https;//host".
_BROKEN_SCHEME: Final = re.compile(r"^https?(?:[:;]/{0,3}|/{1,2})(?=[\w.-])", re.IGNORECASE)
_CALL_PATH: Final = re.compile(r"/v1/(?:messages|models|complete|oauth)\b")
#: Sites of Anthropic's for people. The API has a host of its own.
_WEB_SITES: Final = frozenset(
    {
        "anthropic.com",
        "claude.ai",
        "claude.com",
        "console.anthropic.com",
        "docs.anthropic.com",
        "docs.claude.com",
        "platform.claude.com",
        "www.anthropic.com",
        "www.claude.com",
    }
)


def check_host(host: str) -> None:
    """Raise if the text of a connection's host is not an address of the API.

    :raises ConfigurationError: says what is wrong, and what to write.
    """
    if _QUOTED.search(host):
        raise ConfigurationError("it has quotation marks or brackets around it.", "Remove them.")
    if "://" not in host and (broken := _BROKEN_SCHEME.match(host)):
        raise ConfigurationError(
            f"it begins with {broken[0]!r}, which is not a scheme.", f"Write https://{host[broken.end() :][:60]}."
        )
    if path := _CALL_PATH.search(host):
        raise ConfigurationError(
            f"it has {path[0]}, which is the path of a call.", "Remove all from /v1 on: every call adds its path."
        )
    if host_in(host if "://" in host else f"https://{host}") in _WEB_SITES:
        raise ConfigurationError(
            "it is a web site of Anthropic's, not the API.", "Leave host empty, or write https://api.anthropic.com."
        )
