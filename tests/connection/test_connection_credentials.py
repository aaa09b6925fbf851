from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_claude_batch.api.credentials import ApiKey, BearerToken, Credentials
from airflow_claude_batch.api.workload_identity import WorkloadIdentity
from airflow_claude_batch.connection.settings import (
    ConnectionSettings,
    ConnectionValues,
    EnvironmentApiKey,
    EnvironmentToken,
    config_from_connection,
)
from airflow_claude_batch.exceptions import ConfigurationError

IDENTITY = {"federation_rule_id": "fdrl_1", "organization_id": "org-1", "identity_token_file": "/run/token"}
IDENTITY_WITH_TOKEN = {"federation_rule_id": "fdrl_1", "organization_id": "org-1", "identity_token": "a.b.c"}
IDENTITY_VARIABLES = {
    "ANTHROPIC_FEDERATION_RULE_ID": "fdrl_e",
    "ANTHROPIC_ORGANIZATION_ID": "org-e",
    "ANTHROPIC_IDENTITY_TOKEN_FILE": "/run/token-e",
}


def read(
    environ: dict[str, str] | None = None,
    *,
    extra: dict[str, Any] | None = None,
    allow_token_files: bool = False,
    **fields: Any,
) -> ConnectionSettings:
    values = ConnectionValues(conn_id="c", extra=json.dumps(extra or {}), **fields)
    return config_from_connection(values, environ or {}, allow_token_files=allow_token_files)


@pytest.mark.parametrize(
    ("password", "extra", "expected"),
    [
        pytest.param("sk-1", {}, ApiKey("sk-1"), id="key"),
        pytest.param(" sk-1\n", {}, ApiKey("sk-1"), id="key-with-line-break"),
        pytest.param("sk-1", {"auth": "bearer"}, ApiKey("sk-1"), id="key-bearer"),
        pytest.param("sk-1", {"auth": "x-api-key"}, ApiKey("sk-1", "x-api-key"), id="key-older-header"),
        pytest.param(None, {"auth_token": "t-1"}, BearerToken("t-1"), id="token"),
        pytest.param("", IDENTITY, WorkloadIdentity(**IDENTITY), id="identity"),
        pytest.param(
            None,
            {**IDENTITY, "service_account_id": "svac_1", "workspace_id": "wrkspc_1"},
            WorkloadIdentity(**IDENTITY, service_account_id="svac_1", workspace_id="wrkspc_1"),
            id="identity-in-full",
        ),
        pytest.param(None, {"workload_identity": IDENTITY}, WorkloadIdentity(**IDENTITY), id="identity-anthropic-form"),
        pytest.param(None, {"anthropic_client_kwargs": {"api_key": "sk-1"}}, ApiKey("sk-1"), id="key-anthropic-form"),
    ],
)
def test_credential_is_chosen_by_the_fields_that_are_set(
    password: str | None, extra: dict[str, Any], expected: Credentials
) -> None:
    environ = {"ANTHROPIC_API_KEY": "sk-of-the-environment"}
    assert read(environ, password=password, extra=extra).config.credentials == expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({"ANTHROPIC_API_KEY": "sk-e"}, EnvironmentApiKey("sk-e"), id="key"),
        pytest.param({"ANTHROPIC_AUTH_TOKEN": "t-e"}, EnvironmentToken("t-e"), id="token"),
        pytest.param(
            {"ANTHROPIC_API_KEY": "sk-e", "ANTHROPIC_AUTH_TOKEN": "t-e", **IDENTITY_VARIABLES},
            EnvironmentApiKey("sk-e"),
            id="key-first",
        ),
        pytest.param(
            {"ANTHROPIC_API_KEY": " ", "ANTHROPIC_AUTH_TOKEN": "t-e", **IDENTITY_VARIABLES},
            EnvironmentToken("t-e"),
            id="empty-is-unset-and-token-second",
        ),
        pytest.param(
            {**IDENTITY_VARIABLES, "ANTHROPIC_IDENTITY_TOKEN": "a.b.c", "ANTHROPIC_WORKSPACE_ID": "wrkspc_e"},
            WorkloadIdentity(
                federation_rule_id="fdrl_e",
                organization_id="org-e",
                identity_token_file="/run/token-e",
                workspace_id="wrkspc_e",
            ),
            id="identity-last-and-its-file-first",
        ),
        pytest.param(
            {
                "ANTHROPIC_FEDERATION_RULE_ID": "fdrl_e",
                "ANTHROPIC_ORGANIZATION_ID": "org-e",
                "ANTHROPIC_IDENTITY_TOKEN": "a.b.c",
            },
            WorkloadIdentity(federation_rule_id="fdrl_e", organization_id="org-e", identity_token="a.b.c"),
            id="identity-by-token",
        ),
    ],
)
@pytest.mark.parametrize("exists", [True, False], ids=["empty-connection", "no-connection"])
def test_credential_of_the_environment_is_chosen_as_the_sdk_does(
    exists: bool, environ: dict[str, str], expected: Credentials
) -> None:
    assert read(environ, exists=exists).config.credentials == expected


