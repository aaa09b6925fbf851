"""The options that tasks hand down are frozen, and made from every argument."""

from __future__ import annotations

import dataclasses
import inspect
from datetime import timedelta
from typing import Any

import pytest

from airflow_claude_batch._airflow.compat import ASKING_SUPPORTED
from airflow_claude_batch._airflow.options import CollectionOptions, SubmissionOptions
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor

#: A value for each argument that is not its default.
SHARED: dict[str, Any] = {
    "task_id": "a_task",
    "claude_conn_id": "another",
    "results_path": "/results",
    "deferrable": True,
    "poll_interval": 7.5,
    "allow_failed": 0.25,
    "delete_batches": True,
    "results_format": "parquet",
}
OPERATOR: dict[str, Any] = {
    **SHARED,
    "messages": ["a"],
    "model": "claude-haiku-5-5",
    "max_tokens": 17,
    "system": "Be brief.",
    "request_params": {"temperature": 0},
    "output_schema": {"type": "object", "properties": {}, "additionalProperties": False},
    "repair_invalid": True,
    "wait_for_completion": True,
    "timeout": timedelta(hours=3),
    "on_timeout": "leave",
    "direct_reserve": timedelta(minutes=11),
    "direct_concurrency": 3,
    "cancel_on_kill": False,
    "repair_rounds": 4,
    "on_empty": "skip",
    "answer_store": False,
    "reuse_answers": False,
    "on_lost": "resend",
    "max_cost": "12.50",
    "approve_above": "7.50",
    "approval_timeout": timedelta(hours=2),
    "on_rejected": "skip",
    "sample": 20,
    "deduplicate": True,
    "canary": True,
    "warm_cache": True,
    "cache_system": True,
    "dry_run": True,
}
if not ASKING_SUPPORTED:
    OPERATOR |= {"approve_above": None, "sample": 0}
#: What stands in place of messages.
ROWS: dict[str, Any] = {
    "rows": [{"id": 1, "uri": "/data/a.pdf"}],
    "prompt": "Summarize {id}.",
    "key": "id",
    "keep": ["uri"],
    "files": ["/data/{id}.pdf"],
}
SENSOR: dict[str, Any] = {**SHARED, "batch": "msgbatch_1", "cancel_on_kill": True}
#: The sensor makes a deadline of one, and uses the other when the DAG is parsed.
NOT_HANDED_DOWN = {"timeout", "start_from_trigger"}


def arguments(task_class: type) -> dict[str, Any]:
    """The class's own arguments with their defaults."""
    parameters = inspect.signature(task_class.__init__).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def test_operator_hands_down_every_argument() -> None:
    own = arguments(SendMessageBatchOperator)
    given = {**OPERATOR, **ROWS}
    assert given.keys() == own.keys() | {"task_id"}
    same = [name for name, default in own.items() if given[name] == default]
    assert same == ([] if ASKING_SUPPORTED else ["approve_above", "sample"])

    of_messages = {**OPERATOR, "rows": None, "prompt": None, "key": None, "keep": (), "files": ()}
    of_rows = {**given, "messages": None}
    for arguments_ in (of_messages, of_rows):
        assert dataclasses.asdict(SendMessageBatchOperator(**arguments_).options()) == arguments_


def test_sensor_hands_down_every_argument() -> None:
    own = arguments(MessageBatchSensor)
    assert SENSOR.keys() == (own.keys() | {"task_id"}) - NOT_HANDED_DOWN
    assert not [name for name, default in own.items() if name in SENSOR and SENSOR[name] == default]

    options = MessageBatchSensor(**SENSOR, mode="reschedule").options()

    assert dataclasses.asdict(options) == {**SENSOR, "reschedule": True}


@pytest.mark.parametrize(
    ("execution_timeout", "expected"),
    [
        pytest.param(None, timedelta(hours=3), id="none"),
        pytest.param(timedelta(hours=2), timedelta(hours=1.8), id="shorter"),
        pytest.param(timedelta(hours=20), timedelta(hours=3), id="longer"),
    ],
)
def test_timeout_is_bounded_by_execution_timeout(execution_timeout: timedelta | None, expected: timedelta) -> None:
    operator = SendMessageBatchOperator(**OPERATOR, execution_timeout=execution_timeout)

    assert operator.options().timeout == expected
    assert operator.options().approval_timeout == min(timedelta(hours=2), expected)


@pytest.mark.parametrize(
    "options",
    [SendMessageBatchOperator(**OPERATOR).options(), MessageBatchSensor(**SENSOR).options()],
    ids=[SubmissionOptions.__name__, CollectionOptions.__name__],
)
def test_options_are_frozen(options: SubmissionOptions | CollectionOptions) -> None:
    for field in dataclasses.fields(options):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(options, field.name, None)
    assert not hasattr(options, "__dict__")
