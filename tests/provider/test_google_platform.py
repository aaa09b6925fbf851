"""Operator, trigger and sensor on Google Cloud, with access tokens that end while the task waits."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from google_servers import MetadataServer, NewestTokens, TokenEndpoint, metadata_server, token_endpoint
from workbench import Workbench

from airflow_claude_batch.hooks import ClaudeHook
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor
from airflow_claude_batch.simulator import GooglePlatform, Simulator

__all__ = ["metadata_server", "token_endpoint"]

pytestmark = pytest.mark.airflow

EXTRA = {"platform": "google", "project_id": "simulator-project", "workspace_id": "wrkspc_01Simulator"}


def connect(monkeypatch: pytest.MonkeyPatch, **extra: Any) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CLAUDE_DEFAULT", json.dumps({"conn_type": "claude", "extra": {**EXTRA, **extra}}))


@pytest.fixture
def platform(
    metadata_server: MetadataServer, token_endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Simulator]:
    """The platform at the deployment's own address, and a connection that holds no credential."""
    simulator = Simulator(
        platform=GooglePlatform(tokens=NewestTokens(metadata_server, token_endpoint)), batch_seconds=3600
    )
    with simulator.serve() as server:
        assert simulator.google is not None
        monkeypatch.setenv("ANTHROPIC_GOOGLE_CLOUD_BASE_URL", server.url + simulator.google.path())
        connect(monkeypatch)
        yield simulator


def polls(platform: Simulator) -> int:
    calls = platform.calls()
    return calls["retrieve"] + calls["list"]


def test_deferred_task_goes_on_with_tokens_that_are_renewed(
    bench: Workbench, platform: Simulator, metadata_server: MetadataServer, when: Callable[..., None]
) -> None:
    metadata_server.lifetime = 0  # a token is for one call
    when(lambda: polls(platform) >= 4, lambda: platform.pace(0), seconds=240)
    with bench.dag("google") as dag:
        send = SendMessageBatchOperator(task_id="send", messages=["first", "second"], deferrable=True)
        MessageBatchSensor(task_id="wait", batch=send.output, deferrable=True, poll_interval=1)

    run = bench.run(dag)

    assert run.states == {"send": "success", "wait": "success"}
    assert [row.status for row in read_rows(run.xcom("wait"))] == ["succeeded", "succeeded"]
    assert platform.books()["billed_requests"] == 2
    assert polls(platform) >= 4
    assert len(metadata_server.issued) >= sum(platform.calls().values())


def test_connection_test_names_the_platform(platform: Simulator) -> None:
    works, message = ClaudeHook().test_connection()

    assert works, message
    assert "(Google Cloud) in workspace wrkspc_01Simulator" in message


def test_connection_test_says_what_google_says(platform: Simulator, metadata_server: MetadataServer) -> None:
    metadata_server.failures = [(404, '{"error":"no account"}')] * 20

    works, message = ClaudeHook().test_connection()

    assert not works
    assert "Could not get an access token of Google's" in message
    assert "the machine (application default credentials)" in message


class GoogleBaseHook:
    """Stands for the hook of Airflow's Google provider: it reads a connection and makes credentials."""

    def __init__(self, gcp_conn_id: str) -> None:
        from airflow_claude_batch._airflow.compat import BaseHook

        self.extras = BaseHook.get_connection(gcp_conn_id).extra_dejson

    def get_credentials(self) -> Any:
        from google.oauth2.service_account import Credentials

        scopes = ["https://www.googleapis.com/auth/cloud-platform"]
        return Credentials.from_service_account_info(json.loads(self.extras["keyfile_dict"]), scopes=scopes)


@pytest.fixture
def google_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "airflow.providers.google"
    for part in ("", ".common", ".common.hooks"):
        monkeypatch.setitem(sys.modules, name + part, ModuleType(name + part))
    module = ModuleType(f"{name}.common.hooks.base_google")
    module.GoogleBaseHook = GoogleBaseHook  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_google_connection_gives_its_account_and_its_project(
    platform: Simulator, token_endpoint: TokenEndpoint, google_provider: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"keyfile_dict": json.dumps(token_endpoint.key), "project": "of-the-connection"}
    monkeypatch.setenv("AIRFLOW_CONN_GCP", json.dumps({"conn_type": "google_cloud_platform", "extra": extra}))
    connect(monkeypatch, gcp_conn_id="gcp")
    before = ClaudeHook().get_config()

    works, message = ClaudeHook().test_connection()
    assert works, message
    assert token_endpoint.issued

    monkeypatch.delenv("ANTHROPIC_GOOGLE_CLOUD_BASE_URL")
    connect(monkeypatch, gcp_conn_id="gcp", project_id="")
    assert "/projects/of-the-connection/" in ClaudeHook().get_config().base_url
    extra["keyfile_dict"] = json.dumps({**token_endpoint.key, "private_key_id": "key-2"})
    monkeypatch.setenv("AIRFLOW_CONN_GCP", json.dumps({"conn_type": "google_cloud_platform", "extra": extra}))
    assert ClaudeHook().get_config().credentials != before.credentials


def test_google_connection_without_the_provider_is_told_in_words(
    platform: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "airflow.providers.google.common.hooks.base_google", None)
    connect(monkeypatch, gcp_conn_id="gcp")

    works, message = ClaudeHook().test_connection()

    assert not works
    assert "gcp_conn_id names 'gcp', but Airflow's Google provider is not installed." in message
    assert "pip install apache-airflow-providers-google" in message


def test_google_connection_that_is_not_there_is_named(
    platform: Simulator, google_provider: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, gcp_conn_id="nowhere")

    works, message = ClaudeHook().test_connection()

    assert not works
    assert "gcp_conn_id names 'nowhere', but there is no such connection." in message
