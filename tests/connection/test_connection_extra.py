from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.api.limits import DEFAULT_API_VERSION
from airflow_claude_batch.connection.settings import ConnectionSettings, ConnectionValues, config_from_connection
from airflow_claude_batch.exceptions import ConfigurationError
from airflow_claude_batch.provider_info import CONNECTION_FIELDS


def read(extra: Any) -> ConnectionSettings:
    text = extra if isinstance(extra, str) else json.dumps(extra)
    return config_from_connection(ConnectionValues(conn_id="c", password="sk-1", extra=text), {})


@pytest.mark.parametrize(
    ("extra", "attribute", "expected"),
    [
        pytest.param({"api_version": "2023-06-01"}, "api_version", "2023-06-01", id="api-version"),
        pytest.param({"api_version": ""}, "api_version", DEFAULT_API_VERSION, id="empty-is-unset"),
        pytest.param({"api_version": None}, "api_version", DEFAULT_API_VERSION, id="null-is-unset"),
        pytest.param({"allow_unknown_parameters": "true"}, "allow_unknown_parameters", True, id="unknown-parameters"),
        pytest.param({"betas": "one, two,"}, "betas", ("one", "two"), id="betas-text"),
        pytest.param({"betas": ["one", "two"]}, "betas", ("one", "two"), id="betas-list"),
        pytest.param({"workspace_id": "wrkspc_1"}, "workspace_id", "wrkspc_1", id="workspace"),
        pytest.param({"user_profile_id": "p"}, "user_profile_id", "p", id="user-profile"),
        pytest.param({"headers": {"X-Team": "data"}}, "extra_headers", {"X-Team": "data"}, id="headers"),
        pytest.param({"headers": '{"X-Team": "data"}'}, "extra_headers", {"X-Team": "data"}, id="headers-text"),
        pytest.param({"proxy": "http://p:3128"}, "proxy", "http://p:3128", id="proxy"),
        pytest.param({"ca_file": "/etc/ca.pem"}, "verify", "/etc/ca.pem", id="ca-file"),
        pytest.param({}, "verify", True, id="verify-unset"),
        pytest.param({"verify": True}, "verify", True, id="verify-on"),
        pytest.param({"verify": "False"}, "verify", False, id="verify-off-text"),
        pytest.param({"connect_timeout": 5}, "connect_timeout", 5.0, id="connect-timeout"),
        pytest.param({"read_timeout": "7.5"}, "read_timeout", 7.5, id="read-timeout-text"),
        pytest.param({"write_timeout": 0.5}, "write_timeout", 0.5, id="write-timeout"),
        pytest.param({"max_retries": 0}, "max_retries", 0, id="no-retries"),
        pytest.param({"max_retries": "3"}, "max_retries", 3, id="retries-text"),
        pytest.param({"anthropic_client_kwargs": {"timeout": 30}}, "write_timeout", 30.0, id="anthropic-timeout"),
        pytest.param(
            {"max_retries": 1, "anthropic_client_kwargs": {"max_retries": 9}}, "max_retries", 1, id="own-name-wins"
        ),
    ],
)
def test_field_of_the_extra_reaches_the_client(extra: dict[str, Any], attribute: str, expected: Any) -> None:
    assert getattr(read(extra).config, attribute) == expected


