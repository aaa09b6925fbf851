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
from airflow_claude_batch.api import evidence
from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.wait.registry import WATCHERS
from airflow_claude_batch.batch.wait.wait_result import WaitResult
from airflow_claude_batch.simulator import Fault, Simulator
from airflow_claude_batch.triggers import MessageBatchTrigger

Logged = Callable[[], list[tuple[str, str]]]


@dataclass
class TaskInstance:
    """The part of a task instance that a trigger sees."""

    dag_id: str = "a_dag"
    task_id: str = "a_task"
    run_id: str = "a_run"
    map_index: int = -1


class Supervisor:
    """Reports the states of task instances in place of Airflow's supervisor. It fails if ``states`` is None."""

    def __init__(self, states: dict[str, str | None] | None) -> None:
        self.states = states
        self.requests: list[Any] = []

    def send(self, msg: Any) -> TaskStatesResult | None:
        if not isinstance(msg, GetTaskStates):
            return None
        self.requests.append(msg)
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
    """Return a function that returns the level and text of each line that triggers have logged so far."""
    lines: list[tuple[str, str]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append((record.levelname.lower(), record.getMessage()))

    logger = logging.Logger("the trigger's")
    logger.addHandler(Handler())
    monkeypatch.setattr(MessageBatchTrigger, "log", logger)
    return lambda: lines


def fire(*waiting: MessageBatchTrigger) -> list[dict[str, Any]]:
    """Run triggers on one new event loop, as the triggerer does, and return the payload of each one's event."""

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


def test_class_path_and_arguments_are_stored_as_documented() -> None:
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


#: Triggers as version 0.1.0 wrote them into Airflow's database.
STORED = [
    pytest.param(
        """{"claude_conn_id": "claude_default", "batch_ids": ["msgbatch_1"],
        "open_batch_ids": ["msgbatch_1", "msgbatch_2"], "wait_for": "any", "poll_interval": 30.0,
        "until": "2026-11-22T09:00:00.123456+00:00", "cancel_on_kill": true,
        "submitted_at": "2026-11-21T09:00:00.123456+00:00"}""",
        id="all arguments",
    ),
    pytest.param(
        """{"claude_conn_id": "claude_default", "batch_ids": [], "open_batch_ids": [], "wait_for": "all",
        "poll_interval": 60.0, "until": "2026-11-22T09:00:00+00:00", "cancel_on_kill": false, "submitted_at": null}""",
        id="a timer",
    ),
]


@pytest.mark.parametrize("stored", STORED)
def test_stored_trigger_is_read_and_would_be_written_the_same(claude_default: str, stored: str) -> None:
    path, kwargs = "airflow_claude_batch.triggers.MessageBatchTrigger", json.loads(stored)
    loaded = pkgutil.resolve_name(path)(**kwargs)

    assert loaded.serialize() == (path, kwargs)
    [event] = fire(loaded)
    assert (event["version"], event["status"]) == (1, "due")


FIRST_VERSION = {"wait_for": "any", "poll_interval": 30.0, "until": None, "cancel_on_kill": True}


@pytest.mark.airflow
@pytest.mark.parametrize(
    "stored",
    [
        pytest.param({}, id="required arguments alone"),
        pytest.param(FIRST_VERSION, id="first version"),
        pytest.param({**FIRST_VERSION, "submitted_at": "2026-11-21T09:00:00+00:00"}, id="without open_batch_ids"),
        pytest.param({**FIRST_VERSION, "invented_in": "2031", "regions": [{"name": "eu"}]}, id="newer version"),
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
        # As the triggerer builds them.
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
def test_a_deadline_in_the_past_is_due_at_once(
    simulator: Simulator, batch_ids: Callable[[int], list[str]], until: str
) -> None:
    simulator.pace(3600)
    [event] = fire(trigger(batch_ids(1), until=until))
    assert (event["status"], event["error"]) == ("due", None)


def test_without_batches_the_trigger_is_a_timer(claude_default: str, simulator: Simulator) -> None:
    until = datetime.now(UTC) + timedelta(seconds=0.05)
    [event] = fire(trigger([], until=until.isoformat()))
    assert event["status"] == "due"
    assert datetime.now(UTC) >= until
    assert sum(simulator.calls().values()) == 0


def test_two_triggers_poll_together(simulator: Simulator, batch_ids: Callable[[int], list[str]]) -> None:
    first, second = batch_ids(2)
    events = fire(trigger([first]), trigger([second]))
    assert [list(event["batches"]) for event in events] == [[first], [second]]
    assert (simulator.calls()["list"], simulator.calls()["retrieve"]) == (1, 0)


def test_triggers_on_event_loops_of_their_own_leave_no_watcher_behind(batch_ids: Callable[[int], list[str]]) -> None:
    ids = batch_ids(1)
    for _ in range(3):
        # dag.test() does no more than this with a trigger.
        event = asyncio.run(anext(trigger(ids).run()))
        assert event.payload["status"] == "ended"
        assert len(WATCHERS) == 0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Believe at once what is believed only if it lasts: these tests run in real time."""
    monkeypatch.setattr(evidence, "LASTING", timedelta(0))
    monkeypatch.setattr(evidence, "LASTING_POLLS", 1)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("status", [401, 403])
def test_a_rejected_credential_names_connection_and_remedy_but_no_secret(
    simulator: Simulator, batch_ids: Callable[[int], list[str]], status: int
) -> None:
    ids = batch_ids(1)
    simulator.inject(Fault(do="status", status=status, times=None))
    [event] = fire(trigger(ids, cancel_on_kill=True))
    assert event["status"] == "error"
    assert event["error_type"] == {401: "AuthenticationError", 403: "PermissionDeniedError"}[status]
    assert "Connection 'claude_default'" in event["error"]
    assert "Check the API key" in event["error"] or "it is valid but may not do this" in event["error"]
    assert KEY not in json.dumps(event)
    assert simulator.calls()["cancel"] == 0


def test_a_key_rotated_in_the_connection_is_used(
    simulator: Simulator, simulator_url: str, batch_ids: Callable[[int], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = batch_ids(1)
    good = {"conn_type": "claude", "password": KEY, "host": simulator_url}
    monkeypatch.setenv("AIRFLOW_CONN_CLAUDE_DEFAULT", json.dumps(good | {"password": "sk-ant-revoked"}))

    async def main() -> Any:
        event = asyncio.ensure_future(anext(trigger(ids).run()))
        await asyncio.sleep(0)
        await until_true(lambda: WATCHERS.get("claude_default", _never)._client._client)
        monkeypatch.setenv("AIRFLOW_CONN_CLAUDE_DEFAULT", json.dumps(good))
        return await event

    assert asyncio.run(main()).payload["status"] == "ended"
    assert simulator.calls()["retrieve"] == 2


@pytest.mark.usefixtures("impatient")
def test_a_missing_connection_ends_the_wait_and_is_named(batch_ids: Callable[[int], list[str]]) -> None:
    waiting = MessageBatchTrigger("no_such_connection", batch_ids=batch_ids(1))
    [event] = fire(waiting)
    assert (event["status"], event["error_type"]) == ("error", "ConfigurationError")
    assert "Connection 'no_such_connection' cannot be read" in event["error"]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"batch_ids": ["../models"]}, id="invalid batch id"),
        pytest.param({"until": "soon"}, id="invalid time"),
    ],
)
def test_invalid_arguments_make_an_error_event(claude_default: str, options: dict[str, Any]) -> None:
    [event] = fire(trigger(**({"batch_ids": ["msgbatch_1"]} | options)))
    assert event["status"] == "error"
    assert event["error"]


# ------------------------------------------------------------------ timing and logs


def test_a_deferred_task_does_not_resume_within_ten_seconds() -> None:
    waiting = trigger([], until="2026-11-22T09:00:00Z")
    waiting.task_instance = TaskInstance()
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:

        async def main() -> float:
            await anext(waiting.run())
            return asyncio.get_running_loop().time()

        assert runner.run(main()) == pytest.approx(10.0, abs=0.1)


def test_start_of_the_wait_and_end_of_a_batch_are_logged_once_each(
    batch_ids: Callable[[int], list[str]], logged: Logged
) -> None:
    [batch_id] = batch_ids(1)
    fire(trigger([batch_id], submitted_at="2026-11-22T09:00:00+00:00", until="2999-01-01T00:00:00+00:00"))
    (began_at, began), (level, ended) = logged()
    assert began_at == "info"
    assert re.fullmatch(
        rf"Waiting for all of these message batches: {batch_id}\. "
        r"It expires at 2026-11-23 09:00:00 UTC \((in \d+ \w+|\d+ \w+ ago)\)\. "
        r"If the task is ended by hand, it goes on and is billed: cancel_on_kill is off\. "
        r"The deadline of this wait is 2999-01-01 00:00:00 UTC \(in \d+ years\)\.",
        began,
    )
    assert level == "info"
    assert re.fullmatch(rf"Message batch {batch_id} has ended after [1-9][\w ]+: 1 succeeded\.", ended)


# ------------------------------------------------------------------ being killed

ENDED_BY_USER = [
    pytest.param({"a_task": "failed"}, id="marked failed"),
    pytest.param({"a_task": "success"}, id="marked success"),
    pytest.param({}, id="run deleted"),
]
RUNS_AGAIN = [
    pytest.param({"a_task": "deferred"}, id="triggerer was paused"),
    pytest.param({"a_task": "running"}, id="cleared, the next try runs"),
    pytest.param({"a_task": None}, id="cleared, not scheduled yet"),
    pytest.param(None, id="lookup fails"),
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


@pytest.mark.parametrize("states", ENDED_BY_USER)
def test_a_task_ended_by_a_user_cancels_its_batches(simulator, batch_ids, supervised, kill, states) -> None:
    simulator.pace(3600)
    ids = batch_ids(2)
    supervised(states)
    kill(deferred(ids, cancel_on_kill=True))
    assert simulator.calls()["cancel"] == 2
    assert {batch["processing_status"] for batch in simulator.books(detail=False)["batches"]} == {"ended"}


@pytest.mark.parametrize("states", RUNS_AGAIN)
def test_a_task_that_runs_again_keeps_its_batches(simulator, batch_ids, supervised, kill, states) -> None:
    simulator.pace(3600)
    ids = batch_ids(1)
    supervised(states)
    kill(deferred(ids, cancel_on_kill=True))
    assert simulator.calls()["cancel"] == 0


def test_without_cancel_on_kill_not_even_the_state_is_looked_up(simulator, batch_ids, supervised, kill) -> None:
    simulator.pace(3600)
    ids = batch_ids(1)
    supervisor = supervised({"a_task": "failed"})
    kill(deferred(ids))
    assert simulator.calls()["cancel"] == 0
    assert supervisor.requests == []


@pytest.mark.parametrize(("count", "says"), [(1, "goes on, and is billed"), (2, "go on, and are billed")])
def test_without_cancel_on_kill_the_log_says_that_batches_go_on(
    count: int, says: str, simulator, batch_ids, kill, logged: Logged
) -> None:
    simulator.pace(3600)
    kill(deferred(batch_ids(count)))
    level, line = logged()[-1]
    assert level == "warning"
    assert f"{says}: cancel_on_kill is off. If the task was ended, clear it" in line


def test_a_trigger_without_a_task_cancels_nothing(simulator, batch_ids, kill) -> None:
    simulator.pace(3600)
    kill(trigger(batch_ids(1), cancel_on_kill=True))
    assert simulator.calls()["cancel"] == 0


def test_all_open_batches_are_canceled_not_only_those_waited_for(simulator, batch_ids, supervised, kill) -> None:
    simulator.pace(3600)
    ids = batch_ids(3)
    supervised({"a_task": "failed"})
    kill(deferred(ids[:1], open_batch_ids=ids, cancel_on_kill=True))
    assert simulator.calls()["cancel"] == 3


def test_a_mapped_task_is_looked_up_by_its_map_index(simulator, batch_ids, supervised, kill) -> None:
    simulator.pace(3600)
    ids = batch_ids(1)
    supervisor = supervised({"a_task_3": "deferred"})
    kill(deferred(ids, map_index=3, cancel_on_kill=True))
    assert simulator.calls()["cancel"] == 0
    assert (supervisor.requests[0].task_ids, supervisor.requests[0].map_index) == (["a_task"], 3)


def test_an_earlier_iteration_of_a_loop_keeps_its_batches(
    simulator, batch_ids, supervised, kill, logged: Logged
) -> None:
    """Airflow tells the state of the latest iteration, whatever a user did to this one."""
    simulator.pace(3600)
    supervisor = supervised({"a_task": "success"})
    kill(deferred(batch_ids(1), cancel_on_kill=True, later_iteration=True))
    assert simulator.calls()["cancel"] == 0
    assert supervisor.requests == []
    assert "So these message batches go on, and are billed" in logged()[-1][1]


def test_a_trigger_that_has_fired_cancels_nothing(simulator, batch_ids, supervised) -> None:
    ids = batch_ids(1)
    supervisor = supervised({"a_task": "success"})
    fired = trigger(ids, cancel_on_kill=True)

    async def main() -> None:
        await anext(fired.run())
        fired.task_instance = TaskInstance()
        await fired.on_kill()

    asyncio.run(main())
    assert supervisor.requests == []
    assert simulator.calls()["cancel"] == 0


def test_a_triggerer_that_shuts_down_cancels_nothing(simulator, batch_ids, supervised) -> None:
    simulator.pace(3600)
    # Where Airflow distinguishes a kill from a shutdown, the state is not even looked up.
    supervised({"a_task": "failed" if ON_KILL_SUPPORTED else "deferred"})
    waiting = deferred(batch_ids(1), cancel_on_kill=True)

    async def main() -> None:
        task = asyncio.ensure_future(anext(waiting.run()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    assert simulator.calls()["cancel"] == 0


def test_a_failed_cancel_call_is_retried(simulator, batch_ids, supervised, kill, monkeypatch) -> None:
    monkeypatch.setattr(triggers, "CANCEL_RETRY_SECONDS", 0.01)
    simulator.pace(3600)
    ids = batch_ids(1)
    supervised({"a_task": "failed"})
    simulator.inject(Fault(do="status", status=503, on="cancel", times=2))
    kill(deferred(ids, cancel_on_kill=True))
    assert simulator.calls()["cancel"] == 3


@pytest.mark.parametrize("status", [401, 403, 404], ids=str)
def test_a_cancel_call_that_is_refused_for_a_moment_is_retried(
    simulator, batch_ids, supervised, kill, monkeypatch, status
) -> None:
    monkeypatch.setattr(triggers, "CANCEL_RETRY_SECONDS", 0.01)
    simulator.pace(3600)
    ids = batch_ids(1)
    supervised({"a_task": "failed"})
    simulator.inject(Fault(do="status", status=status, on="cancel", times=2))
    kill(deferred(ids, cancel_on_kill=True))
    assert simulator.calls()["cancel"] == 3
    assert simulator.books()["batches"][0]["processing_status"] != "in_progress"


def test_batches_taken_for_ended_are_stored_only_if_there_are_any() -> None:
    stored = trigger(["msgbatch_1"], unconfirmed_batch_ids=["msgbatch_1"]).serialize()[1]
    assert stored["unconfirmed_batch_ids"] == ["msgbatch_1"]
    assert "unconfirmed_batch_ids" not in trigger(["msgbatch_1"]).serialize()[1]


def test_a_cancel_that_fails_is_logged_with_what_still_bills(
    simulator, batch_ids, supervised, kill, monkeypatch, logged
) -> None:
    monkeypatch.setattr(triggers, "ON_KILL_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(triggers, "CANCEL_RETRY_SECONDS", 0.01)
    simulator.pace(3600)
    ids = batch_ids(1)
    supervised({"a_task": "failed"})
    simulator.outage("status:503")
    kill(deferred(ids, cancel_on_kill=True))
    [error] = [text for level, text in logged() if level == "error"]
    assert f"Could not cancel message batch {ids[0]}. It keeps running" in error
    assert "is billed" in error


def test_a_batch_that_ended_meanwhile_needs_no_canceling(simulator, batch_ids, supervised, kill, logged) -> None:
    ids = batch_ids(1)
    supervised({"a_task": "failed"})
    kill(deferred(ids, cancel_on_kill=True))
    assert simulator.calls()["cancel"] == 1
    [_, (level, text)] = logged()
    assert level == "warning"
    assert "needs no canceling" in text


# ------------------------------------------------------------------ helpers


@pytest.fixture(autouse=True)
def no_watchers_left() -> Iterator[None]:
    yield
    assert len(WATCHERS) == 0


async def until_true(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110  (there is no event to wait for)
        await asyncio.sleep(0.001)


def _never() -> Awaitable[Any]:
    raise AssertionError("the trigger's watcher is running, so no client is built")
