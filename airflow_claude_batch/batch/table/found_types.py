"""Find out what types the columns of a new table need, from the values of all rows."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

from airflow_claude_batch.batch.table.column import Kind
from airflow_claude_batch.batch.table.paths import RowPath

_BIGINT: Final = range(-(2**63), 2**63)
#: Type words of kept columns, which the submission's folder has, and the kinds of their columns.
KEPT_KINDS: Final = {
    "boolean": Kind.BOOLEAN,
    "integer": Kind.INTEGER,
    "number": Kind.FLOAT,
    "decimal": Kind.NUMBER,
    "text": Kind.TEXT,
    "date": Kind.DATE,
    "time": Kind.TIME,
    "timestamp": Kind.TIMESTAMP,
    "timestamp_tz": Kind.TIMESTAMP_TZ,
    "json": Kind.JSON,
}
_NUMBERS: Final = (Kind.INTEGER, Kind.NUMBER, Kind.FLOAT)  # each takes what the ones before it take


def known_kind(path: RowPath, kept_types: dict[str, str]) -> Kind | None:
    """Return the kind of values at a path, if it is known without any row."""
    if path.root == "cost_usd":
        return Kind.NUMBER
    if path.root == "index":
        return Kind.INTEGER
    if path.root == "input" and len(path.steps) == 1:
        return KEPT_KINDS.get(kept_types.get(str(path.steps[0]), ""))
    return None


def joined_kind(known: Kind | None, value: Any) -> Kind | None:
    """Return the kind that takes a value too, beside those seen before.

    >>> joined_kind(Kind.INTEGER, 0.5)
    <Kind.FLOAT: 'float'>

    :param known: the kind of the values before, None if there were none.
    """
    if value is None:
        return known
    kind = _kind_of(value)
    if known is None or known is kind:
        return kind
    if known in _NUMBERS and kind in _NUMBERS:
        return max(known, kind, key=_NUMBERS.index)
    return Kind.JSON if Kind.JSON in (known, kind) else Kind.TEXT


def _kind_of(value: Any) -> Kind:
    match value:
        case bool():
            return Kind.BOOLEAN
        case int():
            return Kind.INTEGER if value in _BIGINT else Kind.NUMBER
        case float():
            return Kind.FLOAT
        case Decimal():
            return Kind.NUMBER
        case datetime():
            return Kind.TIMESTAMP_TZ if value.tzinfo else Kind.TIMESTAMP
        case date():
            return Kind.DATE
        case time():
            return Kind.TIME
        case str():
            return Kind.TEXT
    return Kind.JSON
