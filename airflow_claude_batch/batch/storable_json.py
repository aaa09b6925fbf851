"""Check that JSON fits into the stores of Airflow: XCom, trigger events and task state.

An answer may hold any JSON, and each store has its limits:

* PostgreSQL's JSONB has no NUL and no lone surrogates in texts. A large float comes back as an integer.
* MySQL's JSON has at most 100 levels.
* A task hands its XCom over as msgpack, whose integers have 64 bits.
* Airflow's serializer takes objects with certain keys for Python objects of its own.
"""

from __future__ import annotations

import re
from typing import Any, Final

_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
#: Less than MySQL's 100: the store adds levels of its own.
MAX_LEVELS: Final = 90
_INTEGERS: Final = range(-(2**63), 2**64)
#: ``airflow.sdk.serde`` and its predecessor (Airflow 3.0 to 3.3).
RESERVED_KEYS: Final = frozenset({"__classname__", "__id__", "__type", "__var"})


def is_storable(value: Any, levels: int = MAX_LEVELS) -> bool:
    """Return whether every store of Airflow takes the value and gives it back unchanged.

    :param levels: how deep lists and objects may be nested.
    """
    match value:
        case str():
            return _UNSTORABLE.search(value) is None
        case bool() | None:
            return True
        case int():
            return value in _INTEGERS
        case float():
            return abs(value) < _INTEGERS.stop
        case dict():
            if not levels or not RESERVED_KEYS.isdisjoint(value):
                return False
            return all(is_storable(key) and is_storable(item, levels - 1) for key, item in value.items())
        case list():
            return levels > 0 and all(is_storable(item, levels - 1) for item in value)
    return True


def storable_text(text: str) -> str:
    """Return the text with U+FFFD for every character that a store of Airflow refuses."""
    return _UNSTORABLE.sub("\ufffd", text)


def storable_names(value: Any) -> Any:
    """Return the JSON value with every text and key as :func:`storable_text` returns them."""
    match value:
        case str():
            return storable_text(value)
        case dict():
            return {storable_text(key): storable_names(item) for key, item in value.items()}
        case list():
            return [storable_names(item) for item in value]
    return value
