"""Connections to Claude Platform on AWS."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_claude_batch.api.aws_credentials import AwsSigV4
from airflow_claude_batch.api.aws_keys import KeySource
from airflow_claude_batch.api.aws_signature import AwsKeys
from airflow_claude_batch.api.credentials import BearerToken
from airflow_claude_batch.connection.aws import AwsApiKey, EnvironmentAwsApiKey
from airflow_claude_batch.connection.settings import ConnectionSettings, ConnectionValues, config_from_connection
from airflow_claude_batch.exceptions import ConfigurationError

PLACE = {"platform": "aws", "region": "us-west-2", "workspace_id": "wrkspc_1"}
HOST = "https://aws-external-anthropic.us-west-2.api.aws"


def open_connection(aws_conn_id: str, region: str) -> KeySource:
    """An AWS connection whose access key is its id. The one named "empty" has the machine's keys."""
    frozen = SimpleNamespace(access_key=aws_conn_id, secret_key=f"secret of {aws_conn_id}", token="")
    credentials = SimpleNamespace(get_frozen_credentials=lambda: frozen)
    session = SimpleNamespace(get_credentials=lambda: credentials)
    return KeySource(lambda: session, name=(aws_conn_id, region), is_machines=aws_conn_id == "empty")


def read(
    extra: dict[str, Any] | None = None, environ: dict[str, str] | None = None, *, place: Any = PLACE, **fields: Any
) -> ConnectionSettings:
    values = ConnectionValues(conn_id="c", conn_type="claude", extra=json.dumps({**place, **(extra or {})}), **fields)
    return config_from_connection(values, environ or {}, open_aws_connection=open_connection)


def test_region_decides_the_host_and_every_call_names_the_workspace():
    config = read().config

    assert (config.base_url, config.platform, config.region, config.workspace_id) == (
        HOST,
        "aws",
        "us-west-2",
        "wrkspc_1",
    )
    assert config.fixed_headers()["anthropic-workspace-id"] == "wrkspc_1"


def test_place_may_come_from_the_variables_of_the_sdk():
    environ = {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "x", "ANTHROPIC_AWS_WORKSPACE_ID": "wrkspc_2"}

    config = read(environ=environ, place={"platform": "aws"}).config

    assert (config.base_url, config.workspace_id) == (HOST.replace("us-west-2", "eu-west-1"), "wrkspc_2")


def test_region_and_workspace_may_be_where_the_anthropic_provider_has_them():
    place = {"platform": "aws", "aws_region": "us-east-1", "anthropic_client_kwargs": {"workspace_id": "w"}}

    config = read(place=place).config
    assert (config.region, config.workspace_id) == ("us-east-1", "w")


@pytest.mark.parametrize(
    ("fields", "environ", "expected"),
    [
        pytest.param({"password": "key-1"}, {"ANTHROPIC_AWS_API_KEY": "key-2"}, AwsApiKey("key-1"), id="password"),
        pytest.param(
            {"password": "key-1", "extra": {"auth": "x-api-key"}}, {}, AwsApiKey("key-1", "x-api-key"), id="x-api-key"
        ),
        pytest.param({"extra": {"auth_token": "t-1"}}, {}, BearerToken("t-1"), id="token"),
        pytest.param(
            {}, {"ANTHROPIC_AWS_API_KEY": "key-2"}, EnvironmentAwsApiKey("key-2"), id="key of the environment"
        ),
        pytest.param({}, {"ANTHROPIC_API_KEY": "sk-ant-1"}, None, id="role, and no key for Anthropic's own host"),
    ],
)
def test_credentials_have_the_order_of_the_sdk(fields: Any, environ: dict[str, str], expected: Any):
    credentials = read(environ=environ, **fields).config.credentials

    assert credentials == expected if expected else isinstance(credentials, AwsSigV4)


def test_aws_connection_signs_even_where_the_environment_has_a_key():
    credentials = read({"aws_conn_id": "aws_batches"}, {"ANTHROPIC_AWS_API_KEY": "key-2"}).config.credentials

    assert isinstance(credentials, AwsSigV4)
    assert credentials.source.keys(5) == AwsKeys("aws_batches", "secret of aws_batches")
    assert (credentials.region, credentials.origin) == ("us-west-2", "AWS connection 'aws_batches'")


def test_role_of_the_worker_signs_if_nothing_else_is_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAROLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")

    assert read().config.credentials.source.keys(30) == AwsKeys("AKIAROLE", "secret", "token")  # type: ignore[attr-defined]


