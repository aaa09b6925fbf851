"""Tell whether a connection is one of another service, by its type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from airflow_claude_batch.exceptions import ConfigurationError

#: Types that are read: ours, and the one of Apache's provider for Anthropic.
OWN_TYPES: Final = ("claude", "anthropic")
# Types of other services, by the beginning of their names; Airflow's providers, 2026-11. Their credentials are not
# for Anthropic, and must not be sent there. Types for any host, such as http and generic, are read with a warning.
_OTHER_SERVICES: Final = (
    "adls",
    "aws",
    "azure",
    "cohere",
    "databricks",
    "dbt_cloud",
    "docker",
    "elasticsearch",
    "emr",
    "fs",
    "ftp",
    "gcp",
    "github",
    "google",
    "hive",
    "imap",
    "jdbc",
    "jira",
    "kafka",
    "kubernetes",
    "langchain",
    "llamaindex",
    "mcp",
    "mongo",
    "mssql",
    "mysql",
    "odbc",
    "openai",
    "opensearch",
    "oracle",
    "package_index",
    "pinecone",
    "postgres",
    "presto",
    "pydanticai",
    "qdrant",
    "redis",
    "redshift",
    "salesforce",
    "sftp",
    "slack",
    "smtp",
    "snowflake",
    "spark",
    "sqlite",
    "ssh",
    "tableau",
    "trino",
    "vertica",
    "wasb",
    "weaviate",
)
_USE_GOOGLE: Final = (
    "For Google Cloud: a connection of type claude with platform google, and the id of this one in its gcp_conn_id."
)
#: What a connection of a cloud can be used for.
_CLOUDS: Final = {
    "aws": "For Claude Platform on AWS: a connection of type claude with platform aws, and the id of this one in its "
    "aws_conn_id. Amazon Bedrock has no message batches of Claude's.",
    "google": _USE_GOOGLE,
    "gcp": _USE_GOOGLE,
    "azure": "Microsoft Foundry has no message batches of Claude's.",
}


def check_type(conn_type: str | None, *, has_own_key: bool) -> None:
    """Raise if the connection belongs to another service.

    :param has_own_key: it holds a key of Anthropic's, whatever its type.
    :raises ConfigurationError: names the type.
    """
    if conn_type and not has_own_key and conn_type.lower().startswith(_OTHER_SERVICES):
        raise ConfigurationError(
            f"it is of type {conn_type!r}, so its credential is not one for Claude.",
            "Name a connection of type claude in claude_conn_id, or change the type of this one.",
            *(remedy for prefix, remedy in _CLOUDS.items() if conn_type.lower().startswith(prefix)),
        )


def type_warnings(conn_type: str | None) -> Iterator[str]:
    """Yield a warning about a type that is not for Claude."""
    if conn_type and conn_type not in OWN_TYPES:
        yield f"its type is {conn_type!r} and not 'claude', but it is read as if it were"


def type_hint(conn_type: str | None) -> Iterator[str]:
    """Yield a sentence for errors of a connection whose type is not for Claude."""
    if conn_type and conn_type not in OWN_TYPES:
        yield f"Its type is {conn_type!r}. One of type claude has a form for all that is needed."