def test_remedy_names_where_the_credential_comes_from() -> None:
    assert "environment" in read({"ANTHROPIC_API_KEY": "sk-e"}).config.credentials.remedy
    assert "environment" in read({"ANTHROPIC_AUTH_TOKEN": "t-e"}).config.credentials.remedy
    assert "password" in read(password="sk-1").config.credentials.remedy


def test_credential_of_the_environment_never_goes_to_a_host_that_a_connection_names() -> None:
    with pytest.raises(ConfigurationError, match="not sent to a host that a connection names") as caught:
        read({"ANTHROPIC_API_KEY": "sk-e"}, host="https://elsewhere.example")
    assert caught.value.summary == "Connection 'c': it names a host but holds no credential."


def test_identity_token_of_the_environment_never_goes_to_a_host_that_a_connection_names() -> None:
    extra = {"federation_rule_id": "fdrl_1", "organization_id": "org-1"}
    with pytest.raises(ConfigurationError, match="lacks identity_token_file"):
        read(IDENTITY_VARIABLES, extra=extra, host="https://elsewhere.example")


#: What a connection may choose, and the deployment's way to choose the same.
CHOICES = [
    pytest.param({"host": "https://elsewhere.example"}, {}, "host", "ANTHROPIC_BASE_URL", id="host"),
    pytest.param({"host": "https://api.anthropic.com/elsewhere"}, {}, "host", "ANTHROPIC_BASE_URL", id="path"),
    pytest.param({"host": "api.anthropic.com", "port": 8443}, {}, "host", "ANTHROPIC_BASE_URL", id="port"),
    pytest.param({"host": "http://localhost:8700"}, {}, "host", "ANTHROPIC_BASE_URL", id="own-machine"),
    pytest.param(
        {}, {"anthropic_client_kwargs": {"base_url": "https://x.example"}}, "host", "ANTHROPIC_BASE_URL", id="kwargs"
    ),
    pytest.param({}, {"proxy": "http://elsewhere.example:3128"}, "proxy", "HTTPS_PROXY", id="proxy"),
    pytest.param({}, {"verify": False}, "verify", "SSL_CERT_FILE", id="no-verification"),
    pytest.param({}, {"verify": "false"}, "verify", "SSL_CERT_FILE", id="no-verification-in-a-uri"),
    pytest.param({}, {"ca_file": "/elsewhere/ca.pem"}, "ca_file", "SSL_CERT_FILE", id="authority"),
]


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({"ANTHROPIC_API_KEY": "sk-e"}, id="key"),
        pytest.param({"ANTHROPIC_AUTH_TOKEN": "t-e"}, id="token"),
        pytest.param(IDENTITY_VARIABLES, id="identity"),
        pytest.param({"ANTHROPIC_API_KEY": "sk-e", "ANTHROPIC_BASE_URL": "https://gw.corp"}, id="key-for-a-gateway"),
    ],
)
@pytest.mark.parametrize(("fields", "extra", "field", "setting"), CHOICES)
def test_credential_of_the_environment_never_goes_where_a_connection_chooses(
    fields: dict[str, Any], extra: dict[str, Any], field: str, setting: str, environ: dict[str, str]
) -> None:
    with pytest.raises(ConfigurationError, match="but holds no credential") as caught:
        read(environ, extra=extra, allow_token_files=True, **fields)
    remedy = str(caught.value).splitlines()[-1]
    assert f"remove {field}" in remedy
    assert f"set {setting} in the environment" in remedy


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({"headers": {"x-portkey-custom-host": "https://x.example"}}, id="headers"),
        pytest.param(
            {"anthropic_client_kwargs": {"default_headers": {"Target-URL": "https://x.example"}}}, id="kwargs"
        ),
    ],
)
def test_credential_of_the_environment_never_goes_to_a_gateway_with_headers_of_a_connection(
    extra: dict[str, Any],
) -> None:
    gateway = {"ANTHROPIC_API_KEY": "sk-e", "ANTHROPIC_BASE_URL": "https://gw.corp"}
    with pytest.raises(ConfigurationError, match="but holds no credential") as caught:
        read(gateway, extra=extra)
    assert str(caught.value).endswith("To use the environment's credential, remove headers.")
    identity = {"federation_rule_id": "f", "organization_id": "o", "identity_token_file": "/etc/shadow"}
    with pytest.raises(ConfigurationError, match="so its identity_token_file is not read"):
        read(gateway, extra=extra | identity)

    assert read(gateway, extra=extra, password="sk-1").config.base_url == "https://gw.corp"
    assert read({"ANTHROPIC_API_KEY": "sk-e"}, extra=extra).config.extra_headers  # Anthropic's API goes nowhere else


