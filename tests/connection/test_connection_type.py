from __future__ import annotations

import pytest

from airflow_claude_batch.connection.settings import ConnectionSettings, ConnectionValues, config_from_connection
from airflow_claude_batch.exceptions import ConfigurationError

KEY = "sk-ant-api03-0123456789"


def read(conn_type: str | None, password: str | None = "secret", host: str | None = None) -> ConnectionSettings:
    values = ConnectionValues(conn_id="c", conn_type=conn_type, password=password, host=host)
    return config_from_connection(values, {"ANTHROPIC_API_KEY": "sk-ant-api03-of-the-environment"})


@pytest.mark.parametrize(
    "conn_type",
    ["openai", "aws", "google_cloud_platform", "pydanticai", "pydanticai_bedrock", "postgres", "azure_openai", "slack"],
)
@pytest.mark.parametrize("password", ["secret", None], ids=["its own credential", "none"])
def test_connection_of_another_service_is_named_by_its_type(conn_type: str, password: str | None) -> None:
    """Its credential goes to nobody else, and the environment's is not used in its place."""
    with pytest.raises(ConfigurationError) as caught:
        read(conn_type, password)

    assert (
        caught.value.summary == f"Connection 'c': it is of type {conn_type!r}, so its credential is not one for Claude."
    )
    assert "claude_conn_id" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("conn_type", ["claude", "anthropic", None, ""])
def test_connection_of_a_type_for_claude_is_read(conn_type: str | None) -> None:
    assert read(conn_type).warnings == ()


@pytest.mark.parametrize(
    ("conn_type", "password"),
    [("http", "k"), ("generic", "k"), ("our_gateway", "k"), ("openai", KEY), ("pydanticai", KEY)],
)
def test_connection_of_a_type_for_anything_is_read_with_a_warning(conn_type: str, password: str) -> None:
    assert read(conn_type, password).warnings == (
        f"its type is {conn_type!r} and not 'claude', but it is read as if it were",
    )


def test_error_of_such_a_connection_names_its_type() -> None:
    with pytest.raises(
        ConfigurationError, match=r"names a host but holds no credential\.\n(?s:.*)Its type is 'http'\."
    ):
        read("http", None, "gw.corp")
