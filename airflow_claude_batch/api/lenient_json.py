"""Read JSON objects that are not quite JSON, and write them as standard JSON. Slow: only for lines that are odd.

An answer may hold what JSON does not allow or what readers refuse: half a surrogate pair, ``NaN``, a number beyond
every range, bytes that are not UTF-8, control characters, lists in lists without end. The rest of it is worth reading.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

import msgspec

#: Objects and lists inside each other. Readers recurse, and Python allows about a thousand calls in all.
MAX_DEPTH: Final = 200

_TOKEN: Final = re.compile(
    rb"""[ \t\r\n]*(?:
        (?P<string>"[^"\\]*+(?:\\.[^"\\]*+)*+")
        | (?P<open>[\[{]) | (?P<close>[\]}]) | (?P<mark>[,:])
        | (?P<word>true|false|null)
        | (?P<number>[+-]?(?:\.?[0-9][0-9.eE+-]*+|Infinity|NaN))
    )""",
    re.DOTALL | re.VERBOSE,
)
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_BRACKET: Final = re.compile(rb"[\[{]|[\]}]")
_INVALID_ESCAPE: Final = re.compile(r'\\(?:u(?![0-9a-fA-F]{4})|[^"\\/bfnrtu])')
_CONTROL: Final = re.compile(r"[\x00-\x1f]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

LONE_SURROGATE: Final = "half a surrogate pair"
NOT_UTF8: Final = "bytes that are not UTF-8"
CONTROL_CHARACTER: Final = "an unescaped control character"
INVALID_ESCAPE: Final = "an invalid escape"
INVALID_NUMBER: Final = "a number that JSON or its readers do not allow"
TOO_DEEP: Final = f"objects or lists inside each other more than {MAX_DEPTH} times"
#: What the API itself does not write. It may come from a transport that damages bytes.
_SUSPECT: Final = frozenset({NOT_UTF8, CONTROL_CHARACTER, INVALID_ESCAPE})


@dataclass(frozen=True, slots=True)
class LenientObject:
    """An object as standard JSON.

    :param json: the object. U+FFFD stands for what is no character, a string for a number that cannot be read, and
        null for what is too deep.
    :param end: the place in the data just behind the object.
    :param problems: what had to be replaced.
    """

    json: bytes
    end: int
    problems: frozenset[str]

    @property
    def may_be_damaged(self) -> bool:
        """Tell whether a transport may have damaged the object, so that reading it again may help."""
        return not self.problems.isdisjoint(_SUSPECT)


def read_object(data: bytes, start: int = 0) -> LenientObject | None:
    """Read the object that begins at ``start``. None if there is none, not even a damaged one that can be read."""
    pieces: list[bytes] = []
    problems: set[str] = set()
    place, depth = start, 0
    while (token := _TOKEN.match(data, place)) is not None:
        place, kind, text = token.end(), token.lastgroup, token[token.lastindex or 0]
        if not depth and text != b"{":
            return None
        if kind == "open":
            depth += 1
            if depth == MAX_DEPTH + 1:
                problems.add(TOO_DEEP)
                pieces.append(b"null")
        if depth <= MAX_DEPTH:
            pieces.append(_standard(kind, text, problems))
        if kind == "close":
            depth -= 1
            if not depth:
                return _checked(LenientObject(b"".join(pieces), place, frozenset(problems)))
    return None


def is_too_deep(data: bytes | msgspec.Raw) -> bool:
    """Tell whether valid JSON has objects or lists inside each other more than ``MAX_DEPTH`` times. Mostly fast."""
    data = bytes(data)
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def replace_surrogates(text: str) -> str:
    """Join the halves of surrogate pairs, and replace those without another half by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _checked(value: LenientObject) -> LenientObject | None:
    try:
        msgspec.json.decode(value.json)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return value


def _standard(kind: str | None, text: bytes, problems: set[str]) -> bytes:
    """Return a token as JSON."""
    if kind not in ("string", "number"):
        return text
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        if kind == "string":
            return _standard_string(text, problems)
        problems.add(INVALID_NUMBER)
        return b'"%b"' % text
    return text


def _standard_string(token: bytes, problems: set[str]) -> bytes:
    try:
        text = token.decode()
    except UnicodeDecodeError:
        problems.add(NOT_UTF8)
        text = token.decode(errors="replace")
    if _INVALID_ESCAPE.search(text):
        problems.add(INVALID_ESCAPE)
        text = _escape_backslashes(text)
    if _CONTROL.search(text):
        problems.add(CONTROL_CHARACTER)
    value = json.loads(text, strict=False)
    if _SURROGATE.search(value):
        problems.add(LONE_SURROGATE)
        value = replace_surrogates(value)
    return msgspec.json.encode(value)


def _escape_backslashes(text: str) -> str:
    """Double each backslash that begins no valid escape."""
    return re.sub(
        r"(?s)\\(.)",
        lambda match: "\\" + match[0] if _INVALID_ESCAPE.match(text, match.start()) else match[0],
        text,
    )
