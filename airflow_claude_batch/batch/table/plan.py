"""What to write: which columns get which values, and how rows that exist are treated.

A DAG file that is parsed imports this module, so it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from airflow_claude_batch.batch.table.paths import RowPath

Mode = Literal["upsert", "insert", "replace"]
MODES: Final[tuple[Mode, ...]] = ("upsert", "insert", "replace")
DEFAULT_BATCH_ROWS: Final = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WritePlan:
    """The table, and what its columns get.

    :param table: the table's name, with its schema or without: ``schema.table``.
    :param paths: the path of each column that gets a value of the row.
    :param constants: the columns that get the same value in each row.
    :param key: the columns that tell rows apart. Empty only for ``replace`` with ``replace_where``.
    :param replace_where: the condition that selects the rows to delete first, as SQL.
    :param skip_failed: leave rows out that have no valid answer.
    :param column_types: the types of columns of a new table, as SQL.
    :param batch_rows: how many rows are written at once.
    """

    table: str
    paths: Mapping[str, RowPath]
    key: tuple[str, ...]
    mode: Mode = "upsert"
    constants: Mapping[str, Any] = field(default_factory=dict)
    replace_where: str | None = None
    skip_failed: bool = False
    create_table: bool = False
    column_types: Mapping[str, str] = field(default_factory=dict)
    batch_rows: int = DEFAULT_BATCH_ROWS

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are written, in their order."""
        return (*self.paths, *self.constants)


def default_key(paths: Mapping[str, RowPath]) -> tuple[str, ...]:
    """Return the columns that get the row's key or a member of it."""
    return tuple(column for column, path in paths.items() if path.root == "key")
