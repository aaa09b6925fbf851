from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from airflow.models.trigger import Trigger
from airflow.sdk import Asset, AssetWatcher
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ErrorResponse, GetVariable, PutVariable, VariableResult
from airflow.triggers.base import BaseEventTrigger
from airflow_fixtures import KEY
from waiting_world import BODY

from airflow_claude_batch import events, triggers
from airflow_claude_batch._airflow.event_record import VariableRecordStore, variable_key
from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.events import announcer
from airflow_claude_batch.batch.events.record import EventRecord
from airflow_claude_batch.batch.input.custom_id import content_hash, make_custom_id
from airflow_claude_batch.events import MessageBatchEndedTrigger
from airflow_claude_batch.exceptions import ConfigurationError, SubmissionRecordError
from airflow_claude_batch.simulator import Simulator

pytestmark = pytest.mark.airflow

OWN_BODY = BODY.replace(b'"r0"', f'"{make_custom_id("0123456789ab", 0, content_hash(b"x"))}"'.encode())
START = datetime(2026, 11, 30, tzinfo=UTC)
PATH = "airflow_claude_batch.events.MessageBatchEndedTrigger"


class Supervisor:
    """Keeps Variables in place of Airflow's supervisor, in the way of 3.3: what it cannot do, it says in a response."""

    def __init__(self) -> None:
        self.variables: dict[str, str] = {}
        self.is_failing = False

    def send(self, msg: Any) -> VariableResult | ErrorResponse | None:
        if not isinstance(msg, GetVariable | PutVariable):
            return None
        if self.is_failing:
            return ErrorResponse(error=ErrorType.API_SERVER_ERROR)
        if isinstance(msg, PutVariable):
            self.variables[msg.key] = str(msg.value)
            return None
        if msg.key not in self.variables:
            return ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND, detail={"key": msg.key})
        return VariableResult(key=msg.key, value=self.variables[msg.key])


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    supervisor = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch, supervisor: Supervisor) -> None:
    """Let a trigger poll each second, and take an event for stored at once."""
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__POLL_INTERVAL", "1")
    monkeypatch.setattr(announcer, "SETTLE_SECONDS", 0.0)


@pytest.fixture
def create(simulator_url: str) -> Iterator[Callable[..., str]]:
    with ClaudeClient(ClientConfig(credentials=ApiKey(KEY), base_url=simulator_url)) as client:
        yield lambda body=BODY: client.create_batch(body).id


async def payloads(trigger: MessageBatchEndedTrigger, count: int) -> list[dict[str, Any]]:
    """Return what the trigger's first events say of batches, and stop it while it looks for more."""
    found: list[dict[str, Any]] = []
    async with aclosing(trigger.run()) as fired:  # type: ignore[type-var]
        async for event in fired:
            assert event.payload["claude_conn_id"] == trigger.claude_conn_id
            found += event.payload["batches"]
            if len(found) >= count:
                return found
    raise AssertionError("a trigger for events never ends")


@pytest.mark.usefixtures("soon", "claude_default")
def test_foreign_batches_have_events_once_over_processes_and_own_ones_have_none(
    create: Callable[..., str], supervisor: Supervisor, simulator: Simulator
) -> None:
    own, first = create(OWN_BODY), create()

    [event] = asyncio.run(payloads(MessageBatchEndedTrigger(since=datetime(2020, 1, 1, tzinfo=UTC)), 1))
    assert event["batch_id"] == first
    assert event["request_counts"]["succeeded"] == 1
    assert json.loads(json.dumps(event)) == event

    second = create()
    again = asyncio.run(payloads(MessageBatchEndedTrigger(since="2020-01-01T00:00:00+00:00"), 2))
    # The process stopped before it could know that Airflow has stored the first event.
    assert [(event["batch_id"], event["may_be_repeated"]) for event in again] == [(first, True), (second, False)]
    assert own not in str(again)
    [(key, text)] = supervisor.variables.items()
    assert key.startswith("claude_batch_ended_events__claude_default__")
    assert "Hello" not in text
    assert KEY not in text


@pytest.mark.usefixtures("soon", "claude_default")
def test_own_batches_have_events_too_if_asked_for(create: Callable[..., str], supervisor: Supervisor) -> None:
    own = create(OWN_BODY)
    trigger = MessageBatchEndedTrigger(include_own=True, since=START - timedelta(days=36500))
    [event] = asyncio.run(payloads(trigger, 1))
    assert event["batch_id"] == own


