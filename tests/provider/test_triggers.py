from __future__ import annotations

import asyncio
import json
import logging
import pkgutil
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.models.trigger import Trigger
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult
from airflow.utils.session import create_session
from airflow_fixtures import KEY
from virtual_time import VirtualTimeLoop
from waiting_world import BODY

from airflow_claude_batch import triggers
from airflow_claude_batch._airflow.compat import ON_KILL_SUPPORTED
from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.wait import watcher
from airflow_claude_batch.batch.wait.wait_result import WaitResult
from airflow_claude_batch.simulator import Fault, Simulator
from airflow_claude_batch.triggers import MessageBatchTrigger

Logged = Callable[[], list[tuple[str, str]]]


@dataclass
class TaskInstance:
    """What a trigger knows of its task instance."""

    dag_id: str = "a_dag"
    task_id: str = "a_task"
    run_id: str = "a_run"
    map_index: int = -1


class Supervisor:
    """Answers for Airflow's supervisor: what state task instances are in; None in place of all of them: no answer."""

    def __init__(self, states: dict[str, str | None] | None) -> None:
        self.states = states
        self.asked: list[Any] = []

    def send(self, msg: Any) -> TaskStatesResult | None:
        if not isinstance(msg, GetTaskStates):
            return None
        self.asked.append(msg)
        if self.states is None:
            raise ConnectionError("the supervisor is stopping")
        return TaskStatesResult(task_states={"a_run": self.states})


@pytest.fixture
def batch_ids(simulator: Simulator, simulator_url: str, claude_default: str) -> Callable[[int], list[str]]:
    def create(count: int) -> list[str]:
        config = ClientConfig(credentials=ApiKey(KEY), base_url=simulator_url)
        with ClaudeClient(config) as client:
            return [client.create_batch(BODY).id for _ in range(count)]

    return create


