"""A source of rows for tests: a list, whose rows have lines of a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_claude_batch.batch.input.rows.source import SourceRow


class ListedRows:
    """Gives the rows of a list. Row 0 stands in line 2 of ``uri``; without one, rows have no place.

    :param columns: the columns of an empty list.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], *, uri: str = "", columns: Sequence[str] = ()) -> None:
        self.columns = tuple(columns)
        self.place = ""
        self._rows, self._uri = rows, uri

    def __iter__(self) -> Iterator[SourceRow]:
        for number, row in enumerate(self._rows, 2):
            self.columns = self.columns or tuple(row)
            self.place = f"line {number} of {self._uri}" if self._uri else ""
            yield row
