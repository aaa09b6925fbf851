"""Write landed rows to a table: the operator::

from airflow_claude_batch.transfers import RowsToSqlOperator

What only a running task needs is imported within functions: a DAG file is parsed every few seconds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from airflow_claude_batch._airflow.check_transfer import check_transfer, make_plan
from airflow_claude_batch._airflow.compat import BaseOperator
from airflow_claude_batch._airflow.rendering import HiddenRows, unwrap

if TYPE_CHECKING:
    import jinja2

    from airflow_claude_batch._airflow.compat import Context


class RowsToSqlOperator(BaseOperator):
    """Write the rows of a submission to a table of a SQL database.

    The task may be killed and run again at any time: then the table is right. Everything that can be checked is checked
    before the first row is written: paths, columns, constraints and types.

    PostgreSQL, MySQL, MariaDB and SQLite are written in their own ways, by any driver that their hooks use. Any other
    database with a hook of ``apache-airflow-providers-common-sql`` is written by plain ``INSERT`` and ``DELETE``, with
    ``mode="replace"``.

    The XCom is a small dict: ``table``, ``mode``, ``rows_written``, ``rows_failed``, ``rows_skipped`` and
    ``rows_deleted``.

    Example::

        RowsToSqlOperator(
            task_id="load",
            rows=wait.output,
            conn_id="warehouse",
            table="analytics.ticket_labels",
            columns={"id": "key", "label": "output.label", "usd": "cost_usd", "why_not": "error.message"},
        )

    Arguments marked "templated" are rendered by Jinja.

    :param rows: (templated) what :func:`~airflow_claude_batch.rows.read_rows` takes: the manifest that the operator or
        the sensor returned, a list of them, or the path of a results file. The output of another task is given as
        ``rows=wait.output``; a template's text would be read as a path.
    :param conn_id: (templated) the Airflow connection of the database.
    :param table: (templated) the table, as ``table`` or ``schema.table``. Names are taken exactly as they are written;
        a part with a dot in its name is quoted.
    :param columns: what each column of the table gets: a path into the row. A path begins with a field of
        :class:`~airflow_claude_batch.rows.Row` and may go on with names and positions: ``key``, ``cost_usd``,
        ``output.address.city``, ``output.tags[0]``, ``input.title``, ``error.message``. Or it is ``submission_id``,
        which the manifest has. A path that no row has is refused; with ``?`` at its end, as in ``output.nickname?``,
        rows may do without it. Null and what a row does not have become NULL. Values are converted to the type of the
        column: numbers, booleans, dates, times, JSON. Objects and lists in columns of text are written as JSON. Times
        with an offset are written in UTC where the column has no time zone, and times without one count as UTC. NUL
        characters become U+FFFD where the database refuses them, such as PostgreSQL, and the log says where.
    :param constants: (templated) columns that get the same value in each row, such as ``{"day": "{{ ds }}"}``.
    :param mode: what happens to rows that are there:

        - ``upsert`` (the default): rows with the same key are updated, others are inserted.
        - ``insert``: rows with the same key stay as they are, others are inserted.
        - ``replace``: in one transaction, the rows that ``replace_where`` selects are deleted, or those with the same
          keys, and the new rows are inserted.

        ``upsert`` and ``insert`` need a unique constraint on the key, and commit batch by batch.
    :param key: the column, or the columns, that tell rows apart. Default: those of ``columns`` that get the row's
        ``key``, or a member of it.
    :param replace_where: (templated) a condition in SQL for ``replace``, such as ``"day = '{{ ds }}'"``. The new rows
        must satisfy it, or nothing is changed: the next run would write the others twice.
    :param failed_rows: ``include`` (the default) writes rows without a valid answer too, with NULL where their path
        gives nothing, and ``error.message`` for the reason. ``skip`` leaves them out: in ``upsert`` and ``insert``
        mode, yesterday's value of such a row stays in the table.
    :param create_table: create the table if it does not exist, with the key as its primary key and with types that
        take the values of all rows. Default: False.
    :param column_types: the types of columns of a new table, as SQL, instead of those that were found:
        ``{"label": "varchar(32)"}``. For a database whose types are not known, they also say how values are converted.
    :param batch_rows: how many rows are written at once. Default: 5,000. Batches of more than 8 MB are cut.
    :raises ConfigurationError: an argument cannot be right. Raised when the DAG is parsed.
    """

    template_fields: Sequence[str] = ("rows", "conn_id", "table", "constants", "replace_where")
    template_fields_renderers = {"replace_where": "sql"}  # noqa: RUF012  # Airflow reads a plain class attribute
    ui_color = "#f0e6dc"

    def __init__(
        self,
        *,
        rows: Any,
        conn_id: str,
        table: str,
        columns: Mapping[str, str],
        constants: Mapping[str, Any] | None = None,
        mode: Literal["upsert", "insert", "replace"] = "upsert",
        key: str | Sequence[str] | None = None,
        replace_where: str | None = None,
        failed_rows: Literal["include", "skip"] = "include",
        create_table: bool = False,
        column_types: Mapping[str, str] | None = None,
        batch_rows: int = 5_000,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rows = rows
        self.conn_id = conn_id
        self.table = table
        self.columns = columns
        self.constants = constants
        self.mode = mode
        self.key = key
        self.replace_where = replace_where
        self.failed_rows = failed_rows
        self.create_table = create_table
        self.column_types = column_types
        self.batch_rows = batch_rows
        check_transfer(self)

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Render the fields. Prompts and answers in a small manifest stay out of the UI."""
        rendered = super().render_template(content, context, jinja_env, seen_oids)
        is_shown = content is not self.rows or rendered is None or isinstance(rendered, str | os.PathLike)
        return rendered if is_shown else HiddenRows(rendered)

    def execute(self, context: Context) -> dict[str, Any]:
        """Write the rows. Return how many there were."""
        from airflow_claude_batch._airflow.run_transfer import run_transfer
        from airflow_claude_batch.rows import read_rows

        rows = unwrap(self.rows)
        return run_transfer(make_plan(self), self.conn_id, rows, partial(read_rows, rows), context["ti"])