def test_credential_of_the_environment_never_goes_over_http_by_a_connections_consent() -> None:
    gateway = {"ANTHROPIC_API_KEY": "sk-e", "ANTHROPIC_BASE_URL": "http://gw.corp"}
    for host in (None, "http://gw.corp", "http://other.corp"):
        with pytest.raises(ConfigurationError, match="but holds no credential"):
            read(gateway, extra={"allow_http": True}, host=host)
    with pytest.raises(ConfigurationError, match="must begin with https"):
        read(gateway, password="sk-1")

    assert read(gateway, extra={"allow_http": True}, password="sk-1").config.base_url == "http://gw.corp"


def test_identity_of_a_connection_goes_over_http_by_its_consent_only() -> None:
    identity = {**IDENTITY_WITH_TOKEN, "allow_http": True}
    assert read(IDENTITY_VARIABLES, extra=identity, host="http://gw.corp").config.allow_http
    with pytest.raises(ConfigurationError, match="its identity_token_file is not read"):
        read(extra={**IDENTITY, "allow_http": True}, host="http://gw.corp")
    with pytest.raises(ConfigurationError, match="lacks identity_token_file"):
        read(
            {**IDENTITY_VARIABLES, "ANTHROPIC_BASE_URL": "http://gw.corp"},
            extra={"federation_rule_id": "f", "organization_id": "o", "allow_http": True},
        )


@pytest.mark.parametrize(("fields", "extra", "field", "setting"), CHOICES)
def test_identity_token_of_the_environment_never_goes_where_a_connection_chooses(
    fields: dict[str, Any], extra: dict[str, Any], field: str, setting: str
) -> None:
    identity = {"federation_rule_id": "fdrl_1", "organization_id": "org-1"}
    for environ in (IDENTITY_VARIABLES, {"ANTHROPIC_IDENTITY_TOKEN": "a.b.c"}):
        with pytest.raises(
            ConfigurationError, match=r"(?s)lacks identity_token_file.*environment's are not used"
        ) as caught:
            read(environ, extra={**extra, **identity}, allow_token_files=True, **fields)
        assert "a.b.c" not in str(caught.value)


