"""An API key in a field that is not for it is named, and shown nowhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_claude_batch.connection.settings import ConnectionSettings, ConnectionValues, config_from_connection
from airflow_claude_batch.connection.variable import unreadable_variable_error
from airflow_claude_batch.exceptions import ConfigurationError

SECRET = "R2D2c3po-0123456789"
KEY = f"sk-ant-api03-{SECRET}"
#: The environment has a credential, which must not be used in place of the misplaced one.
ENVIRONMENT = {"ANTHROPIC_API_KEY": "sk-ant-api03-of-the-environment"}


def read(environ: dict[str, str] | None = None, *, extra: Any = None, **fields: Any) -> ConnectionSettings:
    values = ConnectionValues(conn_id="c", extra=json.dumps(extra or {}), **fields)
    return config_from_connection(values, ENVIRONMENT if environ is None else environ)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        pytest.param({"login": KEY}, "login", id="login, as in claude://KEY@"),
        pytest.param({"host": KEY}, "host", id="host, as in claude://KEY"),
        pytest.param({"host": f"https://{KEY}"}, "host", id="host with a scheme"),
        pytest.param({"host": KEY.upper(), "password": "p"}, "host", id="host beside a password"),
        pytest.param({"host": f"https://gw.corp/{KEY}/x", "password": "p"}, "host", id="path"),
        pytest.param({"host": f"https://{KEY}@gw.corp"}, "host", id="user of the host"),
        pytest.param({"port": KEY}, "port", id="port"),
        pytest.param({"schema": KEY}, "schema", id="schema"),
        pytest.param({"schema": KEY[1:]}, "schema", id="schema, as of a variable that is only the key"),
        pytest.param({"extra": {"api_key": KEY}}, "api_key of its extra", id="api_key"),
        pytest.param({"extra": {"apiKey": "gw-1234"}}, "apiKey of its extra", id="another service's key"),
        pytest.param({"extra": {"ANTHROPIC_API_KEY": KEY}}, "ANTHROPIC_API_KEY of its extra", id="variable's name"),
        pytest.param({"extra": {"extra__claude__api_key": "k"}}, "extra__claude__api_key of", id="old form's name"),
        pytest.param({"extra": {"password": KEY}}, "password of its extra", id="password in the extra"),
        pytest.param({"extra": {"note": KEY}}, "note of its extra", id="any name"),
        pytest.param({"extra": {"model": KEY}, "password": "p"}, "model of its extra", id="a field of ours"),
        pytest.param(
            {"extra": {"max_retries": KEY}, "password": "p"}, "max_retries of its extra", id="a number's field"
        ),
        pytest.param({"extra": {"workspace_id": KEY}, "password": "p"}, "workspace_id of its extra", id="a header"),
        pytest.param(
            {"extra": {"anthropic_client_kwargs": {"base_url": KEY}}},
            "anthropic_client_kwargs.base_url of",
            id="nested",
        ),
    ],
)
def test_misplaced_key_is_named_and_not_shown(fields: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(**fields)

    first, money, remedy, *_ = str(caught.value).split("\n")
    assert first.startswith(("Connection 'c': an API key is in ", "Connection 'c': a credential is in "))
    assert place in first
    assert len(first) <= 120
    assert money.startswith("Nothing was sent now.")
    assert remedy.startswith("Move it to password")
    assert SECRET.lower() not in str(caught.value).lower()


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"login": KEY, "password": "sk-2"}, id="login beside a password"),
        pytest.param({"extra": {"api_key": KEY}, "password": "sk-2"}, id="extra beside a password"),
        pytest.param({"extra": {"api_key": "k", "auth_token": "t"}}, id="extra beside a token"),
        pytest.param(
            {"extra": {"token": "k", "workload_identity": {"federation_rule_id": "f"}}}, id="beside an identity"
        ),
        pytest.param({"login": "me", "password": "sk-2"}, id="another login"),
    ],
)
def test_key_beside_a_credential_is_only_warned_of(fields: dict[str, Any]) -> None:
    settings = read({"ANTHROPIC_ORGANIZATION_ID": "o", "ANTHROPIC_IDENTITY_TOKEN_FILE": "/t"}, **fields)

    assert len(settings.warnings) == 1
    assert "nothing reads" in settings.warnings[0]
    assert SECRET not in settings.warnings[0]
    assert ("login" not in fields) or fields["login"] == "me" or KEY in settings.secrets


@pytest.mark.parametrize(
    ("extra", "password"),
    [
        pytest.param({"auth_token": KEY}, None, id="token"),
        pytest.param({"anthropic_client_kwargs": {"api_key": KEY}}, None, id="Apache's form"),
        pytest.param({"headers": {"X-Upstream-Key": KEY}}, "gw-1", id="a gateway's header"),
    ],
)
def test_key_in_a_field_for_secrets_is_read(extra: dict[str, Any], password: str | None) -> None:
    assert read({}, extra=extra, password=password).warnings == ()


@pytest.mark.parametrize("host", ["task-anthropic.corp", "risk-antenna.corp", "sk-ant.corp"])
def test_host_that_only_sounds_like_a_key_is_read(host: str) -> None:
    assert read(host=host, password="p").config.base_url == f"https://{host}"


@pytest.mark.parametrize(
    ("password", "service"),
    [
        ("sk-proj-0123456789", "OpenAI"),
        ("sk-or-v1-0123456789", "OpenRouter"),
        ("AIzaSy0123456789", "Google"),
        ("AKIA0123456789ABCDEF", "AWS"),
        ("ghp_0123456789", "GitHub"),
    ],
)
def test_key_of_another_service_is_not_sent_to_anthropic(password: str, service: str) -> None:
    with pytest.raises(ConfigurationError, match=f"looks like one of {service}, not of Anthropic") as caught:
        read(password=password)
    assert password not in str(caught.value)

    assert read(password=password, host="gw.corp").warnings == ()  # a gateway may take any key


@pytest.mark.parametrize("password", [KEY, "sk-ant-admin01-0123", "sk-0123456789", "any", "AKIAsecret"])
def test_other_keys_are_left_to_the_api(password: str) -> None:
    assert read(password=password).config.base_url == "https://api.anthropic.com"


# ---------------------------------------------------------------- variables that Airflow cannot read


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f'{{"password": "{KEY}"', "it begins with { but is not JSON (character"),
        (f"{{'password': '{KEY}'}}", "it begins with { but is not JSON (character 2)"),
        (f'{{"pasword": "{KEY}"}}', "a connection has no 'pasword' (did you mean password?)"),
        (f'{{"{KEY}": "password"}}', "a connection has no '***'"),
        (f'{{"port": "{KEY}"}}', "an API key is in its port"),
        ('{"port": "https"}', "its port is not a number"),
        ('{"extra": "no json"}', "its extra is not a JSON object"),
        ('{"password": 5}', "its password is not a text"),
        ('{"description": []}', "it has a value that a connection cannot have"),
        (f"claude://:k@host:{KEY}", "the port in its URI is not a number"),
        ("?", "it is neither JSON nor a URI"),
    ],
)
def test_variable_that_airflow_cannot_read_is_explained(text: str, problem: str) -> None:
    error = str(unreadable_variable_error("claude_default", "AIRFLOW_CONN_CLAUDE_DEFAULT", text))

    assert f"Connection 'claude_default': Airflow cannot read it from AIRFLOW_CONN_CLAUDE_DEFAULT: {problem}" in error
    assert SECRET not in error
