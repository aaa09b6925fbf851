"""Read a query through an Airflow connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from airflow_claude_batch._airflow.database_hook import driver_message, get_database_hook
from airflow_claude_batch.batch.input.element_errors import type_name
from airflow_claude_batch.batch.input.rows.sql_rows import SqlRowSource
from airflow_claude_batch.exceptions import NOTHING_SENT, ConfigurationError, InputError, SourceError

#: Errors of a hook whose driver or optional package is not installed.
_NOT_INSTALLED: Final = frozenset({"ImportError", "AirflowOptionalProviderFeatureException"})


def open_query(conn_id: Any, sql: Any, parameters: Any) -> SqlRowSource:
    """Return the rows of a query. The connection is opened when they are read.

    :raises InputError: an argument has a type that no query has, after its template was rendered.
    """
    for name, value in {"conn_id": conn_id, "sql": sql}.items():
        if not isinstance(value, str) or not value.strip():
            what = "an empty text" if isinstance(value, str) else type_name(value)
            raise InputError(f"rows: {name} of SqlRows is {what}.", NOTHING_SENT, f"Give a text as {name}.")
    is_sequence = isinstance(parameters, Sequence) and not isinstance(parameters, str | bytes)
    if not (parameters is None or is_sequence or isinstance(parameters, Mapping)):
        raise InputError(
            f"rows: parameters of SqlRows is {type_name(parameters)}, not a mapping or a list.",
            NOTHING_SENT,
            "Give {'day': '{{ ds }}'}, or the output of a task that returns a mapping. One template would be a text.",
        )
    return SqlRowSource(partial(connect, conn_id), sql, parameters, name=f"the query on connection {conn_id!r:.40}")


def connect(conn_id: str) -> Any:
    """Open a DBAPI connection.

    :raises ConfigurationError: the connection is missing or of no database, or a package is not installed.
    :raises SourceError: the database was not reached, or refused the login.
    """
    hook = get_database_hook(conn_id)
    try:
        connection = hook.get_conn()
    except Exception as error:  # each driver has its own
        raise _connect_error(error, conn_id) from None
    if not hasattr(connection, "cursor"):
        raise ConfigurationError(
            f"The hook of connection {conn_id!r:.40} gives no DBAPI connection ({type(hook).__name__:.30}).",
            NOTHING_SENT,
            "Name a connection whose hook is a DbApiHook, such as postgres, mysql, sqlite or snowflake.",
        )
    return connection


def _connect_error(error: Exception, conn_id: str) -> ConfigurationError | SourceError:
    first = f"Connection {conn_id!r:.40}: the database was not reached: {type(error).__name__:.40}."
    said = f"{NOTHING_SENT}{driver_message(error, conn_id)}"
    if any(cls.__name__ in _NOT_INSTALLED for cls in type(error).__mro__):
        return ConfigurationError(first, said, "Install what is missing on every worker.")
    remedy = "A retry connects again. Check host, port and login of the connection, and that this worker reaches it."
    return SourceError(first, said, remedy)