def test_connection_that_is_read_again_keeps_its_client():
    first, second = read({"aws_conn_id": "a"}).config, read({"aws_conn_id": "a"}).config

    assert first == second
    assert hash(first) == hash(second)
    assert first != read({"aws_conn_id": "b"}).config
    assert read().config == read().config


@pytest.mark.parametrize(
    ("extra", "fields", "message"),
    [
        pytest.param({"region": ""}, {}, r"platform is aws, but no region.*\n.*\n.*us-west-2", id="no region"),
        pytest.param(
            {"region": "us-west-2.example.com/"}, {}, "region is not a region of AWS", id="region with a host"
        ),
        pytest.param({"region": "x@y"}, {}, "region is not a region of AWS", id="region with a user name"),
        pytest.param({"workspace_id": ""}, {}, "platform is aws, but no workspace_id", id="no workspace"),
        pytest.param(
            {"federation_rule_id": "f", "organization_id": "o", "identity_token_file": "/t"},
            {},
            r"no workload identity works \(federation_rule_id, identity_token_file\)",
            id="workload identity",
        ),
        pytest.param(
            {"aws_conn_id": "a"}, {"password": "k"}, r"more than one credential \(password, aws_conn_id\)", id="two"
        ),
        pytest.param({"aws_conn_id": "a", "auth": "x-api-key"}, {}, "auth is x-api-key", id="header without a key"),
        pytest.param(
            {},
            {"password": "AKIAABCDEFGHIJKLMNOP"},
            "its password is an access key of AWS",
            id="access key as password",
        ),
        pytest.param(
            {},
            {"login": "AKIAABCDEFGHIJKLMNOP", "password": "secret-access-key"},
            "its login is an access key of AWS",
            id="both keys of AWS",
        ),
        pytest.param({"platform": "bedrock"}, {}, "platform is 'bedrock'.*no message batches", id="bedrock"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(extra: dict[str, Any], fields: Any, message: str):
    with pytest.raises(ConfigurationError, match=message) as caught:
        read(extra, **fields)

    assert not re.search("AKIAABC|secret-access", str(caught.value))


@pytest.mark.parametrize(
    "choice",
    [
        {"host": "https://gateway.example"},
        {"extra": {"proxy": "http://proxy.example:80"}},
        {"extra": {"verify": False}},
        {"extra": {"ca_file": "/ca.pem"}},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("environ", "named"),
    [({}, {}), ({"ANTHROPIC_AWS_API_KEY": "key-2"}, {}), ({}, {"aws_conn_id": "empty"})],
    ids=["role", "key", "role through an AWS connection that holds nothing"],
)
def test_credential_of_the_deployment_goes_to_no_host_that_a_connection_chooses(
    choice: Any, environ: dict[str, str], named: dict[str, str]
):
    with pytest.raises(ConfigurationError, match="holds no credential") as caught:
        read(environ=environ, **{**choice, "extra": {**choice.get("extra", {}), **named}})

    assert "Name a connection with keys or a role in aws_conn_id" in str(caught.value)


def test_aws_connection_that_holds_nothing_signs_for_the_host_of_the_deployment():
    environ = {"ANTHROPIC_AWS_BASE_URL": "https://vpce-1.example"}

    assert read({"aws_conn_id": "empty"}).config.base_url == HOST
    assert read({"aws_conn_id": "empty"}, environ).config.base_url == "https://vpce-1.example"


def test_deployment_may_choose_the_host():
    environ = {"ANTHROPIC_AWS_BASE_URL": "https://vpce-1.example/", "ANTHROPIC_BASE_URL": "https://other.example"}

    config = read(environ=environ).config

    assert config.base_url == "https://vpce-1.example"
    assert isinstance(config.credentials, AwsSigV4)


def test_host_of_the_connection_wins():
    assert read({"aws_conn_id": "a"}, host="https://vpce-2.example").config.base_url == "https://vpce-2.example"


def test_plain_http_is_never_spoken_to_aws():
    with pytest.raises(ConfigurationError, match="must begin with https"):
        read({"aws_conn_id": "a", "allow_http": True}, host=HOST.replace("https", "http"))


def test_aws_connection_without_the_platform_is_warned_of():
    settings = read({"aws_conn_id": "a"}, place={}, password="sk-ant-1")

    assert [warning for warning in settings.warnings if "aws_conn_id" in warning]


def test_no_secret_is_shown():
    config = read({"aws_conn_id": "aws_batches"}).config
    config.credentials.source.keys(5)  # type: ignore[attr-defined]

    assert not re.search("secret", repr(config))
    assert "key-1" not in repr(read(password="key-1").config)