@pytest.fixture
def supervised(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str | None] | None], Supervisor]:
    def supervise(states: dict[str, str | None] | None) -> Supervisor:
        supervisor = Supervisor(states)
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
        return supervisor

    return supervise


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Logged:
    """Give the level and text of the triggers' own log lines so far."""
    lines: list[tuple[str, str]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append((record.levelname.lower(), record.getMessage()))

    logger = logging.Logger("the trigger's")
    logger.addHandler(Handler())
    monkeypatch.setattr(MessageBatchTrigger, "log", logger)
    return lambda: lines


def fire(*waiting: MessageBatchTrigger) -> list[dict[str, Any]]:
    """Run triggers on one new loop, as the triggerer does; give their events' payloads."""

    async def events(trigger: MessageBatchTrigger) -> list[Any]:
        return [event.payload async for event in trigger.run()]

    async def main() -> list[list[Any]]:
        return await asyncio.gather(*map(events, waiting))

    gathered = asyncio.run(main())
    assert [len(payloads) for payloads in gathered] == [1] * len(waiting)
    return [payloads[0] for payloads in gathered]


def trigger(batch_ids: list[str], **options: Any) -> MessageBatchTrigger:
    return MessageBatchTrigger("claude_default", batch_ids=batch_ids, **options)


# ------------------------------------------------------------------ what is stored


def test_class_path_and_arguments_are_what_the_database_holds() -> None:
    kwargs = {
        "claude_conn_id": "claude_default",
        "batch_ids": ["msgbatch_1"],
        "open_batch_ids": ["msgbatch_1", "msgbatch_2"],
        "wait_for": "any",
        "poll_interval": 30.0,
        "until": "2026-11-22T09:00:00+00:00",
        "cancel_on_kill": True,
        "submitted_at": "2026-11-21T09:00:00+00:00",
    }
    path, stored = MessageBatchTrigger(**kwargs).serialize()
    assert path == "airflow_claude_batch.triggers.MessageBatchTrigger"
    assert json.loads(json.dumps(stored)) == kwargs


AT_FIRST = {"wait_for": "any", "poll_interval": 30.0, "until": None, "cancel_on_kill": True}


@pytest.mark.airflow
@pytest.mark.parametrize(
    "stored",
    [
        pytest.param({}, id="the least"),
        pytest.param(AT_FIRST, id="of the first version"),
        pytest.param({**AT_FIRST, "submitted_at": "2026-11-21T09:00:00+00:00"}, id="before open batches"),
        pytest.param({**AT_FIRST, "invented_in": "2031", "regions": [{"name": "eu"}]}, id="of a newer version"),
    ],
)
def test_trigger_stored_by_another_version_loads_and_fires(
    airflow_db: None, batch_ids: Callable[[int], list[str]], stored: dict[str, Any]
) -> None:
    ids = batch_ids(2)
    path = "airflow_claude_batch.triggers.MessageBatchTrigger"
    kwargs = {"claude_conn_id": "claude_default", "batch_ids": ids, **stored}
    with create_session() as session:
        row = Trigger(classpath=path, kwargs=kwargs)
        session.add(row)
        session.flush()
        row_id = row.id
    with create_session() as session:
        row = session.get(Trigger, row_id)
        # As the triggerer makes them.
        loaded = pkgutil.resolve_name(row.classpath)(**row.kwargs)
        session.delete(row)

    [event] = fire(loaded)

    assert (event["status"], set(event["batches"]) <= set(ids)) == ("ended", True)
    _, again = loaded.serialize()
    assert again == trigger(ids, **{name: stored[name] for name in stored if name in again}).serialize()[1]
    assert again["open_batch_ids"] == ids


# ------------------------------------------------------------------ events


def test_ended_batches_give_one_event(batch_ids: Callable[[int], list[str]]) -> None:
    ids = batch_ids(2)
    [event] = fire(trigger(ids))
    assert (event["version"], event["status"], event["error"], event["error_type"]) == (1, "ended", None, None)
    assert set(event["batches"]) == set(ids)
    assert event["batches"][ids[0]]["processing_status"] == "ended"
    assert event["batches"][ids[0]]["request_counts"]["succeeded"] == 1
    assert WaitResult.from_event(json.loads(json.dumps(event))).batches[ids[1]].ended_at


@pytest.mark.parametrize("until", ["2026-11-22T09:00:00+00:00", "2026-11-22T09:00:00Z", "2026-11-22T09:00:00"])
def test_a_time_that_has_passed_is_due_at_once(
    simulator: Simulator, batch_ids: Callable[[int], list[str]], until: str
) -> None:
    simulator.pace(3600)
    [event] = fire(trigger(batch_ids(1), until=until))
    assert (event["status"], event["error"]) == ("due", None)


def test_no_batches_make_a_timer(claude_default: str, simulator: Simulator) -> None:
    until = datetime.now(UTC) + timedelta(seconds=0.05)
    [event] = fire(trigger([], until=until.isoformat()))
    assert event["status"] == "due"
    assert datetime.now(UTC) >= until
    assert sum(simulator.calls().values()) == 0


def test_two_triggers_ask_once(simulator: Simulator, batch_ids: Callable[[int], list[str]]) -> None:
    first, second = batch_ids(2)
    events = fire(trigger([first]), trigger([second]))
    assert [list(event["batches"]) for event in events] == [[first], [second]]
    assert (simulator.calls()["list"], simulator.calls()["retrieve"]) == (1, 0)


def test_triggers_run_in_loops_of_their_own_leave_nothing_behind(batch_ids: Callable[[int], list[str]]) -> None:
    ids = batch_ids(1)
    for _ in range(3):
        # This is all that dag.test() does with a trigger.
        event = asyncio.run(anext(trigger(ids).run()))
        assert event.payload["status"] == "ended"
        assert not watcher._watchers


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_credential_names_connection_and_remedy_but_no_secret(
    simulator: Simulator, batch_ids: Callable[[int], list[str]], status: int
) -> None:
    ids = batch_ids(1)
    simulator.inject(Fault(do="status", status=status, times=None))
    [event] = fire(trigger(ids, cancel_on_kill=True))
    assert event["status"] == "error"
    assert event["error_type"] == {401: "AuthenticationError", 403: "PermissionDeniedError"}[status]
    assert "Connection 'claude_default'" in event["error"]
    assert "Check the API key" in event["error"] or "The credential is valid but may not do this" in event["error"]
    assert KEY not in json.dumps(event)
    assert simulator.calls()["cancel"] == 0


def test_a_key_rotated_in_the_connection_is_taken_up(
    simulator: Simulator, simulator_url: str, batch_ids: Callable[[int], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = batch_ids(1)
    good = {"conn_type": "claude", "password": KEY, "host": simulator_url}
    monkeypatch.setenv("AIRFLOW_CONN_CLAUDE_DEFAULT", json.dumps(good | {"password": "sk-ant-revoked"}))

    async def main() -> Any:
        event = asyncio.ensure_future(anext(trigger(ids).run()))
        await asyncio.sleep(0)
        await until(lambda: watcher.watcher_for("claude_default", _never)._road._client)
        monkeypatch.setenv("AIRFLOW_CONN_CLAUDE_DEFAULT", json.dumps(good))
        return await event

    assert asyncio.run(main()).payload["status"] == "ended"
    assert simulator.calls()["retrieve"] == 2


def test_a_connection_that_is_missing_ends_the_wait_with_its_name(
    batch_ids: Callable[[int], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "CONNECT_PAUSE_SECONDS", 0.01)
    waiting = MessageBatchTrigger("no_such_connection", batch_ids=batch_ids(1))
    [event] = fire(waiting)
    assert (event["status"], event["error_type"]) == ("error", "ConfigurationError")
    assert "Connection 'no_such_connection' cannot be read" in event["error"]


@pytest.mark.parametrize(
    "options",
    [pytest.param({"batch_ids": ["../models"]}, id="no id"), pytest.param({"until": "soon"}, id="no time")],
)
def test_arguments_that_make_no_sense_give_an_error_event(claude_default: str, options: dict[str, Any]) -> None:
    [event] = fire(trigger(**({"batch_ids": ["msgbatch_1"]} | options)))
    assert event["status"] == "error"
    assert event["error"]


# ------------------------------------------------------------------ timing and logs


def test_a_deferred_task_is_not_woken_within_ten_seconds() -> None:
    waiting = trigger([], until="2026-11-22T09:00:00Z")
    waiting.task_instance = TaskInstance()
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:

        async def main() -> float:
            await anext(waiting.run())
            return asyncio.get_running_loop().time()

        assert runner.run(main()) == pytest.approx(10.0, abs=0.1)


def test_one_line_when_waiting_begins_and_one_when_a_batch_has_ended(
    batch_ids: Callable[[int], list[str]], logged: Logged
) -> None:
    [batch_id] = batch_ids(1)
    fire(trigger([batch_id], submitted_at="2026-11-22T09:00:00+00:00", until="2999-01-01T00:00:00+00:00"))
    begun, (level, ended) = logged()
    assert begun == (
        "info",
        f"Waiting for all of these message batches: {batch_id}; they expire after 2026-11-23 09:00:00+00:00; "
        "waiting ends at 2999-01-01T00:00:00+00:00.",
    )
    assert level == "info"
    assert re.fullmatch(rf"Message batch {batch_id} has ended after [1-9][\w ]+: 1 succeeded\.", ended)


# ------------------------------------------------------------------ being killed

ENDED_BY_HAND = [
    pytest.param({"a_task": "failed"}, id="marked failed"),
    pytest.param({"a_task": "success"}, id="marked success"),
    pytest.param({}, id="run deleted"),
]
STILL_WANTED = [
    pytest.param({"a_task": "deferred"}, id="triggerer was paused"),
    pytest.param({"a_task": "running"}, id="cleared, the next try runs"),
    pytest.param({"a_task": None}, id="cleared, not scheduled yet"),
    pytest.param(None, id="nobody answers"),
]


@pytest.fixture(params=["on_kill", "CancelledError"])
def kill(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[MessageBatchTrigger], None]:
    """Kill a running trigger as Airflow 3.3 does, and as the versions before it do."""
    if request.param == "CancelledError":
        monkeypatch.setattr(triggers, "ON_KILL_SUPPORTED", False)

    async def main(waiting: MessageBatchTrigger) -> None:
        run = asyncio.ensure_future(anext(waiting.run()))
        await asyncio.sleep(0)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        if request.param == "on_kill":
            await waiting.on_kill()

    return lambda waiting: asyncio.run(main(waiting))


def deferred(ids: list[str], *, map_index: int = -1, **options: Any) -> MessageBatchTrigger:
    waiting = trigger(ids, **options)
    waiting.task_instance = TaskInstance(map_index=map_index)
    return waiting


@pytest.mark.parametrize("states", ENDED_BY_HAND)
def test_a_task_ended_by_hand_cancels_its_batches(simulator, batch_ids, supervised, kill, states) -> None:
    simulator.pace(3600)
    ids = batch_ids(2)
    supervised(states)
    kill(deferred(ids, cancel_on_kill=True))
    assert simulator.calls()["cancel"] == 2
    assert {batch["processing_status"] for batch in simulator.books(detail=False)["batches"]} == {"ended"}


@pytest.mark.parametrize("states", STILL_WANTED)
def test_a_task_that_goes_on_keeps_its_batches(simulator, batch_ids, supervised, kill, states) -> None:
    simulator.pace(3600)
    ids = batch_ids(1)
    supervised(states)
    kill(deferred(ids, cancel_on_kill=True))
    assert simulator.calls()["cancel"] == 0


def test_without_cancel_on_kill_nothing_is_even_asked(simulator, batch_ids, supervised, kill) -> None:
    simulator.pace(3600)
    ids = batch_ids(1)
    supervisor = supervised({"a_task": "failed"})
    kill(deferred(ids))
    assert simulator.calls()["cancel"] == 0
    assert supervisor.asked == []


def test_a_trigger_without_a_task_cancels_nothing(simulator, batch_ids, kill) -> None:
    simulator.pace(3600)
    kill(trigger(batch_ids(1), cancel_on_kill=True))
    assert simulator.calls()["cancel"] == 0


def test_what_is_canceled_may_be_more_than_what_is_waited_for(simulator, batch_ids, supervised, kill) -> None:
    simulator.pace(3600)
    ids = batch_ids(3)
    supervised({"a_task": "failed"})
    kill(deferred(ids[:1], open_batch_ids=ids, cancel_on_kill=True))
    assert simulator.calls()["cancel"] == 3


def test_a_mapped_task_is_known_by_its_index(simulator, batch_ids, supervised, kill) -> None:
    simulator.pace(3600)
    ids = batch_ids(1)
    supervisor = supervised({"a_task_3": "deferred"})
    kill(deferred(ids, map_index=3, cancel_on_kill=True))
    assert simulator.calls()["cancel"] == 0
    assert (supervisor.asked[0].task_ids, supervisor.asked[0].map_index) == (["a_task"], 3)


def test_a_trigger_that_has_fired_cancels_nothing(simulator, batch_ids, supervised) -> None:
    ids = batch_ids(1)
    supervisor = supervised({"a_task": "success"})
    fired = trigger(ids, cancel_on_kill=True)

    async def main() -> None:
        await anext(fired.run())
        fired.task_instance = TaskInstance()
        await fired.on_kill()

    asyncio.run(main())
    assert supervisor.asked == []
    assert simulator.calls()["cancel"] == 0


def test_a_triggerer_that_stops_cancels_nothing(simulator, batch_ids, supervised) -> None:
    simulator.pace(3600)
    # Where Airflow tells a kill from a stop, the state is not even looked at.
    supervised({"a_task": "failed" if ON_KILL_SUPPORTED else "deferred"})
    waiting = deferred(batch_ids(1), cancel_on_kill=True)

    async def main() -> None:
        task = asyncio.ensure_future(anext(waiting.run()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    assert simulator.calls()["cancel"] == 0


def test_a_cancel_is_tried_again_through_a_blip(simulator, batch_ids, supervised, kill, monkeypatch) -> None:
    monkeypatch.setattr(triggers, "CANCEL_PAUSE_SECONDS", 0.01)
    simulator.pace(3600)
    ids = batch_ids(1)
    supervised({"a_task": "failed"})
    simulator.inject(Fault(do="status", status=503, on="cancel", times=2))
    kill(deferred(ids, cancel_on_kill=True))
    assert simulator.calls()["cancel"] == 3


def test_a_cancel_that_fails_is_logged_with_what_still_bills(
    simulator, batch_ids, supervised, kill, monkeypatch, logged
) -> None:
    monkeypatch.setattr(triggers, "KILL_SECONDS", 0.2)
    monkeypatch.setattr(triggers, "CANCEL_PAUSE_SECONDS", 0.01)
    simulator.pace(3600)
    ids = batch_ids(1)
    supervised({"a_task": "failed"})
    simulator.outage("status:503")
    kill(deferred(ids, cancel_on_kill=True))
    [error] = [text for level, text in logged() if level == "error"]
    assert f"Message batch {ids[0]} could not be canceled: it goes on" in error
    assert "is billed" in error


def test_a_batch_that_ended_meanwhile_needs_no_canceling(simulator, batch_ids, supervised, kill, logged) -> None:
    ids = batch_ids(1)
    supervised({"a_task": "failed"})
    kill(deferred(ids, cancel_on_kill=True))
    assert simulator.calls()["cancel"] == 1
    [_, (level, text)] = logged()
    assert level == "warning"
    assert "needs no canceling" in text


# ------------------------------------------------------------------ help


@pytest.fixture(autouse=True)
def no_watchers_left() -> Iterator[None]:
    yield
    assert not watcher._watchers


async def until(come_true: Callable[[], object]) -> None:
    while not come_true():  # noqa: ASYNC110  (what it waits for is no event)
        await asyncio.sleep(0.001)


def _never() -> Awaitable[Any]:
    raise AssertionError("the trigger's own watcher was expected")
