"""Decode the beginning of a JSON text that was cut anywhere."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

_TOKEN: Final = re.compile(rb'\s*(?:("[^"\\]*(?:\\.[^"\\]*)*")|([{\[])|([}\]])|([,:])|([^\s{}\[\],:"]+))', re.DOTALL)
#: The beginning of a string, up to the last whole escape.
_WHOLE_ESCAPES: Final = re.compile(rb'"[^"\\]*(?:\\(?:u[0-9a-fA-F]{4}|[^u])[^"\\]*)*', re.DOTALL)
#: The first half of a surrogate pair, with the backslashes before it.
_HALF_PAIR: Final = re.compile(rb"(\\*)\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
_CLOSERS: Final = {b"{": b"}", b"[": b"]"}


def decode_prefix(data: bytes) -> Any:
    """Return what a cut JSON text says up to the cut. A string that was cut has its beginning.

    >>> decode_prefix(b'{"key":"a","text":"It begi')
    {'key': 'a', 'text': 'It begi'}

    :raises ValueError: the text is not JSON, or too little of it is there.
    """
    try:
        return msgspec.json.decode(complete(data))
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {type(error).__name__}") from None


def complete(data: bytes) -> bytes:
    """Close the open strings, arrays and objects of a JSON text that was cut. A name without a value is left out."""
    walk = _Walk()
    position = 0
    while (token := _TOKEN.match(data, position)) is not None:
        if token.end() == len(data) and token[5] is not None:  # a number may go on after the cut
            break
        walk.take(token)
        position = token.end()
    rest = data[position:].lstrip()
    if rest.startswith(b'"') and walk.expects_value:
        return data[:position] + _without_cut_character(rest) + b'"' + walk.closers
    return data[: walk.whole] + walk.closers


class _Walk:
    """What is open after some tokens, and up to where the text is whole. What comes after that opens nothing."""

    def __init__(self) -> None:
        self._open: list[bytes] = []
        self.expects_value = True
        self.whole = 0

    @property
    def closers(self) -> bytes:
        return b"".join(reversed(self._open))

    def take(self, token: re.Match[bytes]) -> None:
        _, opener, closer, separator, _ = token.groups()
        if opener is not None:
            self._open.append(_CLOSERS[opener])
            self.expects_value = opener == b"["
            self.whole = token.end()
        elif separator is not None:
            self.expects_value = separator == b":" or self._open[-1:] == [b"]"]
        else:
            if closer is not None and self._open:
                self._open.pop()
            if closer is not None or self.expects_value:
                self.expects_value = False
                self.whole = token.end()


def _without_cut_character(text: bytes) -> bytes:
    """Leave out an escape or a character that was cut, at the end of a string."""
    whole = _WHOLE_ESCAPES.match(text)
    assert whole is not None, "it begins with a quotation mark"  # noqa: S101
    text = whole[0]
    half = _HALF_PAIR.search(text)
    if half is not None and len(half[1]) % 2 == 0:
        text = text[: half.end(1)]
    return text.decode("utf-8", "ignore").encode()
