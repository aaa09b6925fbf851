"""Compare JSON by its content: the order of an object's keys means nothing.

Keys are sorted at all levels, those of a JSON schema too. A model may fill in the properties of a schema in their
order, but a changed order alone is not worth paying for every answer again. The order of a list is content. Numbers
are compared as they are written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

# A float keeps the digits that it was written with.
_DECODER: Final = msgspec.json.Decoder(float_hook=lambda digits: msgspec.Raw(digits.encode()))


def canonical(params: bytes, change: Callable[[Any], Any] = lambda value: value) -> bytes:
    """Write JSON so that the same content in another key order has the same bytes.

    :param change: returns what to write in place of the decoded value. Its floats are ``msgspec.Raw``.
    """
    try:
        return msgspec.json.encode(change(_DECODER.decode(params)), order="sorted")
    except (msgspec.MsgspecError, RecursionError):  # what cannot be read here equals only itself
        return params


def hash_content(params: bytes) -> bytes:
    """Hash JSON so that the same content in another key order has the same hash, 16 bytes."""
    return hashlib.blake2b(canonical(params), digest_size=16).digest()
