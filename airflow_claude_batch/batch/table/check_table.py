"""Check before anything is written that a table fits: its columns, its constraints, its transactions."""

from __future__ import annotations

from airflow_claude_batch.batch.table.column import Kind, Table
from airflow_claude_batch.batch.table.databases.database import Database
from airflow_claude_batch.batch.table.names import parse_table_name
from airflow_claude_batch.batch.table.paths import did_you_mean
from airflow_claude_batch.batch.table.plan import WritePlan
from airflow_claude_batch.exceptions import TableError

NOTHING_WRITTEN = "Nothing was written. The answers are safe in the results file."


def check_table(plan: WritePlan, table: Table, database: Database) -> None:
    """Check that a table takes the rows in the plan's mode.

    :raises TableError: it does not. The message names the column or the constraint, and the remedy.
    """
    _check_columns(plan, table)
    if plan.mode == "replace":
        _check_transactions(plan, table)
    else:
        _check_upsert(plan, table, database)


def check_creation(plan: WritePlan, database: Database) -> None:
    """Check that the types of a new table are known for a database.

    :raises TableError: they are not.
    """
    if plan.create_table and not database.types:
        raise TableError(
            "create_table=True is known for PostgreSQL, MySQL, MariaDB and SQLite, not for this database.",
            NOTHING_WRITTEN,
            "Create the table in another task, and leave create_table out.",
        )


def no_table(plan: WritePlan, database: Database) -> TableError:
    """Return the error for a table that does not exist."""
    name = parse_table_name(plan.table)
    close = did_you_mean(name[-1], set(database.table_names(name)) - {name[-1]})
    return TableError(
        f"There is no table {plan.table}.{close}",
        NOTHING_WRITTEN,
        "Correct the name, which is taken exactly as it is written, or let the connection's user see the table. Or set "
        "create_table=True.",
    )


def _check_columns(plan: WritePlan, table: Table) -> None:
    for column in plan.columns:
        known = table.columns.get(column)
        if known is None:
            raise TableError(
                f"{plan.table} has no column {column!r}.{did_you_mean(column, table.columns)}",
                f"{NOTHING_WRITTEN} The table has the columns {', '.join(table.columns)}.",
                "Correct the name in columns or constants, or add the column to the table.",
            )
        if known.is_generated or known.kind is Kind.BYTES:
            why = "is computed by the database" if known.is_generated else f"is of type {known.type}, for bytes"
            raise TableError(
                f"{plan.table}: the column {column} {why}.", NOTHING_WRITTEN, "Leave it out, or choose another column."
            )
    absent = [name for name, column in table.columns.items() if column.must_be_given and name not in plan.columns]
    if absent:
        raise TableError(
            f"{plan.table} needs a value for {', '.join(absent)}, which columns does not give.",
            f"{NOTHING_WRITTEN} Columns that are NOT NULL and have no default must be given.",
            "Add them to columns or to constants, or give them a default.",
        )


def _check_transactions(plan: WritePlan, table: Table) -> None:
    if table.is_transactional:
        return
    raise TableError(
        f"{plan.table} has no transactions, so mode='replace' could delete rows and fail to write the new ones.",
        NOTHING_WRITTEN,
        f"Run ALTER TABLE {table.sql} ENGINE=InnoDB, or use mode='upsert'.",
    )


def _check_upsert(plan: WritePlan, table: Table, database: Database) -> None:
    if not database.has_upsert or table.unique is None:
        raise TableError(
            f"mode={plan.mode!r} is known for PostgreSQL, MySQL, MariaDB and SQLite, not for this database.",
            NOTHING_WRITTEN,
            "Use mode='replace': it deletes the rows with the same keys, or those of replace_where, and inserts.",
        )
    key = frozenset(plan.key)
    if all(index.columns != key for index in table.unique):
        add = f"ALTER TABLE {table.sql} ADD UNIQUE ({database.quoted(plan.key)})"
        if database.name == "SQLite":
            index = database.quote(f"{parse_table_name(plan.table)[-1]}_key")
            add = f"CREATE UNIQUE INDEX {index} ON {table.sql} ({database.quoted(plan.key)})"
        raise TableError(
            f"{plan.table} has no unique constraint on {', '.join(plan.key)}, so rows cannot be found by that key.",
            f"{NOTHING_WRITTEN} Without the constraint, each run would add the rows once more.",
            f"Run {add}. Or use mode='replace'.",
        )
    if not database.any_index_conflicts:
        return
    for other in table.unique:
        if not other.columns >= key and not other.columns.isdisjoint(plan.columns):
            raise TableError(
                f"{plan.table} has another unique index, on {', '.join(sorted(other.columns))}.",
                f"{NOTHING_WRITTEN} {database.name} would update whatever row has the same values there, silently.",
                "Use mode='replace', or give columns another key.",
            )
