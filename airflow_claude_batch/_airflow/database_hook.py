"""Find the database behind an Airflow connection. No error quotes its password."""

from __future__ import annotations

import importlib.util
from typing import Any, Final

from airflow_claude_batch._airflow.compat import AirflowException, AirflowNotFoundException, BaseHook
from airflow_claude_batch.exceptions import NOTHING_SENT, ConfigurationError

_LONGEST_MESSAGE: Final = 300
#: Airflow's providers whose name does not follow from the type of the connection; their provider.yaml, 2026-11.
_PROVIDERS: Final = {
    "gcpbigquery": "google",
    "gcpcloudsqldb": "google",
    "redshift": "amazon",
    "mssql": "microsoft-mssql",
    "druid": "apache-druid",
    "hiveserver2": "apache-hive",
    "impala": "apache-impala",
    "pinot": "apache-pinot",
}


def get_database_hook(conn_id: str, unharmed: str = NOTHING_SENT) -> Any:
    """Return the hook of a database connection: a ``DbApiHook``.

    :param unharmed: the line of an error that says what it means for money.
    :raises ConfigurationError: there is no such connection, it is of no database, or its provider is not installed.
    """
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise ConfigurationError(
            f"There is no connection {conn_id!r:.60}, or Airflow could not look it up.",
            unharmed,
            f"Create it: airflow connections add {conn_id} --conn-type postgres --conn-host <host> …",
        ) from None
    hook = _hook_of(connection, conn_id, unharmed)
    # By its interface, and not by its class: common-sql need not be imported to say this.
    if not (hasattr(hook, "get_conn") and hasattr(hook, "get_records")):
        raise ConfigurationError(
            f"Connection {conn_id!r:.40} has the type {connection.conn_type!r:.40}, which is no SQL database.",
            unharmed,
            "Name a connection whose hook is a DbApiHook, such as postgres, mysql, sqlite or snowflake.",
        )
    return hook


def driver_message(error: Exception, conn_id: str) -> str:
    """Return what a driver says of a connection that it could not open, as a sentence. Empty if a secret is in it."""
    text = next((text for text in reversed(error.args) if isinstance(text, str)), "")
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines or any(secret in text for secret in _secrets_of(conn_id)):
        return ""
    return f" The driver's message: {lines[0].strip()[:_LONGEST_MESSAGE].rstrip('.')}."


def _secrets_of(conn_id: str) -> list[str]:
    """Return the password of a connection and the texts in its extra that look like one."""
    connection = BaseHook.get_connection(conn_id)
    extra = [value for value in connection.extra_dejson.values() if isinstance(value, str) and len(value) >= 8]
    return [secret for secret in (connection.password, *extra) if secret]


def _hook_of(connection: Any, conn_id: str, unharmed: str) -> Any:
    try:
        return connection.get_hook()
    except (AirflowException, ImportError) as error:  # no provider for this type, or a library of it is missing
        missing = f" (no module {error.name})" if isinstance(error, ImportError) and error.name else ""
        type_ = str(connection.conn_type)
        raise ConfigurationError(
            f"Airflow has no hook for connection {conn_id!r:.30}, which has the type {type_!r:.30}{missing:.40}.",
            unharmed,
            f"Install {_packages(type_)} on every worker.",
        ) from None


def _packages(type_: str) -> str:
    package = f"apache-airflow-providers-{_PROVIDERS.get(type_, type_.replace('_', '-'))}"
    if importlib.util.find_spec("airflow.providers.common") and importlib.util.find_spec(
        "airflow.providers.common.sql"
    ):
        return package
    return f"{package} and airflow-claude-batch[sql]"
