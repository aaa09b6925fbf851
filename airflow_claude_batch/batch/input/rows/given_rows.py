"""Read rows that are given as a value: mappings, records of a database, a data frame or a table of pyarrow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.batch.input.iterating import iterating
from airflow_claude_batch.batch.input.rows.columns import check_names, in_order
from airflow_claude_batch.batch.input.rows.frame_rows import read_frame
from airflow_claude_batch.batch.input.rows.source import SourceRow
from airflow_claude_batch.batch.input.rows.wrong_rows import no_mapping_error, refuse_container
from airflow_claude_batch.exceptions import NOTHING_SENT, InputError

if TYPE_CHECKING:
    from airflow_claude_batch.batch.input.rows.source import RowSource

#: Returns the names of a row's columns, and its values.
_Split = Callable[[Any], tuple[list[Any], Iterable[Any]]]


def open_given_rows(value: Any) -> RowSource:
    """Return the rows of a value: an iterable of mappings, a data frame of pandas or polars, a table of pyarrow.

    An iterable may be lazy. A row may also be a named tuple, an object of a dataclass, or a record of sqlite3,
    SQLAlchemy, psycopg2 or pyspark. The index of a pandas frame is no column: ``frame.reset_index()`` makes it one.

    >>> list(open_given_rows([{"id": 1, "text": "a"}]))
    [{'id': 1, 'text': 'a'}]

    :raises InputError: it holds no rows, such as texts or a manifest; names its type and the remedy. While iterating:
        a row is no mapping, or has other columns than the first one; names it, as ``rows[3]``.
    """
    if frame := read_frame(value):
        return frame
    if refusal := refuse_container(value):
        raise InputError(f"rows is {refusal.problem}.", NOTHING_SENT, refusal.remedy)
    return MappingRows(value)


class MappingRows:
    """Rows of an iterable. An iterator gives its rows once.

    :param rows: mappings, or records whose values stand under names.
    """

    #: The number of a row says where it stands.
    place = ""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._rows = rows
        self._columns: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the first row, in its order. Empty before it is read."""
        return self._columns

    def __iter__(self) -> Iterator[SourceRow]:
        self._columns = ()
        with iterating(self._rows) as rows:
            for number, given in enumerate(rows):
                row = given if type(given) is dict else _as_mapping(given, number)
                if not self._columns:
                    self._columns = check_names(row, f"rows[{number}]")
                yield row if tuple(row) == self._columns else in_order(row, self._columns, f"rows[{number}]")


def _as_mapping(row: Any, number: int) -> SourceRow:
    """Return a row as a mapping.

    :raises InputError: its values do not stand under names, or two under the same one.
    """
    if isinstance(row, Mapping):
        return row
    split = _split_of(row)
    if split is None:
        raise no_mapping_error(row, number)
    names, values = split(row)
    return dict(zip(check_names(names, f"rows[{number}]"), values, strict=True))


def _split_of(row: Any) -> _Split | None:
    kind = type(row)
    if isinstance(row, type):
        return None
    if hasattr(kind, "asDict"):  # pyspark
        return lambda row: (list(row.asDict()), row.asDict().values())
    if hasattr(row, "_fields") and isinstance(row, Iterable):  # named tuples, SQLAlchemy
        return lambda row: (list(row._fields), row)
    if hasattr(kind, "keys") and hasattr(kind, "__getitem__"):  # sqlite3, psycopg2, asyncpg
        return lambda row: (list(row.keys()), list(row))
    if hasattr(kind, "__dataclass_fields__"):
        return lambda row: ([*kind.__dataclass_fields__], [getattr(row, name) for name in kind.__dataclass_fields__])
    return None
