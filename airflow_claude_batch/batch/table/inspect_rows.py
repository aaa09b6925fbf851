"""Read rows before anything is written: does each path exist, and what types have its values?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_claude_batch.batch.table.check_table import NOTHING_WRITTEN
from airflow_claude_batch.batch.table.column import Kind
from airflow_claude_batch.batch.table.found_types import joined_kind, known_kind
from airflow_claude_batch.batch.table.paths import RowPath, did_you_mean
from airflow_claude_batch.batch.table.plan import WritePlan
from airflow_claude_batch.exceptions import TableError

_MOST_NAMES: Final = 100


@dataclass(slots=True)
class _MissingPath:
    """A path that no row had up to now, and what the rows have instead.

    :param position: the step that is missing, at the row that has most of the path.
    :param names: the members that rows have there.
    """

    path: RowPath
    position: int = -1
    was_looked_for: bool = False
    names: dict[str, None] = field(default_factory=dict)

    def look(self, row: Any) -> bool:
        """Look for the path in a row. Return True if the row has it."""
        missing = self.path.missing_step(row)
        if missing is None:
            return True
        position, value = missing
        if value is None or position < self.position:
            return False
        if position > self.position:
            self.names.clear()
            self.position = position
        self.was_looked_for = True
        if isinstance(value, Mapping):
            self.names |= dict.fromkeys(list(map(str, value))[: _MOST_NAMES - len(self.names)])
        return False

    def error(self, column: str) -> TableError:
        """Say what there is instead of the path."""
        parent = self.path.up_to(self.position)
        name = str(self.path.steps[self.position])
        there = f"{parent} is no {'object' if isinstance(self.path.steps[self.position], str) else 'list'}."
        if self.names:
            there = f"{parent} has {', '.join(map(repr, self.names))}.{did_you_mean(name, self.names)}"
        return TableError(
            f"columns[{column!r}] is {self.path.text!r}, but no row has {self.path.up_to(self.position + 1)!r}.",
            NOTHING_WRITTEN,
            there,
            f"Correct the path, or write {self.path.text + '?'!r} if rows may do without it.",
        )


def _nothing_kept(column: str, path: RowPath) -> TableError:
    return TableError(
        f"columns[{column!r:.30}] is {path.text!r:.30}, but the rows have no 'input': no column was kept.",
        NOTHING_WRITTEN,
        f"Set keep=[{str(path.steps[0])!r}] where the requests are made, and clear that task: it pays nothing again.",
    )


def inspect_rows(
    rows: Iterable[Any], plan: WritePlan, *, find_types: bool, kept_types: Mapping[str, str]
) -> dict[str, Kind | None]:
    """Check that each path exists in at least one row. Read no further than that takes, unless types are looked for.

    A path below a field that no row has, such as ``output`` if every answer failed, is let pass. ``input`` does not
    depend on the answers: without it no column was kept.

    :param find_types: read all rows, and find the kinds of all columns.
    :param kept_types: type words of the kept columns, by name.
    :return: the kind of each column, None for a column without any value. Empty unless ``find_types``.
    :raises TableError: a path exists in no row; names the members that there are.
    """
    missing = {column: _MissingPath(path) for column, path in plan.paths.items() if path.is_checked}
    known = {column: known_kind(path, dict(kept_types)) for column, path in plan.paths.items()} if find_types else {}
    unknown = {column: plan.paths[column] for column, kind in known.items() if kind is None}
    has_rows = has_input = False
    if missing or unknown:
        for row in rows:
            has_rows, has_input = True, has_input or row.input is not None
            missing = {column: path for column, path in missing.items() if not path.look(row)}
            for column, path in unknown.items():
                known[column] = joined_kind(known[column], path.value(row))
            if not missing and not unknown:
                break
    for column, absent in missing.items():
        if absent.was_looked_for:
            raise absent.error(column)
        if has_rows and not has_input and absent.path.root == "input":
            raise _nothing_kept(column, absent.path)
    if find_types:
        known |= {column: joined_kind(None, value) for column, value in plan.constants.items()}
    return known
