"""Write landed rows to a table: every mode, in batches, so that a run after a kill gives the same table."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.table.check_table import check_creation, check_table, no_table
from airflow_claude_batch.batch.table.column import Kind, Table
from airflow_claude_batch.batch.table.convert_rows import RowConverter, UnfitRowError, named
from airflow_claude_batch.batch.table.databases.database import Database, is_driver_error
from airflow_claude_batch.batch.table.inspect_rows import inspect_rows
from airflow_claude_batch.batch.table.names import parse_table_name
from airflow_claude_batch.batch.table.plan import WritePlan
from airflow_claude_batch.exceptions import ResultsError, TableError

log = logging.getLogger(__name__)

BYTES_PER_BATCH: Final = 8_000_000
#: What a value takes that is no text.
_VALUE_BYTES: Final = 32
_ROWS_PER_LOG_LINE: Final = 100_000


@dataclass(slots=True)
class WriteResult:
    """What was written.

    :param rows_written: rows that were inserted or updated. With ``insert``, those that were not there.
    :param rows_failed: rows without a valid answer, written or left out.
    :param rows_skipped: rows that were left out.
    :param rows_deleted: rows that ``replace`` deleted first. None if the database does not tell.
    """

    rows_written: int = 0
    rows_failed: int = 0
    rows_skipped: int = 0
    rows_deleted: int | None = 0


@dataclass(slots=True)
class _Batch:
    """Rows that are written at once, and their keys, for messages."""

    rows: list[list[Any]] = field(default_factory=list)
    keys: list[Any] = field(default_factory=list)
    size: int = 0

    def add(self, key: Any, values: list[Any]) -> None:
        self.rows.append(values)
        self.keys.append(key)
        self.size += sum(len(value) if type(value) is str else _VALUE_BYTES for value in values)


def write_rows(
    read: Callable[[], Iterator[Any]],
    plan: WritePlan,
    database: Database,
    *,
    kept_types: Mapping[str, str] | None = None,
) -> WriteResult:
    """Write rows to a table.

    ``upsert`` and ``insert`` commit each batch. ``replace`` commits once, at the end. Each may be killed at any time:
    another run with the same rows gives the table that an undisturbed run gives.

    :param read: starts to read the rows, anew at each call.
    :param kept_types: type words of the kept columns, for a new table.
    :raises TableError: the table cannot take the rows. Nothing was written, or the message says what was.
    :raises ResultsError: the connection was lost, or the database refused a statement. Run again.
    """
    writer = _Writer(plan, database)
    try:
        table = _prepare(read, plan, database, kept_types or {})
        writer.write(read(), table)
    except Exception as error:
        with contextlib.suppress(Exception):  # the connection may be gone
            database.rollback()
        if isinstance(error, UnfitRowError):
            raise writer.unfit(str(error), error.remedy) from None
        if is_driver_error(error):
            raise writer.failed(error) from None  # a driver's message may quote values
        raise
    return writer.result


def _prepare(
    read: Callable[[], Iterator[Any]], plan: WritePlan, database: Database, kept_types: Mapping[str, str]
) -> Table:
    """Check everything that can be checked before writing. Create the table if it is asked for."""
    name = parse_table_name(plan.table)
    check_creation(plan, database)
    database.prepare()
    table = database.describe(name)
    if table is None and not plan.create_table:
        raise no_table(plan, database)
    if table is not None:
        check_table(plan, table, database)
    kinds = inspect_rows(read(), plan, find_types=table is None, kept_types=kept_types)
    if table is None:
        database.create_table(name, _types(plan, kinds, database), plan.key)
        log.info("Created the table %s.", plan.table)
        table = database.describe(name)
        if table is None:
            raise no_table(plan, database)
        check_table(plan, table, database)
    return table


def _types(plan: WritePlan, kinds: Mapping[str, Kind | None], database: Database) -> dict[str, str]:
    """Return the types of the columns of a new table. A column without any value takes texts."""
    types = {}
    for column in plan.columns:
        kind = kinds.get(column) or Kind.TEXT
        found = database.key_text_type if column in plan.key and kind is Kind.TEXT else database.types[kind]
        types[column] = plan.column_types.get(column, found)
    return types


class _Writer:
    def __init__(self, plan: WritePlan, database: Database) -> None:
        self._plan = plan
        self._database = database
        self.result = WriteResult()

    def write(self, rows: Iterator[Any], table: Table) -> None:
        converter = RowConverter(self._plan, table, replaces_nul=self._database.refuses_nul)
        batches = self._batches(rows, converter)
        if self._plan.mode == "replace":
            self._replace(batches, table)
        else:
            for batch in batches:
                self._database.begin()
                written = self._attempt(batch, lambda some: self._put(table, some))
                self._database.commit()
                self._count(written)
        converter.log_replaced()

    def _batches(self, rows: Iterator[Any], converter: RowConverter) -> Iterator[_Batch]:
        batch = _Batch()
        for row in rows:
            if row.status != "succeeded":
                self.result.rows_failed += 1
                if self._plan.skip_failed:
                    self.result.rows_skipped += 1
                    continue
            values = converter.convert(row)
            if self._database.is_too_large(values):
                raise converter.too_large()
            batch.add(row.key, values)
            if len(batch.rows) >= self._plan.batch_rows or batch.size >= BYTES_PER_BATCH:
                yield batch
                batch = _Batch()
        if batch.rows:
            yield batch

    def _put(self, table: Table, rows: list[list[Any]]) -> int:
        plan, database = self._plan, self._database
        if plan.mode == "insert":
            return database.insert_missing(table, plan.columns, plan.key, rows)
        database.upsert(table, plan.columns, plan.key, rows)
        return len(rows)

    def _replace(self, batches: Iterator[_Batch], table: Table) -> None:
        """Delete and insert in one transaction."""
        plan, database = self._plan, self._database
        database.begin()
        if plan.replace_where is not None:
            self._count_deleted(database.delete_where(table, plan.replace_where))
        written = 0
        for batch in batches:
            written += self._attempt(batch, lambda some: self._replace_some(table, some))
        if plan.replace_where is not None:
            self._check_condition(table, plan.replace_where, written)
        database.commit()
        self._count(written)

    def _replace_some(self, table: Table, rows: list[list[Any]]) -> int:
        plan = self._plan
        if plan.replace_where is None:
            places = [plan.columns.index(column) for column in plan.key]
            keys = [[values[place] for place in places] for values in rows]
            self._count_deleted(self._database.delete_keys(table, plan.key, keys))
        self._database.insert(table, plan.columns, rows)
        return len(rows)

    def _check_condition(self, table: Table, condition: str, written: int) -> None:
        """Check that the next run deletes what this one has written."""
        found = self._database.count_where(table, condition)
        if found != written:
            raise TableError(
                f"{self._plan.table}: replace_where selects {found:,} of {quantity(written, 'new row')}.",
                "Nothing was changed. A second run would not delete the others, and would write them twice.",
                "Give the columns of replace_where the same values in columns or constants, such as "
                "constants={'day': '{{ ds }}'}.",
            )

    def _count(self, written: int) -> None:
        before = self.result.rows_written
        self.result.rows_written += written
        if before // _ROWS_PER_LOG_LINE != self.result.rows_written // _ROWS_PER_LOG_LINE:
            log.info("Wrote %s to %s up to now.", quantity(self.result.rows_written, "row"), self._plan.table)

    def _count_deleted(self, deleted: int) -> None:
        known = self.result.rows_deleted
        self.result.rows_deleted = None if deleted < 0 or known is None else known + deleted

    # ------------------------------------------------------------------ failures

    def _attempt(self, batch: _Batch, put: Callable[[list[list[Any]]], int]) -> int:
        """Write a batch. If the database refuses a value, find the row.

        :raises TableError: names the row.
        """
        database = self._database
        if not database.has_savepoints:
            return put(batch.rows)
        database.set_savepoint()
        try:
            return put(batch.rows)
        except Exception as error:
            if not is_driver_error(error) or database.is_lost(error) or not database.is_about_values(error):
                raise
            place, cause = self._first_refused(batch.rows, put, error)
            raise self._refused(batch.keys[place], cause) from None

    def _first_refused(
        self, rows: list[list[Any]], put: Callable[[list[list[Any]]], int], error: Exception
    ) -> tuple[int, Exception]:
        """Find the row at whose end the database refuses the batch, by halves."""
        taken, refused = 0, len(rows)
        while refused - taken > 1:
            middle = (taken + refused) // 2
            self._database.undo()
            try:
                put(rows[:middle])
                taken = middle
            except Exception as found:
                if not self._database.is_about_values(found):
                    raise
                refused, error = middle, found
        return refused - 1, error

    def _refused(self, key: Any, error: Exception) -> TableError:
        reason = self._database.reason(error)
        left = (
            " If a row with this key is outside of replace_where, its column belongs to key, and to the constraint: "
            "key=['id', 'day']."
        )
        return self.unfit(
            f"{named(key)} was refused by the database ({self._database.code(error)}).",
            f"{f'It names {reason}. ' if reason else ''}Correct columns, or change the type or the constraint."
            f"{left if self._plan.replace_where else ''}",
        )

    def unfit(self, what: str, remedy: str) -> TableError:
        """Return the error for a row that the table does not take."""
        return TableError(f"{self._plan.table}: {what}", self._kept(), remedy)

    def failed(self, error: Exception) -> ResultsError:
        """Return the error for a statement that failed, or a connection that was lost."""
        database, table = self._database, self._plan.table
        code, reason = database.code(error), database.reason(error)
        if database.is_lost(error):
            return ResultsError(
                f"{table}: the connection to the database was lost ({code}).",
                self._kept(),
                "Run the task again: then the table is right. A retry does that.",
            )
        return ResultsError(
            f"{table}: the database refused a statement ({code}).",
            *([f"It says: {reason}"] if reason else []),
            self._kept(),
            "If that passes, such as a lock, a retry helps. Else correct the table or the rights of the connection.",
        )

    def _kept(self) -> str:
        """Say what of the rows is in the table."""
        safe = "The answers are safe in the results file."
        if self._plan.mode == "replace" and not self._database.rolls_back:
            return (
                "The transaction was rolled back. If this database has no transactions, rows may be missing until the "
                f"task has run again. {safe}"
            )
        if self._plan.mode == "replace":
            return f"The transaction was rolled back, so the table is as it was. {safe}"
        if not self.result.rows_written:
            return f"No row was written. {safe}"
        stay = quantity(self.result.rows_written, "row")
        return f"What was written before stays ({stay}), and another run does not write it twice. {safe}"
