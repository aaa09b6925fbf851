"""The account of an Airflow connection to Google Cloud, given by the hook of the real Google provider."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google_servers import MetadataServer, NewestTokens, TokenEndpoint, metadata_server, token_endpoint
from real_providers import try_connections, unpack_wheels

from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION
from airflow_claude_batch.simulator import GooglePlatform, Simulator

__all__ = ["metadata_server", "token_endpoint"]

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.skipif(AIRFLOW_VERSION < (3, 3), reason="the provider needs other providers in versions of its day"),
]

#: What its hook imports, and the tests' own packages do not bring.
WHEELS = (
    "apache-airflow-providers-google==22.8.0",
    "gcloud-aio-auth==5.6.0",
    "google-api-core==2.44.0",
    "google-api-python-client==2.202.0",
    "google-auth-httplib2==0.4.4",
    "google-cloud-core==2.8.0",
    "google-cloud-secret-manager==2.32.0",
    "googleapis-common-protos==1.76.0",
    "grpc-google-iam-v1==0.14.6",
    "grpcio==1.85.3",
    "grpcio-status==1.85.3",
    "httplib2==0.32.1",
    "proto-plus==1.29.0",
    "pyparsing==3.3.3",
    "uritemplate==4.2.0",
)
EXTRA = {"platform": "google", "project_id": "simulator-project", "workspace_id": "wrkspc_01Simulator"}


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack_wheels(tmp_path_factory.mktemp("google"), *WHEELS)


@pytest.fixture
def try_connection(
    airflow_db: None,
    provider: Path,
    metadata_server: MetadataServer,
    token_endpoint: TokenEndpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Any]]:
    """Test a connection that names a connection to Google Cloud with this extra."""
    simulator = Simulator(platform=GooglePlatform(tokens=NewestTokens(metadata_server, token_endpoint)))
    with simulator.serve() as server:
        assert simulator.google is not None
        monkeypatch.setenv("ANTHROPIC_GOOGLE_CLOUD_BASE_URL", server.url + simulator.google.path())

        def run(**extra: Any) -> Any:
            claude = {"conn_type": "claude", "extra": {**EXTRA, "gcp_conn_id": "gcp"}}
            google = {"conn_type": "google_cloud_platform", "extra": extra}
            return try_connections(provider, {"claude_default": claude, "gcp": google})

        yield run


def test_key_of_a_google_connection(
    try_connection: Callable[..., Any], token_endpoint: TokenEndpoint, metadata_server: MetadataServer
) -> None:
    said = try_connection(keyfile_dict=json.dumps(token_endpoint.key))

    assert said["works"], said["message"]
    assert said["is_equal"]
    assert said["listed"] == 0
    assert token_endpoint.issued
    assert not metadata_server.issued


def test_google_connection_without_a_key_is_the_machine_s_account(
    try_connection: Callable[..., Any], token_endpoint: TokenEndpoint, metadata_server: MetadataServer
) -> None:
    said = try_connection()

    assert said["works"], said["message"]
    assert metadata_server.issued
    assert not token_endpoint.issued
