"""The simulator as Claude on Google Cloud: the vendor's client is accepted, and what Google refuses is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from airflow_claude_batch.simulator import GooglePlatform, Simulator

TOKENS = ["ya29.accepted"]
REQUEST: Any = {
    "custom_id": "a",
    "params": {
        "model": "claude-haiku-5-5",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "Why is the sky blue?"}],
    },
}


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(platform=GooglePlatform(project="p-1", workspaces=("wrkspc_1",), tokens=TOKENS))


@pytest.fixture
def url(simulator: Simulator) -> Iterator[str]:
    with simulator.serve() as server:
        yield server.url


def client_of(url: str, path: str, token: str = TOKENS[0]) -> anthropic.AnthropicGoogleCloud:
    return anthropic.AnthropicGoogleCloud(base_url=url + path, token_provider=lambda: token, max_retries=0)


def test_vendors_client_runs_a_batch(simulator: Simulator, url: str) -> None:
    path = str(
        anthropic.AnthropicGoogleCloud(project="p-1", workspace_id="wrkspc_1", token_provider=lambda: "").base_url.path
    )
    with client_of(url, path) as client:
        batch = client.messages.batches.create(requests=[REQUEST])
        assert client.messages.batches.retrieve(batch.id).processing_status == "ended"
        assert [each.id for each in client.messages.batches.list()] == [batch.id]
        assert client.models.retrieve("claude-haiku-5-5").id == "claude-haiku-5-5"
    assert [each["workspace"] for each in simulator.books()["batches"]] == ["wrkspc_1"]


@pytest.mark.parametrize(
    ("path", "token", "error"),
    [
        (GooglePlatform(project="p-1").path("wrkspc_1"), "ya29.ended", anthropic.AuthenticationError),
        (GooglePlatform(project="p-1").path("wrkspc_other"), TOKENS[0], anthropic.PermissionDeniedError),
        (GooglePlatform(project="p-2").path("wrkspc_1"), TOKENS[0], anthropic.PermissionDeniedError),
        ("", TOKENS[0], anthropic.PermissionDeniedError),
    ],
    ids=["token", "workspace", "project", "no place"],
)
def test_wrong_token_or_place_is_refused_in_googles_form(
    simulator: Simulator, url: str, path: str, token: str, error: type[anthropic.APIStatusError]
) -> None:
    with client_of(url, path, token) as client, pytest.raises(error) as caught:
        client.messages.batches.create(requests=[REQUEST])

    assert isinstance(caught.value.body, dict)
    assert set(caught.value.body["error"]) == {"code", "message", "status"}
    assert simulator.books()["batches"] == []


def test_body_limit_is_that_of_the_call(simulator: Simulator) -> None:
    path = f"{simulator.google.path('wrkspc_1')}/v1/messages/batches" if simulator.google else ""

    assert simulator._body_limit(path) == simulator._body_limit("/v1/messages/batches") > 100_000_000
