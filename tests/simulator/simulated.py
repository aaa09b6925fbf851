"""How the simulator's tests speak to it: plain httpx, through either door."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx

KEY = "sk-test"
MODEL = "claude-haiku-5-5"
VERSION = "2026-10-21"


def params(prompt: str = "hello", **others: Any) -> dict[str, Any]:
    """Valid params; an other given as None is left out."""
    whole = {"model": MODEL, "max_tokens": 256, "messages": [{"role": "user", "content": prompt}], **others}
    return {name: value for name, value in whole.items() if value is not None}


def request(custom_id: str = "a", **others: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "params": params(**others)}


def requests(count: int) -> list[dict[str, Any]]:
    return [request(f"r{index}", prompt=f"question {index}") for index in range(count)]


def jwt(**claims: Any) -> str:
    """An identity token as far as the simulator looks at it."""
    parts = [{"alg": "RS256"}, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "signature"])


class Api:
    """A client of the simulator that checks nothing and hides nothing."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def create(self, *items: Any, **headers: str) -> httpx.Response:
        return self.client.post("/v1/messages/batches", json={"requests": list(items)}, headers=headers or None)

    def created(self, *items: Any, **headers: str) -> str:
        """Create a batch that must be accepted; its id."""
        response = self.create(*(items or (request(),)), **headers)
        assert response.status_code == 200, response.text
        return str(response.json()["id"])

    def retrieve(self, batch_id: str) -> httpx.Response:
        return self.client.get(f"/v1/messages/batches/{batch_id}")

    def list(self, **query: Any) -> httpx.Response:
        return self.client.get("/v1/messages/batches", params=query)

    def listed(self, **query: Any) -> list[str]:
        return [batch["id"] for batch in self.list(**query).json()["data"]]

    def cancel(self, batch_id: str) -> httpx.Response:
        return self.client.post(f"/v1/messages/batches/{batch_id}/cancel")

    def delete(self, batch_id: str) -> httpx.Response:
        return self.client.delete(f"/v1/messages/batches/{batch_id}")

    def results(self, batch_id: str) -> httpx.Response:
        return self.client.get(f"/v1/messages/batches/{batch_id}/results")

    def rows(self, batch_id: str) -> list[dict[str, Any]]:
        """The rows of an ended batch in the order in which they came."""
        response = self.results(batch_id)
        assert response.status_code == 200, response.text
        return [json.loads(line) for line in response.content.split(b"\n") if line]

    def outcomes(self, batch_id: str) -> dict[str, dict[str, Any]]:
        """The ``result`` of each row by custom_id."""
        return {row["custom_id"]: row["result"] for row in self.rows(batch_id)}

    def message(self, **others: Any) -> dict[str, Any]:
        """The message that answers one request with these params."""
        outcome = self.outcomes(self.created(request("a", **others)))["a"]
        assert outcome["type"] == "succeeded", outcome
        return dict(outcome["message"])

    def row_error(self, **others: Any) -> dict[str, Any] | None:
        """The nested error of the one row of a batch with these params, None if it succeeded."""
        outcome = self.outcomes(self.created(request("a", **others)))["a"]
        return dict(outcome["error"]["error"]) if outcome["type"] == "errored" else None


Connect = Callable[..., Api]  # the fixture of that name


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    """Status, type and message of a refusal, whose envelope must be whole."""
    body = response.json()
    assert body["type"] == "error"
    assert body["request_id"] == response.headers["request-id"]
    return response.status_code, body["error"]["type"], body["error"]["message"]
