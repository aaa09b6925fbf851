"""Read an Airflow connection of type ``aws``, with the hook of Airflow's Amazon provider.

The connection is read at once, in the caller's thread, because only that may talk to Airflow. The session, which may
talk to AWS, is opened later and elsewhere.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from airflow_claude_batch._airflow.compat import AirflowNotFoundException, BaseHook
from airflow_claude_batch.api.aws_keys import KeySource, Session
from airflow_claude_batch.connection.aws import INSTALL_REMEDY
from airflow_claude_batch.exceptions import ConfigurationError

#: The Amazon provider's default. Without such a connection it uses AWS's default chain.
_DEFAULT: Final = "aws_default"


def open_aws_connection(aws_conn_id: str, region: str) -> KeySource:
    """Return the keys of an AWS connection: stored ones, or those of the role that it names, renewed before they end.

    :param region: where AWS's token service is called, if the connection names no region.
    :raises ConfigurationError: there is no such connection, it is of another type, or the Amazon provider is not
        installed.
    """
    try:
        from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
    except ImportError:
        raise ConfigurationError(
            f"aws_conn_id names {aws_conn_id!r}, but Airflow's Amazon provider is not installed.", INSTALL_REMEDY
        ) from None
    content = _content(aws_conn_id)
    hook = AwsBaseHook(aws_conn_id=aws_conn_id, client_type="sts")
    config = hook.conn_config  # reads the connection, and keeps it

    def open_session() -> Session:
        session: Session = hook.get_session(region_name=hook.region_name or region)
        return session

    # A profile is a secret of the machine, too: it is in a file there.
    is_machines = not (config.aws_access_key_id or config.role_arn)
    return KeySource(open_session, name=(aws_conn_id, region, content), is_machines=is_machines)


def _content(aws_conn_id: str) -> str:
    """Return a digest of the connection: another one has other keys."""
    try:
        connection: Any = BaseHook.get_connection(aws_conn_id)
    except AirflowNotFoundException:
        if aws_conn_id != _DEFAULT:
            raise ConfigurationError(
                f"aws_conn_id names {aws_conn_id!r}, but there is no such connection.",
                f"Create it: airflow connections add {aws_conn_id} --conn-type aws",
            ) from None
        return ""
    if connection.conn_type not in (None, "", "aws"):
        # The signature would be made with its password, and a host that receives one can guess the password by trying.
        raise ConfigurationError(
            f"aws_conn_id names {aws_conn_id!r}, which is of type {connection.conn_type!r} and not aws.",
            "Name a connection of type aws.",
        )
    fields = (connection.conn_type, connection.host, connection.login, connection.password, connection.extra)
    return hashlib.sha256(repr(fields).encode()).hexdigest()
