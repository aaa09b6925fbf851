"""Keep secrets out of log lines and error messages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

#: Characters. A shorter value is not masked: masking a header's "true" would make every log unreadable.
SHORTEST_SECRET: Final = 8

_SECRET: Final = re.compile(
    r"\bsk-[\w.*-]{6,}|eyJ[\w-]+\.[\w-]+\.[\w-]*|(?i:bearer|basic)\s+[\w+/=.~-]{6,}|(?<=://)[^/\s@]+@"
)


def mask(text: str, secrets: Iterable[str]) -> str:
    """Replace the secrets in a text with ``***``."""
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            text = re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE)
    return text


def shorten(text: str, length: int) -> str:
    """Make text of unknown origin fit for a log: one printable line of at most ``length`` characters.

    Whatever looks like an API key, a token or a password in a URL is masked.
    """
    line = " ".join(_SECRET.sub("***", text).split())
    clean = "".join(character if character.isprintable() else "?" for character in line)
    return clean if len(clean) <= length else clean[: length - 3] + "..."