@pytest.mark.parametrize(("fields", "extra", "field", "setting"), CHOICES)
def test_token_file_that_a_connection_names_is_read_only_for_the_deployments_host(
    fields: dict[str, Any], extra: dict[str, Any], field: str, setting: str
) -> None:
    with pytest.raises(ConfigurationError, match="its identity_token_file is not read") as caught:
        read(extra={**extra, **IDENTITY, "identity_token_file": "/etc/shadow"}, **fields)
    assert f"Remove {field}, and set {setting} in the environment" in str(caught.value)
    assert "allow_connection_token_files = True" in str(caught.value)
    assert read(extra={**extra, **IDENTITY}, allow_token_files=True, **fields).config.credentials
    assert read(extra=IDENTITY).config.credentials


@pytest.mark.parametrize(("fields", "extra", "field", "setting"), CHOICES)
@pytest.mark.parametrize(
    ("password", "own"),
    [
        pytest.param("sk-1", {}, id="key"),
        pytest.param(None, {"auth_token": "t-1"}, id="token"),
        pytest.param(None, {**IDENTITY_WITH_TOKEN}, id="identity"),
    ],
)
def test_credential_of_the_connection_goes_where_the_connection_chooses(
    fields: dict[str, Any],
    extra: dict[str, Any],
    field: str,
    setting: str,
    password: str | None,
    own: dict[str, str],
) -> None:
    config = read({"ANTHROPIC_API_KEY": "sk-e"}, extra={**extra, **own}, password=password, **fields).config
    assert not isinstance(config.credentials, EnvironmentApiKey | EnvironmentToken)


def test_proxy_and_certificates_of_the_environment_go_with_its_credential() -> None:
    environ = {"ANTHROPIC_API_KEY": "sk-e", "HTTPS_PROXY": "http://proxy.corp:3128", "SSL_CERT_FILE": "/etc/ca.pem"}
    assert read(environ, extra={"verify": True}).config.credentials == EnvironmentApiKey("sk-e")


@pytest.mark.parametrize(
    ("environ", "host"),
    [
        pytest.param({}, "https://api.anthropic.com", id="the-vendors"),
        pytest.param({"ANTHROPIC_BASE_URL": "https://gw.corp/"}, "gw.corp", id="the-environments-own"),
    ],
)
def test_credential_of_the_environment_goes_to_a_trusted_host_even_if_named(environ: dict[str, str], host: str) -> None:
    assert read({"ANTHROPIC_API_KEY": "sk-e", **environ}, host=host).config.credentials == EnvironmentApiKey("sk-e")


def test_identity_of_a_connection_takes_its_token_from_the_environment() -> None:
    credentials = read(
        {"ANTHROPIC_IDENTITY_TOKEN_FILE": "/run/token-e"},
        extra={"federation_rule_id": "fdrl_1", "organization_id": "org-1"},
    ).config.credentials
    assert credentials == WorkloadIdentity(
        federation_rule_id="fdrl_1", organization_id="org-1", identity_token_file="/run/token-e"
    )


@pytest.mark.parametrize(
    ("extra", "environ", "consent"),
    [
        pytest.param(IDENTITY, {}, True, id="file-by-the-deployments-consent"),
        pytest.param(IDENTITY, {"ANTHROPIC_BASE_URL": "https://gw.corp"}, False, id="file-at-the-deployments-host"),
        pytest.param(IDENTITY_WITH_TOKEN, {}, False, id="token"),
    ],
)
def test_identity_exchanges_its_token_at_the_connections_host(
    extra: dict[str, str], environ: dict[str, str], consent: bool
) -> None:
    credentials = read(environ, extra=extra, host="gw.corp", allow_token_files=consent).config.credentials
    assert isinstance(credentials, WorkloadIdentity)
    assert credentials.base_url == "https://gw.corp"


