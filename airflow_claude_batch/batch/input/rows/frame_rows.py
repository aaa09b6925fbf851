"""Read the rows of data frames and tables, a few rows at a time: the whole is never copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from airflow_claude_batch.batch.input.rows.arrow_rows import ROWS_AT_ONCE, ArrowRows
from airflow_claude_batch.batch.input.rows.columns import check_names
from airflow_claude_batch.batch.input.rows.source import SourceRow
from airflow_claude_batch.exceptions import NOTHING_SENT, InputError

#: A slice of a column takes pandas 50 µs, however short it is.
_PANDAS_ROWS: Final = 128
_Frame = tuple[tuple[str, ...], Callable[[], Iterator[SourceRow]]]


class FrameRows:
    """Rows of a data frame or a table.

    :param columns: the names of its columns.
    :param read: yields the rows, each time anew.
    """

    #: The number of a row says where it stands.
    place = ""

    def __init__(self, columns: tuple[str, ...], read: Callable[[], Iterator[SourceRow]]) -> None:
        self.columns = columns
        self._read = read

    def __iter__(self) -> Iterator[SourceRow]:
        return self._read()


def read_frame(value: Any) -> FrameRows | None:
    """Return the rows of a frame of pandas or polars, or of a table of pyarrow. None for anything else.

    :raises InputError: its columns have no names of their own.
    """
    for kind in type(value).__mro__:  # geopandas and others have subclasses of frames
        if opener := _OPENERS.get((kind.__module__.partition(".")[0], kind.__name__)):
            return FrameRows(*opener(value))
    return None


def _open_pandas(frame: Any) -> _Frame:
    if frame.columns.nlevels > 1:
        raise InputError(
            f"rows is a pandas frame whose columns have names of {frame.columns.nlevels} levels.",
            NOTHING_SENT,
            'Give each column one name: frame.columns = ["_".join(map(str, name)) for name in frame.columns].',
        )
    columns = check_names(frame.columns, "rows, a pandas frame,")

    def read() -> Iterator[SourceRow]:
        series = [frame.iloc[:, number] for number in range(len(columns))]
        for start in range(0, len(frame), _PANDAS_ROWS):
            values = [column.iloc[start : start + _PANDAS_ROWS].tolist() for column in series]
            for row in zip(*values, strict=True):
                yield dict(zip(columns, row, strict=True))

    return columns, read


def _open_polars(frame: Any) -> _Frame:
    columns = check_names(frame.columns, "rows, a polars frame,")
    return columns, lambda: frame.iter_rows(named=True, buffer_size=ROWS_AT_ONCE)


def _open_arrow_table(table: Any) -> _Frame:
    rows = ArrowRows(table.schema, "rows, a table of pyarrow,")

    def read() -> Iterator[SourceRow]:
        for batch in table.to_batches(max_chunksize=ROWS_AT_ONCE):
            yield from rows.read(batch)

    return rows.columns, read


def _open_arrow_batch(batch: Any) -> _Frame:
    rows = ArrowRows(batch.schema, "rows, a record batch of pyarrow,")
    return rows.columns, lambda: rows.read(batch)


_OPENERS: Final[dict[tuple[str, str], Callable[[Any], _Frame]]] = {
    ("pandas", "DataFrame"): _open_pandas,
    ("polars", "DataFrame"): _open_polars,
    ("pyarrow", "Table"): _open_arrow_table,
    ("pyarrow", "RecordBatch"): _open_arrow_batch,
}
