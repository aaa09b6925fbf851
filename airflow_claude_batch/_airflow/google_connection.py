"""Read an Airflow connection of type ``google_cloud_platform``, with the hook of Airflow's Google provider.

The connection is read at once, in the caller's thread, because only that may talk to Airflow. Its credentials, which
may talk to Google, are made later and elsewhere.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from airflow_claude_batch._airflow.compat import AirflowNotFoundException, BaseHook
from airflow_claude_batch.api.google_auth import GivenCredentials
from airflow_claude_batch.connection.google import GoogleConnection
from airflow_claude_batch.exceptions import ConfigurationError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

#: Of the provider's hooks: the connection's project, in its form of today and in the older one.
_PROJECT: Final = ("project", "extra__google_cloud_platform__project")


def open_google_connection(gcp_conn_id: str) -> GoogleConnection:
    """Return the account of a Google connection: its key, the account that it impersonates, or the machine's.

    :raises ConfigurationError: there is no such connection, or the Google provider is not installed.
    """
    try:
        from airflow.providers.google.common.hooks.base_google import GoogleBaseHook
    except ImportError:
        raise ConfigurationError(
            f"gcp_conn_id names {gcp_conn_id!r}, but Airflow's Google provider is not installed.",
            "Install it on workers and triggerers: pip install apache-airflow-providers-google. Or put the service "
            "account's key into keyfile_dict, which needs no provider.",
        ) from None
    connection = _look_up(gcp_conn_id)
    hook = GoogleBaseHook(gcp_conn_id=gcp_conn_id)  # reads the connection, and keeps it

    def load() -> Credentials:
        credentials: Credentials = hook.get_credentials()
        return credentials

    extra = connection.extra_dejson
    project = next((extra[name] for name in _PROJECT if extra.get(name)), None)
    source = GivenCredentials(f"the connection {gcp_conn_id!r}", _fingerprint(connection), load)
    return GoogleConnection(source, project)


def _look_up(gcp_conn_id: str) -> Any:
    try:
        return BaseHook.get_connection(gcp_conn_id)
    except AirflowNotFoundException:
        raise ConfigurationError(
            f"gcp_conn_id names {gcp_conn_id!r}, but there is no such connection.",
            f"Create it: airflow connections add {gcp_conn_id} --conn-type google_cloud_platform",
        ) from None


def _fingerprint(connection: Any) -> str:
    """Return a digest of the connection: another one has another account."""
    fields = (connection.conn_type, connection.host, connection.login, connection.password, connection.extra)
    return hashlib.sha256(repr(fields).encode()).hexdigest()