def test_model_of_the_connection_is_kept() -> None:
    assert read({"model": "claude-haiku-5-5"}).model == "claude-haiku-5-5"
    assert read({}).model is None


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        pytest.param("{", "extra must be a JSON object", id="broken-json"),
        pytest.param("[1]", "extra must be a JSON object", id="no-object"),
        pytest.param({"auth": "basic"}, "auth in its extra must be bearer or x-api-key, not 'basic'", id="auth"),
        pytest.param({"model": 5}, "model in its extra must be a string, not 5", id="number-for-text"),
        pytest.param({"betas": {"a": 1}}, "betas in its extra must be a list of names", id="object-for-list"),
        pytest.param({"betas": [1]}, "betas in its extra must be a list of names", id="numbers-for-names"),
        pytest.param({"headers": ["hush"]}, "headers in its extra must be a JSON object of strings", id="headers-list"),
        pytest.param(
            {"headers": "hush"}, "headers in its extra must be a JSON object of strings", id="headers-no-json"
        ),
        pytest.param(
            {"headers": {"X": 1}}, "headers in its extra must be a JSON object of strings", id="header-number"
        ),
        pytest.param({"headers": {"X": "hu\nsh"}}, "X", id="header-line-break"),
        pytest.param("[" * 100_000, "extra must be a JSON object", id="nested without end"),
        pytest.param({"proxy": "http://hush@["}, "proxy in its extra is not a URL", id="proxy-no-url"),
        pytest.param(
            {"proxy": 8080}, "proxy in its extra must be a string, not a value of type int", id="proxy-number"
        ),
        pytest.param({"verify": "maybe"}, "verify in its extra must be true or false, not 'maybe'", id="verify"),
        pytest.param({"verify": False, "ca_file": "/ca"}, "Remove one of them", id="verify-off-with-ca"),
        pytest.param({"connect_timeout": -1}, "connect_timeout in .* seconds above 0, not -1", id="negative"),
        pytest.param({"read_timeout": 0}, "read_timeout in .* seconds above 0, not 0", id="zero"),
        pytest.param({"write_timeout": "NaN"}, "write_timeout in .* seconds above 0", id="not-a-number"),
        pytest.param({"read_timeout": "1e999"}, "read_timeout in .* seconds above 0", id="infinite"),
        pytest.param({"read_timeout": True}, "read_timeout in .* seconds above 0, not True", id="flag-for-number"),
        pytest.param({"max_retries": 1.5}, "max_retries in .* whole number of at least 0, not 1.5", id="half-a-retry"),
        pytest.param(
            {"max_retries": -1}, "max_retries in .* whole number of at least 0, not -1", id="negative-retries"
        ),
        pytest.param({"workload_identity": "x"}, "workload_identity must be a JSON object", id="identity-text"),
    ],
)
def test_field_of_a_wrong_kind_is_refused_by_name(extra: Any, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=f"(?s)^Connection 'c': .*{complaint}") as caught:
        read(extra)
    assert "hush" not in str(caught.value)


def test_keys_that_nothing_reads_are_warned_of_and_no_failure() -> None:
    extra = {"team": "data", "model": "m", "anthropic_client_kwargs": {"http_client": 1}, "aws_region": "eu"}
    assert read(extra).warnings == ("nothing reads these keys of its extra: anthropic_client_kwargs.http_client, team",)


def test_standard_fields_in_the_extra_are_not_read_but_warned_of() -> None:
    settings = read({"password": "sk-2", "host": "https://elsewhere.example"})
    assert settings.config.base_url == "https://api.anthropic.com"
    assert settings.config.credentials == ApiKey("sk-1")
    assert "host (the connection has a field for it), password (the" in settings.warnings[0]


def test_certificates_not_verified_are_warned_of() -> None:
    assert "verify is false" in read({"verify": False}).warnings[0]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
known_keys = st.sampled_from([*CONNECTION_FIELDS, "platform", "workload_identity", "anthropic_client_kwargs"])


@given(extra=st.dictionaries(known_keys | st.text(max_size=8), json_values, max_size=4))
def test_extra_of_any_shape_is_read_or_refused_by_our_error(extra: dict[str, Any]) -> None:
    complaint = complaint_about(extra)
    assert complaint is None or complaint.startswith("Connection 'c': ")


def complaint_about(extra: dict[str, Any]) -> str | None:
    try:
        read(extra)
    except ConfigurationError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "extra", [{"project_id": 123456789012}, {"region": ["us-east5"]}, {"aws_region": " "}], ids=str
)
def test_places_of_platforms_that_are_not_used_are_ignored_whatever_they_hold(extra: Any):
    assert read(extra).warnings == ()