def test_workspace_of_an_identity_is_not_sent_as_a_header_too() -> None:
    config = read(extra={**IDENTITY, "workspace_id": "wrkspc_1"}).config
    assert config.workspace_id is None
    assert read(password="sk-1", extra={"workspace_id": "wrkspc_1"}).config.workspace_id == "wrkspc_1"


@pytest.mark.parametrize(
    ("fields", "extra", "environ", "complaint"),
    [
        pytest.param({}, {}, {}, "holds no credential.*password.*ANTHROPIC_API_KEY", id="nothing"),
        pytest.param(
            {"password": "sk-secret"}, {"auth_token": "t"}, {}, r"more than one .*\(password, auth_token\)", id="two"
        ),
        pytest.param({"password": "sk-secret"}, IDENTITY, {}, r"\(password, federation_rule_id\)", id="two-others"),
        pytest.param({}, {"auth_token": "t", "auth": "x-api-key"}, {}, "no API key is in password", id="wrong-header"),
        pytest.param({"password": "sk secret"}, {}, {}, "API key.* space", id="blank-in-key"),
        pytest.param({}, {"auth_token": "secrét"}, {}, "token.* character", id="accent-in-token"),
        pytest.param({}, {}, {"ANTHROPIC_API_KEY": "sk secret"}, "environment's ANTHROPIC_API_KEY", id="blank-in-env"),
        pytest.param({}, {"federation_rule_id": "f"}, {}, "organization_id and identity_token_file", id="rule-alone"),
        pytest.param(
            {},
            {},
            {"ANTHROPIC_FEDERATION_RULE_ID": "f"},
            "environment's workload identity lacks ANTHROPIC_ORGANIZATION_ID and ANTHROPIC_IDENTITY_TOKEN_FILE",
            id="rule-in-env",
        ),
        pytest.param({}, {**IDENTITY, "identity_token": "secret"}, {}, "either identity_token or", id="two-tokens"),
        pytest.param({}, {"platform": "bedrock"}, {}, "platform is 'bedrock'.*platform aws", id="other-platform"),
    ],
)
def test_credential_that_cannot_be_used_is_refused(
    fields: dict[str, Any], extra: dict[str, Any], environ: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"(?s)^Connection 'c': .*{complaint}") as caught:
        read(environ, extra=extra, **fields)
    assert "secr" not in str(caught.value)


def test_connection_that_does_not_exist_says_how_to_make_it() -> None:
    with pytest.raises(ConfigurationError) as caught:
        config_from_connection(ConnectionValues(conn_id="my", exists=False), {})
    assert "airflow connections add my --conn-type claude --conn-password" in str(caught.value)
    assert "<API key>\nOr set, in the environment of workers and triggerers: ANTHROPIC_API_KEY;" in str(caught.value)


def test_every_secret_in_use_is_given_for_masking_and_none_is_shown() -> None:
    settings = read(
        {"ANTHROPIC_AUTH_TOKEN": "t-env"},
        password="sk-secret",
        extra={
            "headers": {"X-Gateway-Key": "gateway-secret", "X-Debug": "true"},
            "proxy": "http://user:proxy-secret@proxy.corp:3128",
        },
    )
    assert set(settings.secrets) == {"sk-secret", "gateway-secret", "proxy-secret", "t-env"}
    assert "secret" not in repr(settings)


@pytest.mark.parametrize("name", ["auth_token", "identity_token"])
def test_secret_fields_of_the_extra_are_given_for_masking(name: str) -> None:
    extra = {"auth_token": "the-secret"} if name == "auth_token" else {**IDENTITY, "identity_token": "the-secret"}
    extra.pop("identity_token_file", None)
    settings = read(extra=extra)
    assert settings.secrets == ("the-secret",)
    assert "the-secret" not in repr(settings)
