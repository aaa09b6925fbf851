"""Where rows come from: a SQL query, or files::

from airflow_claude_batch.sources import FileRows, SqlRows
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from airflow_claude_batch._airflow.compat import Context, ResolveMixin
from airflow_claude_batch._airflow.source import Source
from airflow_claude_batch.exceptions import ConfigurationError, InputError

if TYPE_CHECKING:
    import jinja2

    from airflow_claude_batch._airflow.compat import XComArg
    from airflow_claude_batch.batch.input.rows.source import RowSource

__all__ = ["FileRows", "SqlRows"]

#: A path, as operators of SQL take it. A query that ends in the name of a column ``sql`` has white space.
_SQL_FILE: Final = re.compile(r"\S+\.sql")


@dataclass(repr=False)
class SqlRows(Source):
    """Rows of a SQL query, read through an Airflow connection to a database.

    Every database works whose hook is a ``DbApiHook``: PostgreSQL, MySQL, SQLite, Snowflake and many more. Its provider
    and ``apache-airflow-providers-common-sql`` must be installed: ``pip install 'airflow-claude-batch[sql]'``.

    The rows are read a few at a time, so memory does not grow with their number. PostgreSQL and MySQL stream the result
    from the server. The query runs in a transaction of its own, which ends with a rollback.

    Example::

        from airflow_claude_batch.operators import SendMessageBatchOperator
        from airflow_claude_batch.sources import SqlRows

        SendMessageBatchOperator(
            task_id="label",
            rows=SqlRows(
                conn_id="warehouse",
                sql="SELECT id, title, body FROM tickets WHERE day = %(day)s AND state = 'open' ORDER BY id",
                parameters={"day": "{{ ds }}"},
            ),
            key="id",
            prompt="<title>{title}</title>\\n<body>{body}</body>",
        )

    :param conn_id: id of the connection. A template.
    :param sql: one SELECT. A template: ``WHERE day = '{{ ds }}'``. Or the path of a ``.sql`` file with one, below the
        DAG's folder or its ``template_searchpath``. Each column needs a name of its own. With ``ORDER BY``, the rows
        come in the same order at each run.
    :param parameters: values for the query, as a mapping or a list. Placeholders are those of the database's driver:
        ``%(day)s`` or ``%s`` for PostgreSQL and MySQL, ``:day`` or ``?`` for SQLite. The values are templates, and may
        be outputs of tasks. Airflow shows their names only. With parameters, most drivers read ``%`` in the SQL as a
        placeholder, so that a literal one is ``%%``. Without any, ``%`` is literal.
    :raises ConfigurationError: when the DAG is parsed, if ``conn_id`` or ``sql`` is no text.
    """

    conn_id: str | XComArg
    sql: str | XComArg
    parameters: Mapping[str, Any] | Sequence[Any] | XComArg | None = None

    template_fields: ClassVar[Sequence[str]] = ("conn_id", "sql", "parameters")

    def __post_init__(self) -> None:
        for name in ("conn_id", "sql"):
            value = getattr(self, name)
            is_empty = isinstance(value, str) and not value.strip()
            if is_empty or not isinstance(value, str | ResolveMixin):
                raise ConfigurationError(
                    f"SqlRows: {name} must be a text, not {'an empty one' if is_empty else type(value).__name__:.40}.",
                    "Nothing was sent.",
                    "Give it as SqlRows('warehouse', 'SELECT id, body FROM tickets').",
                )

    def __repr__(self) -> str:
        names = self._parameter_names()
        shown = f", parameters: {names}" if names else ""
        return f"SqlRows({str(self.conn_id)!r}, {str(self.sql)!r}{shown})"

    def serialize(self) -> str:
        """Return the query, under a comment that names the connection and the parameters, but none of their values."""
        names = self._parameter_names()
        return f"-- connection: {self.conn_id}{f', parameters: {names}' if names else ''}\n{self.sql}"

    def resolve(self, context: Context) -> Self:
        """Return a rendered copy. The text of a ``.sql`` file is a template, too.

        :raises InputError: there is no such file.
        """
        source = self
        if isinstance(self.sql, str) and _SQL_FILE.fullmatch(self.sql):
            source = copy(self)
            source.sql = _read_file(self.sql, context["task"].get_template_env())
        return super(SqlRows, source).resolve(context)

    def rows(self) -> RowSource:
        """Return the rows. The connection is opened when they are read.

        :raises InputError: a template gave something that is no query.
        """
        from airflow_claude_batch._airflow.read_sql import open_query

        return open_query(self.conn_id, self.sql, self.parameters)

    def _parameter_names(self) -> str:
        if self.parameters is None:
            return ""
        if isinstance(self.parameters, Mapping):
            return ", ".join(map(str, self.parameters))
        if isinstance(self.parameters, list | tuple):
            return str(len(self.parameters)) if self.parameters else ""
        return "those of another task" if isinstance(self.parameters, ResolveMixin) else "those of a template"


def _read_file(path: str, env: jinja2.Environment) -> str:
    from jinja2 import TemplateNotFound

    loader = env.loader
    try:
        return loader.get_source(env, path)[0] if loader else path
    except TemplateNotFound:
        raise InputError(
            f"rows: there is no file {path!r:.60} for SqlRows.",
            "Nothing was sent.",
            "Give its path below the folder of the DAG file, or below one of the DAG's template_searchpath.",
        ) from None


@dataclass
class FileRows(Source):
    """The rows of files: one file, all files of a folder, or those that a pattern names.

    A file's suffix names its format: ``.parquet`` (with the extra ``parquet``), ``.csv``, ``.tsv``, ``.jsonl`` and
    ``.ndjson``, and ``.gz`` after the last four. In CSV the first line names the columns, and all values are texts. A
    line of JSON lines is an object. Files are read one after the other, in the order of their paths as plain strings,
    so ``part-10`` comes before ``part-2``. All must have one format and the same columns.

    A folder is read with all folders below it. Names that begin with ``_`` or ``.`` are left out, as Spark does it, and
    files of other suffixes are counted in the log. A folder named ``day=2026-11-29`` does not become a column. If there
    is no file, ``on_empty`` decides what happens.

    Example::

        rows = FileRows("s3://aws_default@bucket/tickets/day={{ ds }}/*.parquet")

    :param path: an absolute path, or a URI that Airflow's object storage reaches, with the connection before the ``@``.
        ``*``, ``?``, ``[…]`` and ``**`` make it a pattern. It is a template.
    """

    path: str | os.PathLike[str]

    template_fields: ClassVar[Sequence[str]] = ("path",)

    def rows(self) -> RowSource:
        from airflow_claude_batch._airflow.read_files import open_files

        return open_files(self.path)
