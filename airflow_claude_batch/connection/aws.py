"""Choose the credential of a connection to Claude Platform on AWS, in the order of Anthropic's SDK.

1. the connection's password, an API key. 2. keys of the Airflow connection that ``aws_conn_id`` names. 3. the
environment's ``ANTHROPIC_AWS_API_KEY``. 4. AWS's default chain: the role of the worker, variables, files.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from airflow_claude_batch.api.aws_credentials import AwsSigV4
from airflow_claude_batch.api.aws_keys import KeySource, Session
from airflow_claude_batch.api.credentials import ApiKey, BearerToken, Credentials, check_secret
from airflow_claude_batch.connection.choices import only_credential
from airflow_claude_batch.exceptions import ConfigurationError

#: Reads an Airflow connection to AWS, by its id and a region if it names none. Its session is opened later.
OpenAwsConnection = Callable[[str, str], KeySource]
#: What installs the packages that sign for AWS.
INSTALL_REMEDY: Final = "Install it on every worker and triggerer: pip install 'airflow-claude-batch[aws]'"

_ACCESS_KEY: Final = re.compile(r"A[KS]IA[A-Z0-9]{16}")
_FOREIGN: Final = ("federation_rule_id", "identity_token", "identity_token_file")


@dataclass(frozen=True, slots=True)
class AwsApiKey(ApiKey):
    """An API key for Claude Platform on AWS."""

    remedy: ClassVar[str] = (
        "Check the API key, which is the connection's password: it must be one of the AWS Console's page of Claude "
        "Platform on AWS. A key of the Claude Console, or one that has ended, is refused."
    )


@dataclass(frozen=True, slots=True)
class EnvironmentAwsApiKey(ApiKey):
    """An API key for Claude Platform on AWS, from the deployment's environment."""

    remedy: ClassVar[str] = "Check ANTHROPIC_AWS_API_KEY in the environment of Airflow's workers and triggerers."


def own_credential(
    login: str | None,
    password: str | None,
    extra: Mapping[str, Any],
    header: Literal["authorization", "x-api-key"],
    open_connection: OpenAwsConnection,
    region: str,
) -> Credentials | None:
    """Return the credential that the connection holds or names, None if there is none.

    :param login: never a part of it. With an access key of AWS there, the password is no API key.
    :raises ConfigurationError: there are several, or one that AWS does not accept.
    """
    if foreign := [name for name in _FOREIGN if extra.get(name)]:
        raise ConfigurationError(
            f"platform is aws, where no workload identity works ({', '.join(foreign)}).",
            "Remove it. Use aws_conn_id, the role of the workers, or an API key of the AWS Console in password.",
        )
    fields = {"password": password, "auth_token": extra.get("auth_token"), "aws_conn_id": extra.get("aws_conn_id")}
    only_credential(fields, extra.get("auth"))
    if password:
        _check_no_access_key({"login": login, "password": password})
        return AwsApiKey(password, header)
    if extra.get("auth_token"):
        return BearerToken(extra["auth_token"])
    if aws_conn_id := extra.get("aws_conn_id"):
        return AwsSigV4(open_connection(aws_conn_id, region), region, f"AWS connection {aws_conn_id!r}")
    return None


def environment_credential(
    environ: Mapping[str, str], header: Literal["authorization", "x-api-key"], region: str
) -> Credentials:
    """Return the credential of the deployment.

    :raises ConfigurationError: botocore is not installed.
    """
    if key := environ.get("ANTHROPIC_AWS_API_KEY"):
        check_secret(key, "the environment's ANTHROPIC_AWS_API_KEY")
        return EnvironmentAwsApiKey(key, header)
    if importlib.util.find_spec("botocore") is None:
        raise ConfigurationError("platform is aws, but the package botocore is not installed.", INSTALL_REMEDY)
    source = KeySource(lambda: _default_session(region), name=("default chain", region), is_machines=True)
    return AwsSigV4(source, region, "AWS's default chain")


def is_machines(credentials: Credentials) -> bool:
    """Tell whether keys of the machine sign. They do for an AWS connection that holds no keys and names no role."""
    return isinstance(credentials, AwsSigV4) and credentials.source.is_machines


def no_aws_connections(aws_conn_id: str, region: str) -> KeySource:
    """Refuse a connection to AWS, where no Airflow can be asked for it.

    :raises ConfigurationError: always.
    """
    raise ConfigurationError(f"aws_conn_id names {aws_conn_id!r}, but no connections can be read here.")


def _check_no_access_key(fields: Mapping[str, str | None]) -> None:
    """Raise if keys of AWS are in the connection. The secret one would be sent, as if it were an API key."""
    for name, text in fields.items():
        if _ACCESS_KEY.fullmatch((text or "").strip()):
            raise ConfigurationError(
                f"its {name} is an access key of AWS, which is only half of a credential.",
                "Put both halves into an Airflow connection of type aws, and name that in aws_conn_id.",
            )


def _default_session(region: str) -> Session:
    import botocore.session

    session: Session = botocore.session.Session(session_vars={"region": (None, None, region, None)})
    return session
