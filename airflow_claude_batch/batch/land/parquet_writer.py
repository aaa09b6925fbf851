"""Write rows as a Parquet file. The columns are those of a :class:`.RowLayout`, which is in the file's metadata."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.land.parquet import PARQUET_FILE
from airflow_claude_batch.batch.land.row_layout import EXACT, RowLayout
from airflow_claude_batch.batch.land.row_records import (
    COST,
    ERROR,
    JSON_COLUMNS,
    REUSED,
    TEXT_COLUMNS,
    USAGE,
    RawRow,
    Record,
    record_maker,
)
from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.batch.land.table_types import ColumnType, DecimalType, ListType, ScalarType, StructType

if TYPE_CHECKING:
    import pyarrow

#: Key of the layout in the file's metadata.
LAYOUT_KEY: Final = b"airflow_claude_batch"
ROWS_PER_GROUP: Final = 10_000
BYTES_PER_GROUP: Final = 16_000_000  # of JSON: a single answer may have half a million characters

_JSON_MARK: Final = {b"content": b"json"}


def write_parquet(folder: storage.Folder, lines: Iterable[bytes], layout: RowLayout | None = None) -> None:
    """Replace ``results.parquet`` as a whole, one row group in memory at a time.

    :param lines: rows as in ``results.jsonl``.
    :param layout: the columns. Default: keys are JSON text, and there is no output.
    """
    import pyarrow.parquet

    layout = RowLayout() if layout is None else layout
    schema = arrow_schema(layout)
    with (
        folder.replace_file(PARQUET_FILE) as file,
        pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for group in _groups(lines, layout):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))
            group.clear()


def arrow_schema(layout: RowLayout) -> pyarrow.Schema:
    """Return the columns in the order of the row's fields."""
    import pyarrow

    fields = [_arrow_field(name, type_) for name, type_ in _columns(layout)]
    return pyarrow.schema(fields, metadata={LAYOUT_KEY: msgspec.json.encode(layout)})


def _columns(layout: RowLayout) -> Iterator[tuple[str, ColumnType]]:
    types: dict[str, ColumnType | None] = {
        **dict.fromkeys(TEXT_COLUMNS, ScalarType("text")),
        **dict.fromkeys(JSON_COLUMNS, ScalarType("json")),
        **{"index": ScalarType("integer"), "key": layout.key, "output": layout.output},
        **{"usage": USAGE, "cost_usd": COST, "error": ERROR, EXACT: ScalarType("json")},
        "reused_from": REUSED if layout.reused else None,
        "way": ScalarType("text") if layout.has_way else None,
    }
    for name in (*Row.__struct_fields__, EXACT):
        if name == "input":
            yield from ((column.column, column.type) for column in layout.inputs)
        elif (type_ := types[name]) is not None:
            yield name, type_


def _arrow_field(name: str, type_: ColumnType) -> pyarrow.Field:
    import pyarrow

    is_json = isinstance(type_, ScalarType) and type_.kind == "json"
    return pyarrow.field(name, _arrow_type(type_), metadata=_JSON_MARK if is_json else None)


def _arrow_type(type_: ColumnType) -> pyarrow.DataType:
    import pyarrow

    if isinstance(type_, ScalarType):
        return _SCALARS[type_.kind](pyarrow)
    if isinstance(type_, DecimalType):
        return pyarrow.decimal128(type_.precision, type_.scale)
    if isinstance(type_, ListType):
        return pyarrow.list_(_arrow_field("element", type_.items))
    assert isinstance(type_, StructType)  # noqa: S101  # for mypy
    return pyarrow.struct([_arrow_field(field.name, field.type) for field in type_.fields])


_SCALARS: Final[dict[str, Any]] = {
    "boolean": lambda pa: pa.bool_(),
    "integer": lambda pa: pa.int64(),
    "number": lambda pa: pa.float64(),
    "text": lambda pa: pa.string(),
    "date": lambda pa: pa.date32(),
    "time": lambda pa: pa.time64("us"),
    "timestamp": lambda pa: pa.timestamp("us"),
    "timestamp_tz": lambda pa: pa.timestamp("us", "UTC"),
    "json": lambda pa: pa.string(),
}


def _groups(lines: Iterable[bytes], layout: RowLayout) -> Iterator[list[Record]]:
    """Cut the rows into row groups."""
    decoder, make = msgspec.json.Decoder(RawRow), record_maker(layout)
    group: list[Record] = []
    size = 0
    for line in lines:
        group.append(make(decoder.decode(line)))
        size += len(line)
        if len(group) >= ROWS_PER_GROUP or size >= BYTES_PER_GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group
