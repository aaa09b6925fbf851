"""Encodes a value as JSON, byte for byte as Python's ``json`` does. Requests are known by the hash of these bytes.

``json`` refuses dates, bytes, NaN and the like. ``msgspec`` is several times as fast, but silently turns such values
into something that the author did not write, and writes floats in another form. So it encodes only values that both
write alike.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from airflow_claude_batch.batch.input.json_errors import exact_integer

# Made once: json.dumps makes one for every call.
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=exact_integer)
_STRINGS: Final = frozenset({str})
_SCALARS: Final = frozenset({str, int, bool, type(None)})


def encode_json(value: Any) -> bytes:
    """Encode a value.

    >>> encode_json({"prompt": "Où ?", "n": [1, 0.5]}).decode()
    '{"prompt":"Où ?","n":[1,0.5]}'

    :raises TypeError, ValueError, RecursionError: it is not JSON.
    """
    return _encode_if_alike(value) or _ENCODER.encode(value).encode()


def _encode_if_alike(value: Any) -> bytes | None:
    """Encode a value that both encoders write alike. None if they may not, or if it is not JSON."""
    try:
        return msgspec.json.encode(value) if _is_alike(value) else None
    except (ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return None


def _is_alike(value: Any) -> bool:
    kind = type(value)  # a subclass may be written in any form
    if kind is dict and _STRINGS.issuperset(map(type, value)):
        value = value.values()
    elif kind is not list:
        return kind in _SCALARS
    for inner in value:  # noqa: SIM110  # all(…) takes twice the time
        if type(inner) not in _SCALARS and not _is_alike(inner):
            return False
    return True
