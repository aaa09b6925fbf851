"""Connections to Claude on Google Cloud."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_claude_batch.api.google_auth import GivenCredentials, MachineAccount, ServiceAccount
from airflow_claude_batch.api.google_token import GoogleToken
from airflow_claude_batch.connection.google import GoogleBearerToken, GoogleConnection
from airflow_claude_batch.connection.settings import ConnectionSettings, ConnectionValues, config_from_connection
from airflow_claude_batch.exceptions import ConfigurationError

PLACE = {"platform": "google", "project_id": "p-1", "workspace_id": "wrkspc_1"}
URL = "https://claude.googleapis.com/v1/projects/p-1/locations/global/workspaces/wrkspc_1/invoke"
KEY = {
    "type": "service_account",
    "project_id": "key-project",
    "private_key": "-----BEGIN PRIVATE KEY-----\nMIIE\n",
    "client_email": "a@p-1.iam.gserviceaccount.com",
    "token_uri": "https://oauth2.googleapis.com/token",
}


def open_connection(gcp_conn_id: str) -> GoogleConnection:
    return GoogleConnection(GivenCredentials(f"the connection {gcp_conn_id!r}", "1", object), "connection-project")


def read(
    extra: dict[str, Any] | None = None, environ: dict[str, str] | None = None, *, place: Any = PLACE, **fields: Any
) -> ConnectionSettings:
    values = ConnectionValues(conn_id="c", conn_type="claude", extra=json.dumps({**place, **(extra or {})}), **fields)
    return config_from_connection(values, environ or {}, open_google_connection=open_connection)


def test_base_url_has_project_location_and_workspace_and_no_header_does():
    config = read().config

    assert (config.base_url, config.platform, config.workspace_id) == (URL, "google", None)
    assert "anthropic-workspace-id" not in config.fixed_headers()
    assert read({"location": "us-central1"}).config.base_url == URL.replace("global", "us-central1")


@pytest.mark.parametrize("name", ["google", "google_cloud", "Google Cloud", "google-cloud"])
def test_platform_may_be_written_in_several_ways(name):
    assert read({"platform": name}).config.base_url == URL


@pytest.mark.parametrize(
    ("environ", "extra", "project"),
    [
        ({"ANTHROPIC_GOOGLE_CLOUD_PROJECT": "sdk", "GOOGLE_CLOUD_PROJECT": "g"}, {}, "sdk"),
        ({"GOOGLE_CLOUD_PROJECT": "g"}, {"keyfile_dict": KEY}, "g"),
        ({}, {"keyfile_dict": KEY}, "key-project"),
        ({}, {"gcp_conn_id": "gcp"}, "connection-project"),
        ({"GOOGLE_CLOUD_PROJECT": "g"}, {"gcp_conn_id": "gcp", "project_id": "own"}, "own"),
    ],
    ids=["sdk", "google", "key", "connection", "own"],
)
def test_project_comes_from_the_places_that_the_sdk_knows(environ, extra, project):
    place = {"platform": "google", "workspace_id": "wrkspc_1"}

    assert read(extra, environ, place=place).config.base_url == URL.replace("p-1", project)


def test_location_and_workspace_come_from_the_variables_of_the_sdk():
    environ = {
        "ANTHROPIC_GOOGLE_CLOUD_PROJECT": "p-1",
        "ANTHROPIC_GOOGLE_CLOUD_LOCATION": "europe-west1",
        "ANTHROPIC_GOOGLE_CLOUD_WORKSPACE_ID": "wrkspc_1",
        "ANTHROPIC_BASE_URL": "https://not-read.example",
    }

    config = read(environ=environ, place={"platform": "google"}).config
    assert config.base_url == URL.replace("global", "europe-west1")


@pytest.mark.parametrize(
    ("place", "missing"),
    [
        ({"platform": "google"}, "no project_id and no workspace_id"),
        ({"platform": "google", "project_id": "p"}, "no workspace_id"),
        ({"platform": "google", "workspace_id": "w"}, "no project_id"),
    ],
    ids=["both", "workspace", "project"],
)
def test_missing_place_is_named(place, missing):
    with pytest.raises(ConfigurationError, match=rf"platform is google, but {missing} is set\."):
        read(place=place)


def test_machines_account_is_the_default():
    assert read().config.credentials == GoogleToken(source=MachineAccount())
    # A key of Anthropic's is for another place, so it is not sent to Google.
    assert read(environ={"ANTHROPIC_API_KEY": "sk-ant-0123456"}).config.credentials == read().config.credentials


def test_connection_may_hold_or_name_the_credential():
    assert read({"keyfile_dict": KEY}).config.credentials == GoogleToken(source=ServiceAccount(KEY))
    assert read({"keyfile_dict": json.dumps(KEY)}).config.credentials == GoogleToken(source=ServiceAccount(KEY))
    assert read({"auth_token": "ya29.own"}).config.credentials == GoogleBearerToken("ya29.own")
    named = read({"gcp_conn_id": "gcp"}).config.credentials
    assert named == GoogleToken(source=open_connection("gcp").source)


def test_secrets_are_masked_and_not_shown():
    settings = read({"keyfile_dict": KEY})

    assert KEY["private_key"] in settings.secrets
    assert "BEGIN" not in repr(settings)


CHOICES = [
    pytest.param({"host": "https://gateway.example/claude"}, {}, "names a host", id="host"),
    pytest.param({"host": "http://127.0.0.1:9/claude"}, {}, "names a host", id="loopback"),
    pytest.param({}, {"proxy": "http://proxy.example:3128"}, "names a proxy", id="proxy"),
    pytest.param({}, {"verify": False}, "turns the check of certificates off", id="verify"),
    pytest.param({}, {"ca_file": "/tmp/ca.pem"}, "names certificates to trust", id="ca_file"),
]


@pytest.mark.parametrize(("fields", "extra", "choice"), CHOICES)
@pytest.mark.parametrize("account", [{}, {"gcp_conn_id": "gcp"}], ids=["machine", "another connection"])
def test_token_of_another_owner_goes_nowhere_that_the_connection_chooses(fields, extra, choice, account):
    with pytest.raises(ConfigurationError) as caught:
        read({**extra, **account}, **fields)

    assert f"it {choice} but holds no credential of its own." in str(caught.value)
    owner = "the account of 'gcp'" if account else "the account of the machine"
    assert f"A token of {owner} is not sent to a host" in str(caught.value)
    assert "keyfile_dict" in str(caught.value)


@pytest.mark.parametrize(("fields", "extra", "choice"), CHOICES)
@pytest.mark.parametrize("own", [{"auth_token": "ya29.own"}, {"keyfile_dict": KEY}], ids=["token", "key"])
def test_own_credential_goes_where_the_connection_says(fields, extra, choice, own):
    config = read({**extra, **own}, **fields).config

    assert config.base_url == fields.get("host", URL)


def test_deployment_may_choose_the_host_for_the_machines_account():
    environ = {"ANTHROPIC_GOOGLE_CLOUD_BASE_URL": "https://gateway.example/claude"}
    config = read(environ=environ, place={"platform": "google"}).config

    assert config.base_url == "https://gateway.example/claude"
    assert config.credentials == GoogleToken(source=MachineAccount())
    with pytest.raises(ConfigurationError, match="adds headers"):
        read({"headers": {"X-Route": "elsewhere"}}, environ)


@pytest.mark.parametrize(
    ("extra", "fields", "named"),
    [
        ({}, {"password": "sk-ant-api03-0123"}, "no password"),
        ({"federation_rule_id": "fdrl_1"}, {}, "no federation_rule_id"),
        ({"identity_token": "a.b.c", "aws_conn_id": "aws"}, {}, "no identity_token and no aws_conn_id"),
    ],
    ids=["key", "identity", "several"],
)
def test_credential_of_another_platform_is_refused(extra, fields, named):
    with pytest.raises(ConfigurationError, match=rf"platform is google, which takes {named}\.") as caught:
        read(extra, **fields)
    assert "0123" not in str(caught.value)


def test_two_credentials_are_refused():
    with pytest.raises(ConfigurationError, match=r"more than one credential \(keyfile_dict, gcp_conn_id\)"):
        read({"keyfile_dict": KEY, "gcp_conn_id": "gcp"})


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ({**KEY, "type": "external_account", "credential_source": {"file": "/etc/passwd"}}, "no key of a service acc"),
        ({**KEY, "type": "authorized_user"}, "no key of a service account"),
        ({"a": 1}, "no key of a service account"),
        ({**KEY, "token_uri": "http://169.254.169.254/"}, "token_uri in keyfile_dict is no https URL"),
        ("no json", "must be the JSON object of a service account's key file, not a value of type str"),
    ],
    ids=["file reader", "user", "another object", "plain http", "no object"],
)
def test_keyfile_that_is_no_service_accounts_is_refused_and_not_shown(key, said):
    with pytest.raises(ConfigurationError, match=said) as caught:
        read({"keyfile_dict": key})
    assert "BEGIN" not in str(caught.value)
    assert "passwd" not in str(caught.value)


def test_fields_of_google_without_the_platform_are_named():
    place = {"gcp_conn_id": "gcp", "location": "global", "project_id": "p"}

    assert read(place=place, password="sk-ant-0123456").warnings == (
        "nothing reads its gcp_conn_id, because platform is not google",
        "nothing reads its location, because platform is not google",
    )


def test_library_that_is_missing_is_named_with_the_remedy(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(ConfigurationError, match="the package google-auth is not installed") as caught:
        read()
    assert "airflow-claude-batch[google]" in str(caught.value)
