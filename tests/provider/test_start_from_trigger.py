"""A sensor that starts in the triggerer: its arguments at parse time, and its one worker process."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from airflow_fixtures import KEY
from workbench import Workbench

from airflow_claude_batch import sensors
from airflow_claude_batch._airflow.compat import START_FROM_TRIGGER_SUPPORTED, TaskDeferred
from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.exceptions import ConfigurationError
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor
from airflow_claude_batch.triggers import MessageBatchTrigger

pytestmark = pytest.mark.airflow

ID, OTHER_ID = "msgbatch_01AbCdEf", "msgbatch_01GhIjKl"
NEEDS_AIRFLOW_3_3 = pytest.mark.skipif(not START_FROM_TRIGGER_SUPPORTED, reason="the scheduler starts a worker")


def sensor(**arguments: Any) -> MessageBatchSensor:
    return MessageBatchSensor(
        **{"task_id": "wait", "batch": ID, "deferrable": True, "start_from_trigger": True, **arguments}
    )


@NEEDS_AIRFLOW_3_3
@pytest.mark.parametrize(
    ("batch", "batch_ids"),
    [(ID, [ID]), ([ID, OTHER_ID], [ID, OTHER_ID]), ([ID, ID], [ID])],
    ids=["an id", "a list", "the same twice"],
)
def test_trigger_arguments_come_from_literal_ids(batch: Any, batch_ids: list[str]) -> None:
    task = sensor(batch=batch, claude_conn_id="other", poll_interval=20, cancel_on_kill=True, timeout=3600)

    assert task.start_from_trigger is True
    started = task.start_trigger_args
    assert started is not None
    trigger = MessageBatchTrigger(**(started.trigger_kwargs or {}))
    path, kwargs = trigger.serialize()
    assert started.trigger_cls == path
    assert (started.next_method, started.timeout) == ("execute_complete", timedelta(hours=1))
    assert kwargs["batch_ids"] == kwargs["open_batch_ids"] == batch_ids
    assert (kwargs["claude_conn_id"], kwargs["poll_interval"], kwargs["cancel_on_kill"]) == ("other", 20, True)


def test_worker_polls_first_without_start_from_trigger() -> None:
    task = sensor(start_from_trigger=False)

    assert not task.start_from_trigger
    assert task.start_trigger_args is None


@NEEDS_AIRFLOW_3_3
def test_poll_interval_of_the_deployment_reaches_the_trigger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__POLL_INTERVAL", "17")

    started = sensor().start_trigger_args

    assert started is not None
    assert started.trigger_kwargs is not None
    assert started.trigger_kwargs["poll_interval"] == 17


@NEEDS_AIRFLOW_3_3
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"batch": "{{ params.batch }}"}, "literal batch id(?s:.*)leave start_from_trigger out"),
        ({"batch": [ID, "{{ params.batch }}"]}, "literal batch id(?s:.*)leave start_from_trigger out"),
        ({"batch": []}, "list is empty(?s:.*)leave start_from_trigger out"),
        ({"batch": {"batch_ids": [ID]}}, "literal batch id(?s:.*)leave start_from_trigger out"),
        (
            {"claude_conn_id": "{{ params.conn }}"},
            "claude_conn_id must be a literal(?s:.*)leave start_from_trigger out",
        ),
        ({"deferrable": False}, "needs deferrable=True"),
    ],
    ids=["template", "template in a list", "empty list", "manifest", "templated connection", "not deferrable"],
)
def test_argument_known_only_at_run_time_is_refused_at_parse(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^wait: (?s:.*){said}"):
        sensor(**arguments)


@NEEDS_AIRFLOW_3_3
def test_operator_output_is_refused_at_parse() -> None:
    send = SendMessageBatchOperator(task_id="send", messages=["a"])

    with pytest.raises(ConfigurationError, match=r"^wait: (?s:.*)leave start_from_trigger out"):
        sensor(batch=send.output)


def test_older_airflow_is_refused_at_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "START_FROM_TRIGGER_SUPPORTED", False)

    with pytest.raises(ConfigurationError, match=r"^wait: .*Airflow 3\.3 or newer"):
        sensor()


class ResumedTooEarly(MessageBatchSensor):
    """A sensor that the scheduler deferred, and that resumes before the batch has ended."""

    def execute(self, context: Any) -> Any:
        try:
            return self.execute_complete(context, event={"status": "ended"})
        except TaskDeferred as deferred:
            _, kwargs = deferred.trigger.serialize()
            return {"until": kwargs["until"], "started": context["ti"].start_date.isoformat()}


@pytest.fixture
def batch_id(simulator_url: str) -> str:
    """Create a batch that is not the operator's."""
    message = {"role": "user", "content": "a"}
    params = {"model": "claude-haiku-5-5", "max_tokens": 50, "messages": [message]}
    body = json.dumps({"requests": [{"custom_id": "x", "params": params}]})
    with ClaudeClient(ClientConfig(credentials=ApiKey(KEY), base_url=simulator_url)) as client:
        return client.create_batch(body.encode()).id


@pytest.mark.parametrize("simulator", [{"batch_seconds": 3600.0}], indirect=True, ids=["running"])
def test_resumed_too_early_it_waits_until_the_timeout_since_its_start(
    bench: Workbench, claude_default: str, batch_id: str
) -> None:
    with bench.dag("resumed_too_early") as dag:
        ResumedTooEarly(task_id="wait", batch=batch_id, deferrable=True, timeout=7200)

    waits = bench.run(dag).xcom("wait")

    assert datetime.fromisoformat(waits["until"]) == datetime.fromisoformat(waits["started"]) + timedelta(hours=2)


@NEEDS_AIRFLOW_3_3
def test_dag_test_lands_the_answers(bench: Workbench, claude_default: str, batch_id: str) -> None:
    with bench.dag("start_from_trigger") as dag:
        sensor(batch=batch_id)

    assert bench.run(dag).xcom("wait")["counts"]["succeeded"] == 1
