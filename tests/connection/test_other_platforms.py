"""Connections to platforms that serve Claude without message batches are refused before anything is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_claude_batch.api.other_platforms import platform_of_model
from airflow_claude_batch.connection.settings import ConnectionValues, config_from_connection
from airflow_claude_batch.exceptions import ConfigurationError


def read(environ: dict[str, str] | None = None, *, extra: dict[str, Any] | None = None, **fields: Any) -> None:
    values = ConnectionValues(conn_id="c", password="k-0123456789", extra=json.dumps(extra or {}), **fields)
    config_from_connection(values, environ or {})


@pytest.mark.parametrize(
    ("platform", "service"),
    [
        ("bedrock", "Amazon Bedrock"),
        ("AWS Bedrock", "Amazon Bedrock"),
        ("amazon-bedrock", "Amazon Bedrock"),
        ("vertex", "Vertex AI"),
        ("vertex_ai", "Vertex AI"),
        ("VertexAI", "Vertex AI"),
        ("foundry", "Microsoft Foundry"),
        ("azure", "Microsoft Foundry"),
    ],
)
def test_platform_without_batches_is_named_and_where_they_can_be_had(platform: str, service: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(extra={"platform": platform})

    assert str(caught.value).split("\n") == [
        f"Connection 'c': platform is {platform!r}, and {service} has no message batches of Claude's.",
        "Nothing was sent now. Batches that were sent before are not affected.",
        "Message batches run on Anthropic's own API (an API key or a workload identity), on Claude Platform on AWS "
        "(platform aws) and on Google Cloud (platform google). Model ids have no prefix there: claude-opus-5-5.",
    ]


@pytest.mark.parametrize("platform", ["gcp", "openai", "", 7])
def test_unknown_platform_is_told_which_there_are(platform: object) -> None:
    if platform == "":
        read(extra={"platform": platform})
        return
    with pytest.raises(ConfigurationError, match="which is no platform with message batches") as caught:
        read(extra={"platform": platform})
    assert "write aws or google" in str(caught.value)


HOSTS = [
    ("bedrock-runtime.us-east-1.amazonaws.com", "Amazon Bedrock"),
    ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "Amazon Bedrock"),
    ("https://vpce-1-2.bedrock-runtime.us-east-1.vpce.amazonaws.com", "Amazon Bedrock"),
    ("https://bedrock-mantle.us-east-1.api.aws/anthropic", "Amazon Bedrock"),
    ("https://aiplatform.googleapis.com/v1", "Vertex AI"),
    ("us-east5-aiplatform.googleapis.com", "Vertex AI"),
    ("https://aiplatform.us.rep.googleapis.com", "Vertex AI"),
    ("https://my-team.services.ai.azure.com/anthropic/", "Microsoft Foundry"),
    ("https://my-team.inference.ai.azure.com", "Microsoft Foundry"),
]


@pytest.mark.parametrize(("host", "service"), HOSTS)
def test_host_without_batches_is_refused(host: str, service: str) -> None:
    with pytest.raises(ConfigurationError, match=f"host: it is a host of {service}, and {service} has no message b"):
        read(host=host)


def test_host_without_batches_is_refused_in_the_environment_too() -> None:
    with pytest.raises(ConfigurationError, match="ANTHROPIC_BASE_URL: it is a host of Amazon Bedrock"):
        read({"ANTHROPIC_BASE_URL": "https://bedrock-runtime.us-east-1.amazonaws.com"})


@pytest.mark.parametrize(
    "host",
    [
        "https://bedrock.corp.example",
        "https://bedrock-gateway.internal/anthropic",
        "https://abc.execute-api.us-east-1.amazonaws.com/bedrock",
        "https://my-gateway.run.app/aiplatform",
        "https://claude.googleapis.com/v1/projects/p/locations/global/workspaces/w/invoke",
        "https://aws-external-anthropic.us-west-2.api.aws",
        "https://gateway.azure-api.net/anthropic",
        "https://aiplatform.googleapis.com.example",
    ],
)
def test_gateways_and_platforms_with_batches_are_not_refused(host: str) -> None:
    read(host=host)


@pytest.mark.parametrize(
    ("conn_type", "said"),
    [
        ("aws", "the id of this one in its aws_conn_id. Amazon Bedrock has no message batches"),
        ("google_cloud_platform", "the id of this one in its gcp_conn_id"),
        ("azure_openai", "Microsoft Foundry has no message batches"),
    ],
)
def test_connection_of_a_cloud_is_told_what_it_can_be_used_for(conn_type: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"it is of type '{conn_type}'") as caught:
        read(conn_type=conn_type)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("model", "platform", "plain"),
    [
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", "Amazon Bedrock", "claude-3-5-sonnet-20241022"),
        ("us.anthropic.claude-opus-5-5-v1:0", "Amazon Bedrock", "claude-opus-5-5"),
        ("us-gov.anthropic.claude-opus-5-5", "Amazon Bedrock", "claude-opus-5-5"),
        ("global.anthropic.claude-haiku-5-5-v1", "Amazon Bedrock", "claude-haiku-5-5"),
        (
            "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-haiku-5-5-v1:0",
            "Amazon Bedrock",
            "claude-haiku-5-5",
        ),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/a1b2", "Amazon Bedrock", None),
        ("claude-opus-4-5@20251101", "Vertex AI", "claude-opus-4-5-20251101"),
        ("claude-opus-5-5@default", "Vertex AI", "claude-opus-5-5"),
        ("publishers/anthropic/models/claude-opus-5-5", "Vertex AI", "claude-opus-5-5"),
    ],
)
def test_model_id_of_another_platform_is_recognized(model: str, platform: str, plain: str | None) -> None:
    found = platform_of_model(model)

    assert found is not None
    assert (found.platform, found.model) == (platform, plain)


@pytest.mark.parametrize(
    "model", ["claude-opus-5-5", "claude-opus-4-5-20251101", "claude-3-5-sonnet-v2", "anthropic", ""]
)
def test_model_id_of_the_api_is_not(model: str) -> None:
    assert platform_of_model(model) is None
