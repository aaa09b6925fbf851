"""Kill a worker's process: the batches are canceled only if a user ended the task."""

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from airflow_fixtures import KEY

from airflow_claude_batch._airflow import on_kill
from airflow_claude_batch._airflow.on_kill import RunningWork
from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.simulator import Simulator

CONFIG = ClientConfig(credentials=ApiKey(KEY))
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


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ((), ""),
        (
            ("msgbatch_1",),
            "Message batch msgbatch_1 goes on, and is billed: cancel_on_kill is off. If the task was ended",
        ),
        (("msgbatch_1", "msgbatch_2"), "Message batches msgbatch_1, msgbatch_2 go on, and are billed"),
    ],
    ids=["none", "one", "two"],
)
def test_killed_task_says_which_batches_go_on(
    ids: tuple[str, ...], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    RunningWork(Work(ids), CONFIG, nobody_answers).kill(cancel=False)

    assert says in caplog.text
    assert bool(caplog.records) == bool(ids)


def test_killed_task_does_not_wait_for_the_lock_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal handler runs in the thread that may hold it."""
    monkeypatch.setattr(on_kill, "LOG_TIMEOUT_SECONDS", 0.01)
    released = threading.Event()

    class Held(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            return released.wait(10)

    held = Held()
    on_kill.log.addFilter(held)
    try:
        RunningWork(Work(("msgbatch_1",)), CONFIG, nobody_answers).kill(cancel=False)
    finally:
        on_kill.log.removeFilter(held)
        released.set()
