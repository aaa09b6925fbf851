"""Convert rows to the records of a table, and back. A record has a value for each column of a :class:`.RowLayout`.

Invariant: a row comes back as it was. After a record is made, it is read again, and each field that differs from the
row's JSON goes into the column ``exact`` too. So the columns need no first pass over the rows, and no answer changes
their types.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import msgspec

from airflow_claude_batch.batch.land.row_layout import EXACT, RowLayout
from airflow_claude_batch.batch.land.rows import NULL, Row
from airflow_claude_batch.batch.land.table_types import (
    DecimalType,
    ScalarType,
    StructField,
    StructType,
    from_column,
    to_column,
)
from airflow_claude_batch.batch.money.amounts import exact_usd

Record = dict[str, Any]

_INTEGER: Final = ScalarType("integer")
_TEXT: Final = ScalarType("text")
#: Prices have at most twelve places, unless a deployment sets its own.
COST: Final = DecimalType(18, 12)
ERROR: Final = StructType(tuple(StructField(name, _TEXT) for name in ("type", "message", "path", "request_id")))
USAGE: Final = StructType(
    (
        *(
            StructField(name, _INTEGER)
            for name in ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        ),
        StructField(
            "cache_creation",
            StructType(
                tuple(
                    StructField(name, _INTEGER) for name in ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
                )
            ),
        ),
    )
)
REUSED: Final = StructType(
    (
        *(StructField(name, _TEXT) for name in ("submission_id", "batch_id", "custom_id")),
        StructField("answered_at", ScalarType("timestamp_tz")),
        StructField("cost_usd", COST),
    )
)
#: Columns of JSON text.
JSON_COLUMNS: Final = ("message", "replaced", "raw")
#: Columns of text.
TEXT_COLUMNS: Final = ("status", "text", "stop_reason", "model", "batch_id", "custom_id")


class RawRow(msgspec.Struct, frozen=True):
    """A row of ``results.jsonl`` whose fields of any shape stay JSON."""

    index: int
    key: msgspec.Raw
    status: str
    input: msgspec.Raw = NULL
    text: str | None = None
    output: msgspec.Raw = NULL
    stop_reason: str | None = None
    model: str | None = None
    usage: msgspec.Raw = NULL
    cost_usd: str | None = None
    error: msgspec.Raw = NULL
    batch_id: str | None = None
    custom_id: str | None = None
    message: msgspec.Raw = NULL
    replaced: msgspec.Raw = NULL
    raw: msgspec.Raw = NULL
    reused_from: msgspec.Raw = NULL
    way: str | None = None


class _Message(msgspec.Struct):
    usage: msgspec.Raw = NULL


_message = msgspec.json.Decoder(_Message)
_encoder = msgspec.json.Encoder(decimal_format="number")
_any = msgspec.json.Decoder()


def _number(digits: str) -> float | Decimal:
    """Return a decimal if a float has other digits."""
    number = float(digits)
    return number if Decimal(repr(number)) == Decimal(digits) else Decimal(digits)


_with_digits = msgspec.json.Decoder(float_hook=_number)
_to_error, _to_usage, _to_cost, _to_reused = to_column(ERROR), to_column(USAGE), to_column(COST), to_column(REUSED)


def record_maker(layout: RowLayout) -> Callable[[RawRow], Record]:
    """Return the function that makes records of rows."""
    to_key = to_column(layout.key)
    to_output = None if layout.output is None else to_column(layout.output)
    to_inputs = [(column.name, column.column, to_column(column.type)) for column in layout.inputs]
    read = _field_reader(layout)

    def make(row: RawRow) -> Record:
        record: Record = {name: getattr(row, name) for name in TEXT_COLUMNS}
        for name in JSON_COLUMNS:
            record[name] = _json_text(getattr(row, name))
        record["index"] = row.index
        record["key"] = to_key(_any.decode(row.key))
        kept = _any.decode(row.input) or {}
        for name, column, of in to_inputs:
            record[column] = of(kept.get(name))
        if to_output is not None:
            record["output"] = to_output(_any.decode(row.output))
        record["cost_usd"] = _to_cost(row.cost_usd)
        record["error"] = None if row.error == NULL else _to_error(_any.decode(row.error))
        record["usage"] = _to_usage(_any.decode(row.usage))
        if layout.reused:
            record["reused_from"] = None if row.reused_from == NULL else _to_reused(_any.decode(row.reused_from))
        if layout.has_way:
            record["way"] = row.way
        record[EXACT] = _exact_text(row, record, read(record))
        return record

    return make


def row_reader(layout: RowLayout) -> Callable[[Record], Row]:
    """Return the function that makes rows of records.

    The function raises msgspec.ValidationError, KeyError or ValueError if the record is not of this layout.
    """
    read = _field_reader(layout)

    def make(record: Record) -> Row:
        fields = {name: record[name] for name in ("index", *TEXT_COLUMNS)}
        for name in JSON_COLUMNS:
            fields[name] = None if record[name] is None else _any.decode(record[name])
        fields |= read(record)
        fields["usage"] = None if record["usage"] is None else (fields["message"] or {}).get("usage")
        if layout.has_way:
            fields["way"] = record["way"]
        if record[EXACT] is not None:
            fields |= _any.decode(record[EXACT])
        return msgspec.convert(fields, Row)

    return make


def _field_reader(layout: RowLayout) -> Callable[[Record], dict[str, Any]]:
    """Return the function that reads the fields which are typed by the layout, the cost and the error."""
    from_key = from_column(layout.key)
    from_output = from_column(layout.output) if layout.output is not None else None
    from_inputs = [(column.name, column.column, from_column(column.type)) for column in layout.inputs]

    def read(record: Record) -> dict[str, Any]:
        cost = record["cost_usd"]
        return {
            "key": from_key(record["key"]),
            "input": {name: of(record[column]) for name, column, of in from_inputs} or None,
            "output": None if from_output is None else from_output(record["output"]),
            "cost_usd": None if cost is None else exact_usd(cost),
            "error": _read_error(record),
            **({"reused_from": _read_reused(record["reused_from"])} if layout.reused else {}),
        }

    return read


def _read_error(record: Record) -> dict[str, Any] | None:
    """Return the error with the properties that an error of its kind has."""
    error = record["error"]
    if error is None:
        return None
    has = {"path": error["type"] == "invalid_output", "request_id": record["status"] == "errored"}
    return {name: value for name, value in error.items() if value is not None or has.get(name, False)}


def _read_reused(value: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return where a reused answer comes from, in the form that rows have."""
    if value is None:
        return None
    cost, answered_at = value["cost_usd"], value["answered_at"]
    return {
        **value,
        "answered_at": answered_at and answered_at.isoformat().replace("+00:00", "Z"),
        "cost_usd": None if cost is None else exact_usd(cost),
    }


def _exact_text(row: RawRow, record: Record, read: dict[str, Any]) -> str | None:
    """Return the fields that do not come back from the record, as a JSON object. None if all do."""
    exact = {name: raw for name, value in read.items() if not _is_same(raw := getattr(row, name), value)}
    if row.usage not in (NULL, _usage_of(row.message)):
        exact["usage"] = row.usage
    return _encoder.encode(exact).decode() if exact else None


def _usage_of(message: msgspec.Raw) -> msgspec.Raw:
    """Return the usage in a message. The row nearly always has the same one, which then is not stored twice."""
    try:
        return NULL if message == NULL else _message.decode(message).usage
    except msgspec.ValidationError:
        return NULL


def _is_same(raw: msgspec.Raw | str | None, value: Any) -> bool:
    """Tell whether a value that was read is what the row says, to the digits and the order of the properties."""
    if not isinstance(raw, msgspec.Raw):
        return bool(raw == value)
    encoded = _encoder.encode(value)
    return encoded == bytes(raw) or encoded == _encoder.encode(_with_digits.decode(raw))


def _json_text(raw: msgspec.Raw) -> str | None:
    return None if raw == NULL else str(bytes(raw), "utf-8")
