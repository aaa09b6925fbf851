"""Kill a worker's process: the batches are canceled only if a user ended the task."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from airflow_fixtures import KEY

from airflow_claude_batch._airflow.on_kill import RunningWork
from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.simulator import Simulator

REQUEST = {
    "custom_id": "only",
    "params": {"model": "claude-haiku-5-5", "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}]},
}


@dataclass
class Work:
    open_batch_ids: tuple[str, ...]
    stopped: bool = False

    def stop(self) -> None:
        self.stopped = True


def nobody_answers() -> bool:
    raise TimeoutError


@pytest.mark.parametrize("simulator", [{"batch_seconds": 3600}], indirect=True)
@pytest.mark.parametrize(
    ("is_wanted", "cancels"),
    [
        pytest.param(lambda: False, 1, id="ended by hand"),
        pytest.param(lambda: True, 0, id="goes on"),
        pytest.param(nobody_answers, 0, id="nobody answers"),
    ],
)
def test_batches_are_canceled_only_when_a_user_ended_the_task(
    simulator: Simulator, simulator_url: str, is_wanted: Callable[[], bool], cancels: int
) -> None:
    config = ClientConfig(credentials=ApiKey(KEY), base_url=simulator_url)
    with ClaudeClient(config) as client:
        batch = client.create_batch(json.dumps({"requests": [REQUEST]}).encode())
    work = Work((batch.id,))

    RunningWork(work, config, is_wanted).kill(cancel=True)

    assert work.stopped
    assert simulator.calls()["cancel"] == cancels
