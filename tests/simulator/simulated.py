"""The client of the simulator's tests: httpx, over sockets or in process."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx

from airflow_claude_batch.simulator import ManualClock

KEY = "sk-test"
MODEL = "claude-haiku-5-5"
VERSION = "2026-10-21"


def fixed_clock() -> ManualClock:
    """A clock that stands on a day on which the models that tests name are not retired."""
    return ManualClock(datetime(2026, 11, 22, 9, 0, tzinfo=UTC))


def params(prompt: str = "hello", **others: Any) -> dict[str, Any]:
    """Build valid params. A field given as None is left out."""
    whole = {"model": MODEL, "max_tokens": 256, "messages": [{"role": "user", "content": prompt}], **others}
    return {name: value for name, value in whole.items() if value is not None}


def request(custom_id: str = "a", **others: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "params": params(**others)}


def requests(count: int) -> list[dict[str, Any]]:
    return [request(f"r{index}", prompt=f"question {index}") for index in range(count)]


def jwt(**claims: Any) -> str:
    """Build an identity token with the parts that the simulator reads."""
    parts = [{"alg": "RS256"}, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "signature"])


class Api:
    """A client of the simulator that returns raw responses."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def create(self, *items: Any, **headers: str) -> httpx.Response:
        return self.client.post("/v1/messages/batches", json={"requests": list(items)}, headers=headers or None)

    def created(self, *items: Any, **headers: str) -> str:
        """Create a batch that must be accepted. Returns its id."""
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
        """Return the rows of an ended batch in the received order."""
        response = self.results(batch_id)
        assert response.status_code == 200, response.text
        return [json.loads(line) for line in response.content.split(b"\n") if line]

    def outcomes(self, batch_id: str) -> dict[str, dict[str, Any]]:
        """Return the ``result`` of each row by custom_id."""
        return {row["custom_id"]: row["result"] for row in self.rows(batch_id)}

    def message(self, **others: Any) -> dict[str, Any]:
        """Send one request with these params and return the message."""
        outcome = self.outcomes(self.created(request("a", **others)))["a"]
        assert outcome["type"] == "succeeded", outcome
        return dict(outcome["message"])

    def row_error(self, **others: Any) -> dict[str, Any] | None:
        """Send one request with these params and return the error of its row. None: it succeeded."""
        outcome = self.outcomes(self.created(request("a", **others)))["a"]
        return dict(outcome["error"]["error"]) if outcome["type"] == "errored" else None


Connect = Callable[..., Api]  # the fixture of that name


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    """Return the status, type and message of an error response, and check its other fields."""
    body = response.json()
    assert body["type"] == "error"
    assert body["request_id"] == response.headers["request-id"]
    return response.status_code, body["error"]["type"], body["error"]["message"]
