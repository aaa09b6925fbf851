from __future__ import annotations

import json

import pytest

from airflow_claude_batch.connection.settings import ConnectionValues, config_from_connection
from airflow_claude_batch.exceptions import ConfigurationError


def base_url(*, environ: dict[str, str] | None = None, password: str = "sk-ant-k", **fields: object) -> str:
    values = ConnectionValues(conn_id="c", password=password, **fields)  # type: ignore[arg-type]  # (a table's row)
    return config_from_connection(values, environ or {}).config.base_url


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, "https://api.anthropic.com", id="none"),
        pytest.param({"host": " "}, "https://api.anthropic.com", id="blank"),
        pytest.param({"host": "api.anthropic.com"}, "https://api.anthropic.com", id="bare-name"),
        pytest.param({"host": "https://api.anthropic.com/"}, "https://api.anthropic.com", id="slash-at-the-end"),
        pytest.param({"host": "https://gw.corp:8443/claude"}, "https://gw.corp:8443/claude", id="port-and-path"),
        pytest.param({"host": "gw.corp/claude"}, "https://gw.corp/claude", id="bare-name-with-path"),
        pytest.param({"host": "gw.corp", "port": 8443}, "https://gw.corp:8443", id="port-field"),
        pytest.param(
            {"host": "https://gw.corp/claude", "port": 8443}, "https://gw.corp:8443/claude", id="port-and-url"
        ),
        pytest.param({"host": "gw.corp:1", "port": 2}, "https://gw.corp:1", id="port-in-host-wins"),
        pytest.param({"host": "gw.corp", "port": 0}, "https://gw.corp", id="port-zero-is-none"),
        pytest.param({"host": "https://gw.corp:0/claude"}, "https://gw.corp/claude", id="port-zero-in-host-is-none"),
        pytest.param({"host": "127.0.0.1", "port": 8700, "schema": "http"}, "http://127.0.0.1:8700", id="loopback"),
        pytest.param({"host": "http://localhost:8700"}, "http://localhost:8700", id="loopback-url"),
        pytest.param({"host": "https.corp"}, "https://https.corp", id="name-like-a-scheme"),
        pytest.param({"host": "http-gw.corp:8443"}, "https://http-gw.corp:8443", id="name-that-begins-like-a-scheme"),
        pytest.param({"host": "https://gw.corp/v1/claude"}, "https://gw.corp/v1/claude", id="another-path-with-v1"),
        pytest.param({"host": "http://[::1]:8700"}, "http://[::1]:8700", id="loopback-ipv6"),
        pytest.param(
            {"extra": '{"anthropic_client_kwargs": {"base_url": "https://gw.corp"}}'},
            "https://gw.corp",
            id="anthropic-client-kwargs",
        ),
    ],
)
def test_host_of_any_spelling_gives_one_base_url(fields: dict[str, object], expected: str) -> None:
    assert base_url(**fields) == expected


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        pytest.param({"host": "http://gw.corp"}, "https://", id="readable-on-the-way"),
        pytest.param({"host": "gw.corp", "schema": "http"}, "https://", id="readable-by-schema"),
        pytest.param({"host": "ftp://gw.corp"}, "https://", id="other-scheme"),
        pytest.param({"host": "https://api.anthropic.com/v1"}, "ends with /v1", id="path-of-the-calls"),
        pytest.param({"host": "https://api.anthropic.com/v1/"}, "ends with /v1", id="path-of-the-calls-slash"),
        pytest.param({"host": "https://gw.corp?x=1"}, "has a query", id="query"),
        pytest.param({"host": "https://u:secret@gw.corp"}, "user name or password", id="password-in-url"),
        pytest.param({"host": "https://gw.corp:99999"}, "not a URL", id="port-out-of-range"),
        pytest.param({"host": "https://[::1"}, "not a URL", id="broken-ipv6"),
        pytest.param({"host": "gw.corp", "schema": "claude"}, "leave schema empty", id="path-in-schema"),
        pytest.param({"host": '"https://gw.corp"'}, "has quotation marks", id="quotes"),
        pytest.param({"host": "'gw.corp'"}, "has quotation marks", id="quotes-around-a-bare-name"),
        pytest.param({"host": "<https://gw.corp>"}, "brackets around it", id="brackets"),
        pytest.param({"host": "https:/gw.corp/x"}, r"begins with 'https:/', .*Write https://gw.corp/x\.", id="slash"),
        pytest.param({"host": "https//gw.corp"}, r"begins with 'https//', .*Write https://gw.corp\.", id="no-colon"),
        pytest.param({"host": "https:gw.corp"}, r"begins with 'https:', .*Write https://gw.corp\.", id="no-slashes"),
        pytest.param({"host": "https://api.anthropic.com/v1/messages"}, "Remove all from /v1 on", id="path-of-a-call"),
        pytest.param({"host": "gw.corp/claude/v1/messages/batches"}, "Remove all from /v1 on", id="path-of-batches"),
        pytest.param({"host": "https://console.anthropic.com"}, "write https://api.anthropic.com", id="console"),
        pytest.param({"host": "claude.ai"}, "web site of Anthropic's", id="chat"),
    ],
)
def test_host_that_cannot_be_used_is_refused(fields: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=f"(?s)^Connection 'c': (host|schema).*{complaint}") as caught:
        base_url(**fields)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "extra", "warned"),
    [
        pytest.param("http://simulator:8700", {"allow_http": True}, "to simulator:8700 unencrypted", id="plain"),
        pytest.param("http://simulator:8700", {"allow_http": "true"}, "unencrypted", id="plain-in-a-uri"),
        pytest.param("simulator:8700", {"allow_http": True}, "https://simulator:8700 is https", id="no-scheme"),
        pytest.param("http://127.0.0.1:8700", {"allow_http": True}, None, id="own-machine"),
        pytest.param("http://127.0.0.1:8700", {}, None, id="own-machine-without-consent"),
        pytest.param("https://simulator:8700", {"allow_http": False}, None, id="encrypted"),
    ],
)
def test_http_by_consent_is_said_in_the_log(host: str, extra: dict[str, object], warned: str | None) -> None:
    values = ConnectionValues(conn_id="c", host=host, password="sk-1", extra=json.dumps(extra))
    warnings = config_from_connection(values, {}).warnings
    assert len(warnings) == (warned is not None)
    assert (warned or "") in "".join(warnings)


def test_base_url_of_the_environment_serves_a_connection_without_host() -> None:
    assert base_url(environ={"ANTHROPIC_BASE_URL": "https://gw.corp/"}) == "https://gw.corp"


def test_base_url_of_the_environment_yields_to_the_connections_host() -> None:
    assert base_url(host="one.corp", environ={"ANTHROPIC_BASE_URL": "https://two.corp"}) == "https://one.corp"


def test_base_url_of_the_environment_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"ANTHROPIC_BASE_URL.*https"):
        base_url(environ={"ANTHROPIC_BASE_URL": "http://gw.corp"})