def test_arguments_are_stored_in_a_form_that_stays_the_same() -> None:
    assert MessageBatchEndedTrigger().serialize() == (PATH, {"claude_conn_id": "claude_default"})
    assert MessageBatchEndedTrigger("other", include_own=True, since=START).serialize() == (
        PATH,
        {"claude_conn_id": "other", "include_own": True, "since": "2026-11-30T00:00:00+00:00"},
    )


@pytest.mark.parametrize(
    "since",
    [
        "2026-11-30T00:00:00+00:00",
        "2026-11-30T01:00+01:00",
        "2026-11-30T00:00:00Z",
        START,
        START.astimezone(timezone(timedelta(hours=-5))),
    ],
)
def test_equal_starts_are_one_watcher(since: str | datetime) -> None:
    stored = MessageBatchEndedTrigger(since=since).serialize()
    assert stored == MessageBatchEndedTrigger(since=START).serialize()
    assert MessageBatchEndedTrigger(**stored[1]).since == START


@pytest.mark.parametrize("since", ["2026-11-30", "yesterday", datetime(2026, 11, 30), 5, "{{ ds }}"])  # noqa: DTZ001  (a naive time is the case)
def test_start_that_is_no_certain_time_is_refused(since: Any) -> None:
    with pytest.raises(ConfigurationError, match="is not a time with an offset") as refused:
        MessageBatchEndedTrigger(since=since)
    assert "Give ISO 8601" in str(refused.value)


def test_arguments_of_a_later_version_are_ignored() -> None:
    trigger = MessageBatchEndedTrigger(**{"claude_conn_id": "claude_default", "of_the_future": 1})
    assert trigger.serialize() == MessageBatchEndedTrigger().serialize()


def test_airflow_stores_the_trigger_of_a_watcher_and_knows_it_again() -> None:
    trigger = MessageBatchEndedTrigger(since=START)
    asset = Asset("batches", watchers=[AssetWatcher(name="ended", trigger=trigger)])
    assert asset.watchers[0].trigger is trigger
    row = Trigger.from_object(trigger)
    assert BaseEventTrigger.hash(row.classpath, row.kwargs) == BaseEventTrigger.hash(*trigger.serialize())


def test_class_is_found_beside_the_other_trigger_too() -> None:
    assert triggers.MessageBatchEndedTrigger is MessageBatchEndedTrigger


def test_record_has_one_key_for_equal_triggers_and_another_for_others() -> None:
    assert variable_key("claude_default", {}) == "claude_batch_ended_events__claude_default"
    keys = [
        variable_key(conn_id, options)
        for conn_id in ("claude_default", "a/b", "a_b", "x" * 250, "y" + "x" * 249)
        for options in ({}, {"include_own": True}, {"since": "2026-11-30T00:00:00+00:00"})
    ]
    assert len(set(keys)) == len(keys)
    assert max(map(len, keys)) <= 250
    assert all(key.isascii() and "/" not in key for key in keys)


def test_variable_that_cannot_be_read_is_not_taken_for_a_missing_one(supervisor: Supervisor) -> None:
    store = VariableRecordStore("a_key")
    assert asyncio.run(store.load()) is None
    supervisor.is_failing = True
    with pytest.raises(AirflowRuntimeError):
        asyncio.run(store.load())
    with pytest.raises(AirflowRuntimeError):
        asyncio.run(store.save(EventRecord()))
    supervisor.is_failing = False
    supervisor.variables["a_key"] = ""  # as Airflow says of a value that it cannot decrypt
    with pytest.raises(SubmissionRecordError):
        asyncio.run(store.load())


def test_missing_variable_is_known_by_the_error_that_some_versions_raise(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(msg: Any) -> None:
        raise AirflowRuntimeError(ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND))

    monkeypatch.setattr(supervisor, "send", refuse)
    assert asyncio.run(VariableRecordStore("a_key").load()) is None


@pytest.mark.usefixtures("soon", "claude_default")
def test_unexpected_error_ends_no_watch(create: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BEGIN_AGAIN_SECONDS", 0.0)
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__POLL_INTERVAL", "often")
    logged: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append(record.getMessage())
            monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__POLL_INTERVAL", "1")

    logger = logging.Logger("the trigger's")
    logger.addHandler(Handler())
    monkeypatch.setattr(MessageBatchEndedTrigger, "log", logger)
    batch_id = create()

    [event] = asyncio.run(payloads(MessageBatchEndedTrigger(since=START - timedelta(days=36500)), 1))

    assert event["batch_id"] == batch_id
    assert [line.partition(".")[0] for line in logged] == ["Watching connection 'claude_default' failed unexpectedly"]
