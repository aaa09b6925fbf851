"""Run ``RowsToSqlOperator``: write rows by the hook of an Airflow connection."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow_claude_batch._airflow.compat import AirflowFailException
from airflow_claude_batch._airflow.database_hook import driver_message, get_database_hook
from airflow_claude_batch._airflow.results_folder import folder_of_file
from airflow_claude_batch.batch.input.kept_columns import KeptColumns
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.table.databases.choose import choose_database
from airflow_claude_batch.batch.table.write import WriteResult, write_rows
from airflow_claude_batch.exceptions import ResultsError, TableError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.compat import TaskInstance
    from airflow_claude_batch.batch.land.rows import Row
    from airflow_claude_batch.batch.table.plan import WritePlan

log = logging.getLogger(__name__)

_NOTHING_WRITTEN: Final = "Nothing was written. The answers are safe in the results file."
#: Words of SQL that are common names of columns, for hooks whose dialect knows no reserved words.
_RESERVED: Final = (
    " ALL AND AS ASC BY CASE CHECK COLUMN CURRENT_DATE DEFAULT DELETE DESC END FOR FROM GROUP IN INDEX INSERT KEY "
    "LIMIT NOT NULL OFFSET ON OR ORDER PRIMARY REFERENCES SELECT SET TABLE TO UNION UNIQUE USER VALUES VIEW WHERE "
    "WINDOW WITH "
)


def run_transfer(
    plan: WritePlan, conn_id: str, rows: Any, read: Callable[[], Iterator[Row]], ti: TaskInstance
) -> dict[str, Any]:
    """Write rows to a table. Return the counts, for XCom.

    :param rows: what the author gave, such as a manifest.
    :param read: starts to read the rows, anew at each call.
    :raises AirflowFailException: the table cannot take the rows, and a retry would meet the same.
    """
    try:
        with closing(_connect(conn_id, hook := get_database_hook(conn_id, _NOTHING_WRITTEN))) as connection:
            database = choose_database(
                connection,
                placeholder=getattr(hook, "placeholder", "%s"),
                quote=partial(_quote, hook),
                column_types=dict(plan.column_types),
            )
            result = write_rows(read, plan, database, kept_types=_kept_types(plan, rows))
    except TableError as error:
        raise AirflowFailException(f"{ti.task_id}: {error}") from None
    _log_result(plan, result)
    return {
        "table": plan.table,
        "mode": plan.mode,
        "rows_written": result.rows_written,
        "rows_failed": result.rows_failed,
        "rows_skipped": result.rows_skipped,
        "rows_deleted": result.rows_deleted,
    }


def _kept_types(plan: WritePlan, rows: Any) -> Mapping[str, str]:
    """Return the types of the kept columns of a manifest's rows, for the columns of a new table."""
    path = rows.get("results_path") if isinstance(rows, Mapping) else None
    if not path or not plan.create_table or all(each.root != "input" for each in plan.paths.values()):
        return {}
    try:
        return KeptColumns.types_of(folder_of_file(str(path))[0])
    except OSError as error:  # a manifest that holds its rows needs no storage
        log.warning("The types of kept columns could not be read (%s). A new table gets texts.", type(error).__name__)
        return {}


def _connect(conn_id: str, hook: Any) -> Any:
    """Open a connection whose statements are in transactions, where the driver has them.

    :raises ResultsError: it cannot be opened. A retry tries again.
    """
    try:
        connection = hook.get_conn()
    except Exception as error:  # each driver has its own; some quote the password
        raise ResultsError(
            f"The connection {conn_id} to the database could not be opened ({type(error).__name__}).",
            f"{_NOTHING_WRITTEN}{driver_message(error, conn_id)}",
            "Check that the database runs, and the connection's host, login and password. A retry tries again.",
        ) from None
    with contextlib.suppress(Exception):  # a driver that has no such thing commits each statement, as it always does
        if hook.supports_autocommit:
            hook.set_autocommit(connection, False)
    return connection


def _quote(hook: Any, name: str) -> str:
    """Quote a name as the hook's own dialect does, where it needs quotes. Databases differ in what quotes they take."""
    if any(mark in name for mark in "\"`[]%'"):
        raise TableError(
            f"The name {name!r:.60} has a character that is not taken for this database.",
            _NOTHING_WRITTEN,
            "Name columns and tables without quotes, brackets and percent signs.",
        )
    dialect = getattr(hook, "dialect", None)
    quoted = str(dialect.escape_word(name)) if dialect is not None else name
    if quoted == name and (f" {name.upper()} " in _RESERVED or not name.replace("_", "a").isalnum()):
        return str(getattr(hook, "escape_word_format", '"{}"')).format(name)
    return quoted


def _log_result(plan: WritePlan, result: WriteResult) -> None:
    log.info("%s", " ".join(_sentences(plan, result)))


def _sentences(plan: WritePlan, result: WriteResult) -> Iterator[str]:
    yield f"Wrote {quantity(result.rows_written, 'row')} to {plan.table} (mode {plan.mode})."
    if plan.mode == "replace" and result.rows_deleted is not None:
        yield f"Before, {quantity(result.rows_deleted, 'row')} {_was(result.rows_deleted)} deleted."
    if result.rows_skipped:
        skipped = quantity(result.rows_skipped, "row")
        stay = "" if plan.mode == "replace" else " Earlier values of these keys stay in the table."
        yield f"{skipped} without a valid answer {_was(result.rows_skipped)} left out.{stay}"
    elif result.rows_failed:
        yield f"Of these, {quantity(result.rows_failed, 'row')} {_has(result.rows_failed)} no valid answer."


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def _has(count: int) -> str:
    return "has" if count == 1 else "have"
