"""Tasks that start or resume while an upstream task runs again: none fails for good, and none uses another's output.

The tasks here begin at once (``trigger_rule="always"``), as they do on a real Airflow when somebody clears what is
before them alone; ``tests/stack/shared_airflow/test_cleared_upstream.py`` does that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import task, task_group
from workbench import Workbench

from airflow_claude_batch._airflow.compat import AirflowFailException, TaskDeferred
from airflow_claude_batch._airflow.task_loop import fail_on_input_error
from airflow_claude_batch.exceptions import InputError
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor

pytestmark = pytest.mark.airflow

UNFINISHED = "Not all instances of these upstream tasks have finished: {}."
AT_ONCE: dict[str, Any] = {"trigger_rule": "always", "retry_delay": timedelta(0)}


@task
def before() -> None: ...


@task
def prompts() -> list[str]:
    return ["a", "b"]


def send(task_id: str = "send", **arguments: Any) -> SendMessageBatchOperator:
    """Its messages come two tasks later, so a task with an eager trigger rule starts before them."""
    messages = prompts()
    before() >> messages
    return SendMessageBatchOperator(task_id=task_id, **{"messages": messages, **arguments})


def test_operator_is_retried_until_its_messages_exist(bench: Workbench, claude_default: str, simulator: Any) -> None:
    with bench.dag("operator_too_soon") as dag:
        send(**AT_ONCE, retries=5)
    run = bench.run(dag)

    assert set(run.states.values()) == {"success"}
    assert run.tries("send") > 1
    assert "messages is None" in run.error("send")
    assert simulator.books()["billed_requests"] == 2


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_poking_sensor_pokes_again_once_its_batch_exists(mode: str, bench: Workbench, claude_default: str) -> None:
    with bench.dag(f"sensor_too_soon_{mode}") as dag:
        sent = send().output
        MessageBatchSensor(
            task_id="wait", batch=sent, deferrable=False, mode=mode, poke_interval=0.05, retries=5, **AT_ONCE
        )
    run = bench.run(dag)

    assert set(run.states.values()) == {"success"}
    assert (run.tries("wait") > 1) == (mode == "poke")
    assert [row.key for row in read_rows(run.xcom("wait"))] == [0, 1]


def test_deferred_sensor_waits_for_upstream_until_its_timeout(
    bench: Workbench, claude_default: str, simulator: Any
) -> None:
    with bench.dag("sensor_waits") as dag:
        sent = send().output
        wait: dict[str, Any] = {"batch": sent, "deferrable": True, "poll_interval": 0.1, "timeout": 0.5, **AT_ONCE}
        MessageBatchSensor(task_id="hard", **wait, retries=1)
        MessageBatchSensor(task_id="soft", **wait, soft_fail=True)
    run = bench.run(dag)

    assert (run.states["hard"], run.states["soft"]) == ("failed", "skipped")
    assert run.tries("hard") == 1
    assert re.search(r"The timeout has passed, and .*send ha(s|ve) not finished: batch is None", run.error("hard"))
    assert simulator.calls()["retrieve"] == 0


class GivenAnother(MessageBatchSensor):
    """A sensor that gets the output of ``other`` when it resumes."""

    def execute(self, context: Any) -> Any:
        try:
            return super().execute(context)
        except TaskDeferred as deferred:
            self.batch = context["ti"].xcom_pull(task_ids="other")
            kwargs = {**(deferred.kwargs or {}), "event": {"status": "ended"}}
            return self.resume_execution(deferred.method_name, kwargs, context)


class RenderedTooEarly(MessageBatchSensor):
    """A sensor whose batch is rendered while an upstream task runs, which finishes right after that.

    ``times``: so often.
    """

    def __init__(self, *, times: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.times = times

    def execute(self, context: Any) -> Any:
        given, self.batch = self.batch, None
        resume: tuple[str, dict[str, Any]] = ("execute_complete", {"deadline": "2999-01-01T00:00:00+00:00"})
        for _ in range(self.times):
            with pytest.raises(TaskDeferred) as deferred:
                self.resume_execution(resume[0], {**resume[1], "event": {"status": "due"}}, context)
            resume = (deferred.value.method_name, deferred.value.kwargs or {})
        self.batch = given
        return self.resume_execution(resume[0], {**resume[1], "event": {"status": "due"}}, context)


@pytest.mark.parametrize(("times", "state"), [(1, "success"), (2, "failed")])
def test_sensor_whose_upstream_finished_just_now_is_rendered_once_more(
    times: int, state: str, bench: Workbench, claude_default: str
) -> None:
    with bench.dag(f"rendered_too_early_{times}") as dag:
        sent = SendMessageBatchOperator(task_id="send", messages=["a"]).output
        RenderedTooEarly(task_id="wait", batch=sent, times=times, deferrable=True)
    run = bench.run(dag)

    assert run.states == {"send": "success", "wait": state}
    if state == "failed":
        assert "batch is None" in run.error("wait")


@pytest.mark.parametrize("simulator", [{"batch_seconds": 3600.0}], indirect=True, ids=["running"])
def test_sensor_does_not_land_another_submission_than_it_waited_for(
    bench: Workbench, claude_default: str, simulator: Any
) -> None:
    with bench.dag("given_another") as dag:
        sent, other = send().output, send("other")
        other >> GivenAnother(task_id="wait", batch=sent, deferrable=True, retries=1, retry_delay=timedelta(0))
    run = bench.run(dag)

    assert run.states["wait"] == "failed"
    assert run.tries("wait") == 1
    assert re.search(r"batch is another submission \(\S+/other/?\) than", run.error("wait"))
    assert simulator.calls()["results"] == 0


def test_instances_of_a_mapped_task_group_do_not_wait_for_each_other(bench: Workbench, claude_default: str) -> None:
    @task
    def each(name: str) -> list[str] | None:
        return [name] if name else None

    @task_group
    def ask(name: str) -> None:
        SendMessageBatchOperator(task_id="send", messages=each(name), retries=1, retry_delay=timedelta(0))

    with bench.dag("groups") as dag:
        ask.expand(name=["", "tides"])
    run = bench.run(dag)

    assert [run.states[f"ask.send[{index}]"] for index in (0, 1)] == ["failed", "success"]
    assert run.tries("ask.send", 0) == 1


@contextmanager
def running_again(context: Any, task_id: str, *, when: bool) -> Iterator[None]:
    """Mark the first instance of a mapped task as running, for the duration of the block."""
    from airflow import settings
    from airflow.models.taskinstance import TaskInstance

    def put(state: str) -> None:
        ti, session = context["ti"], settings.Session()
        which = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": task_id, "map_index": 0}
        assert session.query(TaskInstance).filter_by(**which).update({"state": state}) == 1
        session.commit()

    if not when:
        yield
        return
    put("running")
    try:
        yield
    finally:
        put("success")


class SendsTooSoon(SendMessageBatchOperator):
    """An operator whose upstream task runs again during its first try."""

    def execute(self, context: Any) -> Any:
        (above,) = self.upstream_task_ids
        with running_again(context, above, when=context["ti"].try_number == 1):
            return super().execute(context)


class PokesWhileUpstreamRuns(MessageBatchSensor):
    """A sensor whose upstream task ``send`` runs again during the second poke."""

    def poke(self, context: Any) -> Any:
        self.pokes = getattr(self, "pokes", 0) + 1
        with running_again(context, "send", when=self.pokes == 2):
            return super().poke(context)


@task
def prompts_of(name: str) -> str:
    return f"What about {name}?"


@pytest.mark.parametrize(
    ("arguments", "tries"), [({}, 2), ({"trigger_rule": "all_done"}, 2), ({"trigger_rule": "one_success"}, 1)], ids=str
)
def test_operator_does_not_send_incomplete_outputs_of_a_mapped_task(
    arguments: dict[str, Any], tries: int, bench: Workbench, claude_default: str, simulator: Any
) -> None:
    with bench.dag("part") as dag:
        SendsTooSoon(
            task_id="send",
            messages=prompts_of.expand(name=["tides", "stars"]),
            retries=1,
            retry_delay=timedelta(0),
            **arguments,
        )
    run = bench.run(dag)

    assert run.states["send"] == "success"
    assert run.tries("send") == tries
    assert [str(error).splitlines()[0] for error in bench.errors["send"]] == [UNFINISHED.format("prompts_of")] * (
        tries - 1
    )
    assert simulator.books()["billed_requests"] == 2
    assert len(simulator.books()["batches"]) == 1


def test_operator_does_not_send_incomplete_outputs_of_a_mapped_task_group(
    bench: Workbench, claude_default: str, simulator: Any
) -> None:
    @task_group
    def group(name: str) -> Any:
        return prompts_of(name)

    with bench.dag("part_of_a_group") as dag:
        messages = group.expand(name=["tides", "stars"])
        SendsTooSoon(task_id="send", messages=messages, retries=1, retry_delay=timedelta(0))
    run = bench.run(dag)

    assert run.states["send"] == "success"
    assert [str(error).splitlines()[0] for error in bench.errors["send"]] == [UNFINISHED.format("group.prompts_of")]
    assert simulator.books()["billed_requests"] == 2


@pytest.mark.parametrize("simulator", [{"batch_seconds": 3600.0}], indirect=True, ids=["running"])
def test_poking_sensor_continues_while_upstream_runs_again(
    bench: Workbench, claude_default: str, simulator: Any, when: Any
) -> None:
    when(lambda: simulator.calls()["retrieve"] > 6, lambda: simulator.pace(0))
    with bench.dag("poking_on") as dag:
        sent = SendMessageBatchOperator.partial(task_id="send").expand(messages=[["a"], ["b", "c"]])
        PokesWhileUpstreamRuns.partial(task_id="wait", deferrable=False, poke_interval=0.05).expand(batch=sent.output)
    run = bench.run(dag)

    assert set(run.states.values()) == {"success"}
    assert [len(run.xcom("wait", index)["responses"]) for index in (0, 1)] == [1, 2]


class OutOfReach:
    """A task instance whose upstream tasks Airflow cannot be asked about."""

    task_id = "ask"

    @property
    def task(self) -> Any:
        raise ConnectionError("API server error")


def test_error_of_the_input_is_final_even_if_upstream_tasks_cannot_be_checked(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AirflowFailException, match="ask: messages is empty"), fail_on_input_error(OutOfReach()):  # type: ignore[arg-type]  # has what is used
        raise InputError("messages is empty.")

    assert "Could not check whether upstream tasks have finished (ConnectionError: API server error)." in caplog.text
