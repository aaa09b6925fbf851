"""What every source of rows gives, whatever it reads from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

#: A row of a source: its values by column. All rows of a source have the same columns.
SourceRow = Mapping[str, Any]


class RowSource(Protocol):
    """The rows of a query, of files or of a list. Each iteration reads them anew, in the same order.

    :raises InputError: from the iteration: the source cannot be read; names the query, file, row or column.
    """

    def __iter__(self) -> Iterator[SourceRow]:
        """Read the rows, one by one."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns. Known from the first row on, and after an iteration without rows."""

    @property
    def place(self) -> str:
        """Where the row that was read last stands, such as ``line 7 of s3://bucket/a.csv``.

        Empty if its number in the source says all.
        """
