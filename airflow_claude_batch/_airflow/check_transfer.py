"""Check the arguments of ``RowsToSqlOperator``, when the DAG is parsed and again when its templates are rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from airflow_claude_batch._airflow.check_arguments import check_choice, check_flags
from airflow_claude_batch._airflow.rendering import has_templates, unwrap
from airflow_claude_batch.exceptions import ConfigurationError

if TYPE_CHECKING:
    from airflow_claude_batch.batch.table.paths import RowPath
    from airflow_claude_batch.batch.table.plan import WritePlan


#: A path that is no field of a row, but of the manifest that names the rows.
SUBMISSION_ID: Final = "submission_id"


class Arguments(Protocol):
    """The operator's arguments, as the author gave them. The types are what they should be."""

    task_id: str
    rows: Any
    conn_id: Any
    table: Any
    columns: Any
    constants: Any
    mode: Any
    key: Any
    replace_where: Any
    failed_rows: Any
    create_table: Any
    column_types: Any
    batch_rows: Any


def check_transfer(given: Arguments) -> None:
    """Check what is written in the DAG file. Templates are checked when the task runs.

    :raises ConfigurationError: names the task, the argument and what it may be.
    """
    check_choice(given.task_id, "mode", given.mode, ("upsert", "insert", "replace"))
    check_choice(given.task_id, "failed_rows", given.failed_rows, ("include", "skip"))
    check_flags(given.task_id, {"create_table": given.create_table})
    make_plan(given)


def make_plan(given: Arguments) -> WritePlan:
    """Return what to write.

    :raises ConfigurationError: an argument cannot be right.
    """
    from airflow_claude_batch.batch.table.plan import WritePlan

    paths = _paths(given)
    constants = _mapping(given, "constants", given.constants) | _submission_ids(given)
    key = _key(given, paths, constants)
    _check_replace_where(given)
    _check_table(given)
    if type(given.batch_rows) is not int or given.batch_rows < 1:
        raise ConfigurationError(
            f"{given.task_id}: batch_rows must be a whole number from 1, not {given.batch_rows!r:.40}."
        )
    return WritePlan(
        table=given.table,
        paths=paths,
        key=key,
        mode=given.mode,
        constants=constants,
        replace_where=given.replace_where,
        skip_failed=given.failed_rows == "skip",
        create_table=bool(given.create_table),
        column_types=_column_types(given, (*paths, *constants)),
        batch_rows=given.batch_rows,
    )


def _paths(given: Arguments) -> dict[str, RowPath]:
    from airflow_claude_batch.batch.table.paths import parse_path

    columns = _mapping(given, "columns", given.columns)
    if not columns:
        raise ConfigurationError(
            f"{given.task_id}: columns is empty.", "Name what each column gets: columns={'id': 'key'}."
        )
    paths = {}
    for column, path in columns.items():
        if path == SUBMISSION_ID:
            continue
        try:
            if not isinstance(path, str):
                raise ValueError("A path is a text, such as 'output.label'.")  # noqa: TRY004, TRY301  # one remedy for all
            paths[column] = parse_path(path)
        except ValueError as error:
            raise ConfigurationError(
                f"{given.task_id}: columns[{column!r}] is {path!r:.40}, which is no path into a row.",
                str(error),
                "A column of the source row is 'input.title', with keep=['title'] where the requests are made. "
                "A value that is the same in each row belongs into constants.",
            ) from None
    return paths


def _submission_ids(given: Arguments) -> dict[str, Any]:
    """Return the columns that get the submission's id. It is the same in each row of a manifest."""
    columns = [column for column, path in given.columns.items() if path == SUBMISSION_ID]
    if not columns:
        return {}
    rows = unwrap(given.rows)
    id_ = rows.get(SUBMISSION_ID) if isinstance(rows, Mapping) else None
    if id_ is None and not _is_unresolved(rows):
        raise ConfigurationError(
            f"{given.task_id}: columns[{columns[0]!r}] is 'submission_id', and rows is no manifest that has one.",
            "A manifest has it. Of several manifests, each is loaded by itself: "
            "RowsToSqlOperator.partial(…).expand(rows=wait.output).",
        )
    return dict.fromkeys(columns, id_)


def _is_unresolved(rows: Any) -> bool:
    """Tell whether rows are known only when the task runs."""
    return hasattr(rows, "iter_references") or (isinstance(rows, str) and has_templates(rows))


def _mapping(given: Arguments, name: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(column, str) and column for column in value):
        raise ConfigurationError(
            f"{given.task_id}: {name} must be a mapping with names of columns, not {value!r:.40}.",
            "Name the column of the table first: {'label': …}.",
        )
    return dict(value)


def _key(given: Arguments, paths: Mapping[str, RowPath], constants: Mapping[str, Any]) -> tuple[str, ...]:
    from airflow_claude_batch.batch.table.plan import default_key

    if both := paths.keys() & constants.keys():
        raise ConfigurationError(
            f"{given.task_id}: columns and constants both give {', '.join(sorted(both))}.", "Leave one of them out."
        )
    if given.key is None:
        key = default_key(paths)
    elif isinstance(given.key, str):
        key = (given.key,)
    elif isinstance(given.key, Sequence) and all(isinstance(each, str) for each in given.key):
        key = tuple(dict.fromkeys(given.key))
    else:
        raise ConfigurationError(f"{given.task_id}: key must name columns of the table, not {given.key!r:.40}.")
    for column in key:
        if column not in paths and column not in constants:
            raise ConfigurationError(
                f"{given.task_id}: key names {column!r:.40}, which is not in columns.",
                f"key names columns of the table. Those that are written are {', '.join([*paths, *constants])}.",
            )
    if not key and (given.mode != "replace" or given.replace_where is None):
        raise ConfigurationError(
            f"{given.task_id}: mode={given.mode!r} needs a key, and no column gets the row's key.",
            "Add it, such as columns={'id': 'key', …}. Or name the columns that tell rows apart: key=['id'].",
        )
    return key


def _check_replace_where(given: Arguments) -> None:
    where = given.replace_where
    if where is None:
        return
    if given.mode != "replace":
        raise ConfigurationError(
            f"{given.task_id}: replace_where needs mode='replace', not mode={given.mode!r}.",
            "Set mode='replace', or leave replace_where out.",
        )
    if not isinstance(where, str) or not where.strip():
        raise ConfigurationError(
            f"{given.task_id}: replace_where must be a condition in SQL, not {where!r:.40}.",
            "To replace the rows with the same keys, leave it out. To replace all rows, write replace_where='1 = 1'.",
        )


def _check_table(given: Arguments) -> None:
    from airflow_claude_batch.batch.table.names import parse_table_name

    if isinstance(given.table, str) and has_templates(given.table):
        return
    try:
        parse_table_name(given.table if isinstance(given.table, str) else "")
    except ValueError as error:
        raise ConfigurationError(
            f"{given.task_id}: table is {given.table!r:.60}, which is no name of a table.", str(error)
        ) from None


def _column_types(given: Arguments, columns: Sequence[str]) -> dict[str, str]:
    types = _mapping(given, "column_types", given.column_types)
    for column, type_name in types.items():
        if column not in columns:
            raise ConfigurationError(
                f"{given.task_id}: column_types names {column!r:.40}, which is not in columns.",
                f"The columns are {', '.join(columns)}.",
            )
        if not isinstance(type_name, str) or not type_name.strip():
            raise ConfigurationError(
                f"{given.task_id}: column_types[{column!r}] must be a type in SQL, not {type_name!r:.40}.",
                "Write it as in CREATE TABLE: {'label': 'varchar(32)'}.",
            )
    return types
