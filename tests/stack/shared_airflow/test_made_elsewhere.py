"""A DAG that runs when batches end which somebody else has made. Its triggerer is killed in between."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from airflow_database import runs
from airflow_stack import DagStack
from waiting_world import BODY

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.input.custom_id import content_hash, make_custom_id
from airflow_claude_batch.rows import read_rows
from demo.simulator import KEY
from shared_airflow.made_elsewhere import CONNECTION, DAG_ID
from shared_airflow.preparations import Preparations

pytestmark = pytest.mark.stack

VARIABLE = f"claude_batch_ended_events__{CONNECTION}"
OWN_ID = make_custom_id("0123456789ab", 0, content_hash(b"x"))
OWN_BODY = BODY.replace(b'"r0"', f'"{OWN_ID}"'.encode())


@dataclass(frozen=True)
class Elsewhere:
    """The workspace in which somebody else makes batches, and the Airflow that watches it."""

    stack: DagStack
    client: ClaudeClient

    def make(self, body: bytes = BODY) -> str:
        return self.client.create_batch(body).id

    def end(self, batch_id: str) -> None:
        self.stack.simulators[CONNECTION].end(batch_id)

    def record(self) -> dict[str, Any]:
        return dict(json.loads(self.stack.airflow.api.variable(VARIABLE) or "{}"))

    def wait_until_recorded(self, *batch_ids: str) -> None:
        def recorded() -> bool:
            record = self.record()
            return set(batch_ids) <= record.get("done", {}).keys() and not record.get("firing")

        self.stack.wait_for(recorded, f"the record of {', '.join(batch_ids)}")

    def wait_until_landed(self, *batch_ids: str) -> None:
        self.stack.wait_for(lambda: set(batch_ids) <= self.landed().keys(), f"{', '.join(batch_ids)} to land")

    def landed(self) -> Counter[str]:
        """Return how often each batch was landed."""
        api, found = self.stack.airflow.api, Counter[str]()
        for run in runs(self.stack.airflow, DAG_ID):
            assert run["state"] != "failed"
            if run["state"] == "success":
                manifest = api.returned(DAG_ID, run["dag_run_id"], "land")
                assert [row.status for row in read_rows(manifest)] == ["succeeded"] * len(manifest["batch_ids"])
                found.update(manifest["batch_ids"])
        return found

    def events(self) -> Counter[str]:
        """Return how many events each batch had."""
        payloads = self.stack.airflow.api.trigger_payloads()
        ours = [payload for payload in payloads if payload["claude_conn_id"] == CONNECTION]
        return Counter(batch["batch_id"] for payload in ours for batch in payload["batches"])


@dataclass(frozen=True)
class Waiting:
    """Batches before the triggerer is killed.

    :param fired: have had their event.
    :param running: ends while the triggerer is down.
    """

    elsewhere: Elsewhere
    fired: tuple[str, ...]
    running: str


def prepare(stack: DagStack) -> Waiting:
    """Let some batches end, those of this package and those before the watcher began among them."""
    url = stack.simulators[CONNECTION].url
    elsewhere = Elsewhere(stack, ClaudeClient(ClientConfig(credentials=ApiKey(KEY), base_url=url)))
    before, running = elsewhere.make(), elsewhere.make()
    elsewhere.end(before)
    stack.airflow.api.unpause(DAG_ID)
    stack.airflow.api.parse_again(DAG_ID)  # only then does Airflow start the watchers of a DAG, and stop them
    stack.wait_for(lambda: running in elsewhere.record().get("open", {}), "the watcher to begin")

    first, own, second = elsewhere.make(), elsewhere.make(OWN_BODY), elsewhere.make()
    for batch_id in (first, own, running):
        elsewhere.end(batch_id)
    elsewhere.wait_until_recorded(first, own, running)
    return Waiting(elsewhere, (running, first), second)


def while_triggerer_is_down(_stack: DagStack, waiting: Waiting) -> None:
    waiting.elsewhere.end(waiting.running)


def test_each_batch_made_elsewhere_is_landed_once_although_the_triggerer_dies(
    dag_stack: DagStack, preparations: Preparations, triggerer_killed: None
) -> None:
    airflow, waiting = dag_stack.airflow, preparations.result_of(prepare)
    with waiting.elsewhere.client:
        elsewhere = waiting.elsewhere
        elsewhere.wait_until_recorded(waiting.running)
        airflow.kill("triggerer")
        airflow.start("triggerer")
        third = elsewhere.make()
        elsewhere.end(third)
        elsewhere.wait_until_recorded(third)

        fired = (*waiting.fired, waiting.running, third)
        elsewhere.wait_until_landed(*fired)
        assert elsewhere.events() == Counter(fired)
        assert elsewhere.landed() == Counter(fired)
        airflow.api.pause(DAG_ID)
