"""Checks the formats of an output schema that the API takes: the same checks with every set of installed libraries.

They follow RFC 3339 and the RFCs that JSON Schema 2020-12 names. They are laxer in what pydantic's types take too, for
an answer was paid for: a time may have no offset, and a URI may have letters beyond ASCII. Other formats are not
asserted, as JSON Schema has it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Callable
from datetime import date, time
from typing import Final
from urllib.parse import urlsplit

from jsonschema import FormatChecker

_DATE: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_TIME: Final = re.compile(r"(\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?(?:[Zz]|[+-](\d\d):?(\d\d))?", re.ASCII)
_DURATION: Final = re.compile(
    r"[+-]?P(?=\d|T\d)(?:\d+(?:[.,]\d+)?Y)?(?:\d+(?:[.,]\d+)?M)?(?:\d+(?:[.,]\d+)?W)?(?:\d+(?:[.,]\d+)?D)?"
    r"(?:T(?=\d)(?:\d+(?:[.,]\d+)?H)?(?:\d+(?:[.,]\d+)?M)?(?:\d+(?:[.,]\d+)?S)?)?",
    re.ASCII,
)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[^\s\x00-\x20\x7f<>\"{}|\\^`%]|%[0-9A-Fa-f]{2})*")
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_MOST_HOST_CHARACTERS: Final = 253
_LEAP_SECOND: Final = 60


def is_date(text: str) -> bool:
    """Tell whether a text is a ``full-date``, such as 2026-11-29."""
    found = _DATE.fullmatch(text)
    with contextlib.suppress(ValueError):
        return found is not None and bool(date(*map(int, found.groups())))
    return False


def is_time(text: str) -> bool:
    """Tell whether a text is a ``full-time``, such as 09:30:00Z. The seconds and the offset may be missing."""
    found = _TIME.fullmatch(text)
    if found is None:
        return False
    hour, minute, second, *offset = (int(part or 0) for part in found.groups())
    with contextlib.suppress(ValueError):
        time(hour, minute, min(second, _LEAP_SECOND - 1))
        time(offset[0], offset[1])
        return second <= _LEAP_SECOND
    return False


def is_date_time(text: str) -> bool:
    """Tell whether a text is a date and a time, with a T or a space between them."""
    return text[10:11] in tuple("Tt ") and is_date(text[:10]) and is_time(text[11:])


def is_duration(text: str) -> bool:
    """Tell whether a text is an ISO 8601 duration, such as P1DT2H30M. It may have a sign and fractions."""
    return _DURATION.fullmatch(text) is not None


def is_email(text: str) -> bool:
    """Tell whether a text may be an address: something, an ``@``, and something without spaces."""
    local, _, domain = text.rpartition("@")
    is_quoted = len(local) > 1 and local[0] == local[-1] == '"'
    return bool(local and domain) and not re.search(r"\s", domain) and (is_quoted or not re.search(r"[\s@]", local))


def is_hostname(text: str) -> bool:
    """Tell whether a text is a host's name of RFC 1123."""
    return len(text) <= _MOST_HOST_CHARACTERS and all(map(_LABEL.fullmatch, text.removesuffix(".").split(".")))


def is_uri(text: str) -> bool:
    """Tell whether a text is a URI: it has a scheme, and no spaces."""
    with contextlib.suppress(ValueError):
        return _URI.fullmatch(text) is not None and bool(urlsplit(text))
    return False


def is_uuid(text: str) -> bool:
    """Tell whether a text is a UUID with its four hyphens."""
    return _UUID.fullmatch(text) is not None


def is_ipv4(text: str) -> bool:
    """Tell whether a text is an IPv4 address."""
    with contextlib.suppress(ValueError):
        return bool(str(ipaddress.IPv4Address(text)))
    return False


def is_ipv6(text: str) -> bool:
    """Tell whether a text is an IPv6 address, without a zone."""
    with contextlib.suppress(ValueError):
        return not ipaddress.IPv6Address(text).scope_id
    return False


_CHECKS: Final[dict[str, Callable[[str], bool]]] = {
    "date": is_date,
    "time": is_time,
    "date-time": is_date_time,
    "duration": is_duration,
    "email": is_email,
    "hostname": is_hostname,
    "uri": is_uri,
    "uuid": is_uuid,
    "ipv4": is_ipv4,
    "ipv6": is_ipv6,
}


def _checker() -> FormatChecker:
    """Return jsonschema's checker with these checks in place of its own, which depend on what is installed."""
    checker = FormatChecker(formats=())
    for name, check in _CHECKS.items():
        checker.checks(name)(_of_texts(check))
    return checker


def _of_texts(check: Callable[[str], bool]) -> Callable[[object], bool]:
    return lambda value: not isinstance(value, str) or check(value)


FORMATS: Final = _checker()
