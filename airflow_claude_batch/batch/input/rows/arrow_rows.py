"""Convert record batches of pyarrow to rows of Python values, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from airflow_claude_batch.batch.input.rows.columns import check_names
from airflow_claude_batch.batch.input.rows.source import SourceRow
from airflow_claude_batch.exceptions import NOTHING_SENT, InputError

if TYPE_CHECKING:
    import pyarrow

#: Rows, and bytes of Arrow's, that are Python objects at the same time.
ROWS_AT_ONCE: Final = 32
BYTES_AT_ONCE: Final = 4 * 1024 * 1024


class ArrowRows:
    """Rows of record batches that have one schema.

    Structs are dicts, lists are lists, and maps are lists of pairs. Times of nanoseconds lose the digits below
    microseconds, which Python's times do not have, whether pandas is installed or not.

    :param schema: the schema of all batches.
    :param place: what has the columns, for errors.
    """

    def __init__(self, schema: pyarrow.Schema, place: str) -> None:
        import pyarrow

        self.columns = check_names(schema.names, place)
        self._place = place
        types = [_python_type(field.type) for field in schema]
        self._casts = {
            number: python_type
            for number, (field, python_type) in enumerate(zip(schema, types, strict=True))
            if python_type != field.type
        }
        self._errors = (pyarrow.ArrowException, ValueError, OverflowError, LookupError)

    def read(self, batch: pyarrow.RecordBatch) -> Iterator[SourceRow]:
        """Yield the rows of a batch.

        :raises InputError: a column has values that Python cannot hold, such as a date after the year 9999.
        """
        step = rows_that_fit(batch.nbytes, batch.num_rows)
        for start in range(0, batch.num_rows, step):
            part = batch.slice(start, step)
            values = [self._values(number, column) for number, column in enumerate(part.columns)]
            for row in zip(*values, strict=True):
                yield dict(zip(self.columns, row, strict=True))

    def _values(self, number: int, column: pyarrow.Array) -> list[Any]:
        try:
            if python_type := self._casts.get(number):
                column = column.cast(python_type, safe=False)
            return column.to_pylist()  # type: ignore[no-any-return]  # pyarrow has no types
        except self._errors:
            raise InputError(
                f"{self._place} has values that Python cannot hold in the column {self.columns[number]!r:.32}.",
                f"{NOTHING_SENT} Its type is {str(column.type)[:80]}.",
                "Leave the column out, or write it as text. Dates must be between the years 1 and 9999.",
            ) from None


def rows_that_fit(size: int, rows: int) -> int:
    """Return how many rows are read at once, at least one.

    :param size: bytes of all rows.
    :param rows: the number of all rows.
    """
    return max(1, min(ROWS_AT_ONCE, BYTES_AT_ONCE * rows // max(size, 1)))


def _python_type(kind: pyarrow.DataType) -> pyarrow.DataType:
    """Return a type with microseconds for nanoseconds, also inside lists and structs."""
    import pyarrow as pa

    types = pa.types
    if types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if types.is_time64(kind) and kind.unit == "ns":
        return pa.time64("us")
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_python_type(kind.value_type)))
    if types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_python_type(kind.value_type)))
    if types.is_struct(kind):
        return pa.struct([field.with_type(_python_type(field.type)) for field in kind])
    return kind
