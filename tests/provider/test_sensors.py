"""The sensor on Airflow: its input, its modes, its failures and their messages."""

from __future__ import annotations

import json
import logging
import re
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import task
from airflow_fixtures import KEY
from workbench import Workbench

from airflow_claude_batch._airflow.compat import TaskDeferred
from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.hooks import ClaudeHook
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor
from airflow_claude_batch.simulator import Fault

pytestmark = pytest.mark.airflow

HOUR = 3600.0
RUNNING = pytest.mark.parametrize("simulator", [{"batch_seconds": HOUR}], indirect=True, ids=["running"])
MODES: dict[str, dict[str, Any]] = {
    "poke": {"deferrable": False, "mode": "poke", "poke_interval": 0.05},
    "reschedule": {"deferrable": False, "mode": "reschedule", "poke_interval": 0.05},
    "deferred": {"deferrable": True, "poll_interval": 0.1},
}
EACH_MODE = pytest.mark.parametrize("mode", MODES)


def wait(task_id: str = "wait", *, mode: str = "poke", **arguments: Any) -> MessageBatchSensor:
    return MessageBatchSensor(task_id=task_id, **{**MODES[mode], **arguments})


def send(task_id: str = "send", **arguments: Any) -> SendMessageBatchOperator:
    return SendMessageBatchOperator(task_id=task_id, **{"messages": ["a", {"key": "k", "prompt": "b"}], **arguments})


@pytest.fixture
def create(simulator_url: str) -> Any:
    """Create batches that are not the operator's, by their custom_ids."""

    def make(*custom_ids: str) -> str:
        message = {"role": "user", "content": "a"}
        params = {"model": "claude-haiku-5-5", "max_tokens": 50, "messages": [message]}
        items = [{"custom_id": custom_id, "params": params} for custom_id in custom_ids]
        with ClaudeClient(ClientConfig(credentials=ApiKey(KEY), base_url=simulator_url)) as client:
            return client.create_batch(json.dumps({"requests": items}).encode()).id

    return make


# ---------------------------------------------------------------- what it waits for


@EACH_MODE
def test_operator_output_is_landed_beside_its_requests_in_input_order(
    mode: str, bench: Workbench, claude_default: str, simulator: Any, when: Any
) -> None:
    simulator.pace(HOUR)
    when(lambda: simulator.calls()["retrieve"] > 1, lambda: simulator.pace(0))
    with bench.dag(f"own_{mode}") as dag:
        wait(batch=send().output, mode=mode)
    run = bench.run(dag)
    sent, landed = run.xcom("send"), run.xcom("wait")

    assert set(run.states.values()) == {"success"}
    assert (sent["status"], landed["status"]) == ("in_progress", "ended")
    assert set(landed) == set(sent)
    assert landed["submission_id"] == sent["submission_id"]
    assert landed["results_path"] == sent["results_path"]
    assert landed["estimate"] == sent["estimate"]
    assert [row["key"] for row in landed["responses"]] == [0, "k"]
    assert not run.folder("wait").exists()
    assert simulator.calls()["retrieve"] >= 2
    assert simulator.books()["billed_requests"] == 2


@EACH_MODE
def test_batches_made_elsewhere_are_landed_in_the_sensor_folder(
    mode: str, bench: Workbench, claude_default: str, create: Any
) -> None:
    first, second = create("x", "y"), create("x")
    with bench.dag(f"foreign_{mode}") as dag:

        @task
        def found() -> list[str]:
            return [first, second, first]

        wait("one", batch=first, mode=mode)
        wait("several", batch=[first, second], mode=mode)
        wait("upstream", batch=found(), mode=mode)
        wait("template", batch="{{ ti.xcom_pull(task_ids='found')[1] }}", mode=mode)
        dag.task_dict["found"] >> dag.task_dict["template"]
    run = bench.run(dag)

    assert set(run.states.values()) == {"success"}
    assert sorted(row["key"] for row in run.xcom("one")["responses"]) == ["x", "y"]
    assert [row["key"] for row in run.xcom("template")["responses"]] == ["x"]
    for task_id in ("several", "upstream"):
        manifest = run.xcom(task_id)
        assert manifest["batch_ids"] == [first, second]
        assert manifest["results_path"] == str(run.folder(task_id) / "results.jsonl")
        assert sorted((row.batch_id, row.key) for row in read_rows(manifest)) == sorted(
            [(first, "x"), (first, "y"), (second, "x")]
        )


@pytest.mark.parametrize("native", [False, True], ids=["text DAG", "native DAG"])
def test_template_gives_the_object_that_it_names_in_any_dag(
    native: bool, bench: Workbench, claude_default: str
) -> None:
    with bench.dag(f"templates_{native}", render_template_as_native_obj=native) as dag:

        @task
        def injected() -> list[dict[str, str]]:
            return [{"batch": "{{ ti.xcom_pull(task_ids='send')['batch_ids'][0] }}"}]

        sent = send()
        sent >> wait("manifest", batch="{{ ti.xcom_pull(task_ids='send') }}")
        sent >> wait("ids", batch="{{ ti.xcom_pull(task_ids='send')['batch_ids'] }}")
        sent >> wait("id", batch="{{ ti.xcom_pull(task_ids='send').batch_ids[0] }}")
        data = MessageBatchSensor.partial(task_id="data", **MODES["poke"]).expand_kwargs(injected())
        sent >> data
    run = bench.run(dag)

    assert {name: state for name, state in run.states.items() if name != "data[0]"} == dict.fromkeys(
        ("injected", "send", "manifest", "ids", "id"), "success"
    )
    assert [row.key for row in read_rows(run.xcom("manifest"))] == [0, "k"]
    assert run.xcom("ids")["batch_ids"] == run.xcom("id")["batch_ids"] == run.xcom("send")["batch_ids"]
    assert re.search(r"\{\{ ti\.xcom_pull.* is not the id of a message batch", run.error("data"))


def test_outputs_of_a_mapped_operator_are_waited_for_one_by_one(bench: Workbench, claude_default: str) -> None:
    with bench.dag("mapped_wait") as dag:
        sent = SendMessageBatchOperator.partial(task_id="send").expand(messages=[["a"], ["b", "c"]])
        MessageBatchSensor.partial(task_id="wait", deferrable=False).expand(batch=sent.output)
    run = bench.run(dag)

    assert set(run.states.values()) == {"success"}
    assert [len(run.xcom("wait", index)["responses"]) for index in (0, 1)] == [1, 2]


def test_manifest_of_an_ended_submission_is_returned(bench: Workbench, claude_default: str, simulator: Any) -> None:
    with bench.dag("ended") as dag:
        wait(batch=send(wait_for_completion=True).output)
    run = bench.run(dag)

    assert run.xcom("wait") == run.xcom("send")
    assert simulator.calls()["results"] == 1


# ---------------------------------------------------------------- what it refuses


def test_invalid_batch_is_refused_at_once(bench: Workbench, claude_default: str, simulator: Any) -> None:
    says = {
        "slash": r"'msgbatch_1/\.\./x' is not the id of a message batch",
        "dots": r"'\.\.' is not the id of a message batch",
        "upstream": r"'\.\./\.\./secrets' is not the id of a message batch",
        "number": r"batch is of type int\.\nNothing was landed\.\nGive the operator's output, a batch id, or a list",
        "empty": r"batch is an empty list\.\nNothing was landed\.\nGive the operator's output",
        "numbers": r"batch is a list with an element of type int\.\nNothing was landed\.\nGive",
        "nothing": r"batch is None: the upstream task or template that gives it returned nothing\.\nNothing was",
        "mapped": r"batch is a list with an element of type dict(?s:.*)partial\(task_id=…\)\.expand\(batch=",
        "mapping": r"batch is a mapping, but not the operator's output\. This is not a manifest: (?s:.*)Give",
        "manifest_id": r"'\.\./b' is not the id",
        "elsewhere": "requests.jsonl does not exist. It holds the requests of the batches",
    }
    manifest = {
        "submission_id": "s",
        "status": "in_progress",
        "batch_ids": ["../b"],
        "request_count": 1,
        "counts": {},
        "results_path": "/nowhere/results.jsonl",
    }
    with bench.dag("refused_batches") as dag:

        @task
        def evil() -> str:
            return "../../secrets"

        @task
        def gives_nothing() -> None:
            pass

        @task
        def several(name: str) -> dict[str, Any]:
            return {**manifest, "submission_id": name}

        again: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(0)}
        wait("slash", batch="msgbatch_1/../x", **again)
        wait("dots", batch=["msgbatch_1", ".."], mode="deferred", **again)
        wait("upstream", batch=evil(), **again)
        wait("number", batch=7, **again)
        wait("empty", batch="{{ [] }}", **again)
        wait("numbers", batch=[7], **again)
        wait("nothing", batch=gives_nothing(), **again)
        wait("mapped", batch=several.expand(name=["a", "b"]), **again)
        wait("mapping", batch={"id": "msgbatch_1"}, **again)
        wait("manifest_id", batch=manifest, **again)
        wait("elsewhere", batch={**manifest, "batch_ids": ["msgbatch_1"]}, mode="deferred", **again)
    dag.task_dict["empty"].batch = []
    run = bench.run(dag)

    for task_id, words in says.items():
        assert run.states[task_id] == "failed"
        assert re.search(words, run.error(task_id)), run.error(task_id)
        assert run.tries(task_id) == 1
    assert sum(simulator.calls().values()) == 0


# ---------------------------------------------------------------- failure policy


def expiring(custom_id: str, params: dict[str, Any], attempt: int) -> str | None:
    return "expired" if params["messages"][0]["content"] == "a" else None


@EACH_MODE
@pytest.mark.parametrize("simulator", [{"outcome": expiring}], indirect=True, ids=["expiring"])
def test_rows_without_an_answer_fail_skip_or_pass_by_the_arguments(
    mode: str, bench: Workbench, claude_default: str, simulator: Any
) -> None:
    simulator.pace(1.0)
    with bench.dag(f"judged_{mode}") as dag:
        sent = send().output
        wait("strict", batch=sent, mode=mode, retries=2, retry_delay=timedelta(0))
        wait("lenient", batch=sent, mode=mode, allow_failed=1)
        wait("share", batch=sent, mode=mode, allow_failed=0.5)
        soft = wait("soft", batch=sent, mode=mode, soft_fail=True)
        never = wait("never", batch=sent, mode=mode, never_fail=True)

        @task
        def after_soft() -> None: ...

        @task(trigger_rule="none_failed")
        def after_any() -> None: ...

        soft >> after_soft()
        [soft, never] >> after_any()
    run = bench.run(dag)

    assert run.states == {
        "send": "success",
        "strict": "failed",
        "lenient": "success",
        "share": "success",
        "soft": "skipped",
        "never": "skipped",
        "after_soft": "skipped",
        "after_any": "success",
    }
    assert run.tries("strict") == 1
    assert "1 of 2 requests ended without an answer (allow_failed permits 0).\n1 succeeded, 1 expired." in run.error(
        "strict"
    )
    assert run.xcom("lenient")["counts"]["expired"] == 1


@pytest.mark.parametrize("simulator", [{"outcome": expiring}], indirect=True, ids=["expiring"])
def test_clearing_a_sensor_of_foreign_batches_keeps_their_rows(
    bench: Workbench, claude_default: str, create: Any
) -> None:
    batch = create("x", "y")

    def dag(**arguments: Any) -> Any:
        with bench.dag("cleared_sensor") as dag:
            wait(batch=batch, **arguments)
        return dag

    run = bench.run(dag())
    assert run.states == {"wait": "failed"}
    run = run.again(dag(), "wait")
    assert run.states == {"wait": "failed"}
    run = run.again(dag(allow_failed=1.0), "wait")

    assert run.states == {"wait": "success"}
    assert sorted(row["key"] for row in run.xcom("wait")["responses"]) == ["x", "y"]


def test_what_the_sensor_lands_is_not_sent_again_when_the_operator_is_cleared(
    bench: Workbench, claude_default: str, simulator: Any
) -> None:
    def dag(*messages: str) -> Any:
        with bench.dag("cleared_pair") as dag:
            wait(batch=send(messages=list(messages)).output)
        return dag

    run = bench.run(dag("a", "b"))
    run = run.again(dag("b", "c"), "send", "wait")

    assert set(run.states.values()) == {"success"}
    assert [batch["request_count"] for batch in simulator.books()["batches"]] == [2, 1]
    assert simulator.books()["billed_requests"] == 3
    assert run.xcom("wait")["counts"]["succeeded"] == 2


# ---------------------------------------------------------------- timeouts


@EACH_MODE
@RUNNING
def test_timeout_lands_what_was_answered_and_leaves_the_rest_running(
    mode: str, bench: Workbench, claude_default: str, simulator: Any, create: Any
) -> None:
    done, open_ = create("x"), create("y")
    simulator.end(done)
    again: dict[str, Any] = {"timeout": 1.2, "retries": 2, "retry_delay": timedelta(0)}
    with bench.dag(f"timed_out_{mode}") as dag:
        wait("hard", batch=[done, open_], mode=mode, **again)
        wait("soft", batch=[done, open_], mode=mode, soft_fail=True, **again)
    run = bench.run(dag)

    assert run.states == {"hard": "failed", "soft": "skipped"}
    assert run.tries("hard") == 1
    assert f"1 message batch is still running and billed for what is answered: {open_}." in run.error("hard")
    for task_id in ("hard", "soft"):
        assert [row.key for row in read_rows(str(run.folder(task_id) / "results.jsonl"))] == ["x"]
    assert simulator.calls()["cancel"] == 0

    simulator.pace(0)
    run = run.again(dag, "hard")
    assert sorted(row["key"] for row in run.xcom("hard")["responses"]) == ["x", "y"]


@EACH_MODE
def test_unknown_batch_is_named_at_the_timeout_and_not_called_running(
    mode: str, bench: Workbench, claude_default: str
) -> None:
    with bench.dag(f"unknown_{mode}") as dag:
        wait(batch="msgbatch_unknown", mode=mode, timeout=1.2)
    run = bench.run(dag)

    assert run.states == {"wait": "failed"}
    assert re.search(
        r"(?s)does not have 1 message batch, or.*msgbatch_unknown \(.*404.*Check the ids", run.error("wait")
    )


@RUNNING
def test_execution_timeout_bounds_a_deferred_wait_and_leaves_retries(
    bench: Workbench, claude_default: str, simulator: Any, create: Any
) -> None:
    done, open_ = create("x"), create("y")
    simulator.end(done)
    with bench.dag("bounded_wait") as dag:
        # Airflow bounds each resumption by it, too, and one takes more than a second on a busy machine.
        bound = {"execution_timeout": timedelta(seconds=3), "retries": 1, "retry_delay": timedelta(0)}
        wait(batch=[done, open_], mode="deferred", **bound)
    run = bench.run(dag)

    assert run.states == {"wait": "failed"}
    assert run.tries("wait") == 2
    assert f"1 message batch is still running and billed for what is answered: {open_}." in run.error("wait")
    assert [row.key for row in read_rows(str(run.folder("wait") / "results.jsonl"))] == ["x"]
    assert simulator.calls()["cancel"] == 0


class PastAirflowsOwnTimeout(MessageBatchSensor):
    """A task whose triggerer was down until Airflow's own deferral timeout fired."""

    def execute(self, context: Any) -> Any:
        try:
            return super().execute(context)
        except TaskDeferred:
            pass
        return self.resume_execution("__fail__", {"error": "Trigger timeout"}, context)


class BrokenTrigger(MessageBatchSensor):
    """A sensor whose trigger failed."""

    def execute(self, context: Any) -> Any:
        try:
            return super().execute(context)
        except TaskDeferred:
            pass
        return self.resume_execution("__fail__", {"error": "Trigger failure"}, context)


@RUNNING
def test_airflow_deferral_timeout_lands_what_was_answered(
    bench: Workbench, claude_default: str, simulator: Any, create: Any
) -> None:
    done, open_ = create("x"), create("y")
    simulator.end(done)
    with bench.dag("deferral_timeout") as dag:
        PastAirflowsOwnTimeout(task_id="hard", batch=[done, open_], deferrable=True)
        PastAirflowsOwnTimeout(task_id="soft", batch=[done, open_], deferrable=True, soft_fail=True)
        BrokenTrigger(task_id="broken", batch=[done, open_], deferrable=True)
        BrokenTrigger(task_id="broken_softly", batch=[done, open_], deferrable=True, soft_fail=True)
    run = bench.run(dag)

    assert run.states == {"hard": "failed", "soft": "skipped", "broken": "failed", "broken_softly": "skipped"}
    assert f"1 message batch is still running and billed for what is answered: {open_}." in run.error("hard")
    for task_id in ("hard", "soft"):
        assert [row.key for row in read_rows(str(run.folder(task_id) / "results.jsonl"))] == ["x"]


@RUNNING
@pytest.mark.parametrize("cancel", [True, False], ids=["canceling", "sparing"])
def test_killed_sensor_cancels_the_batches_only_with_cancel_on_kill(
    cancel: bool, bench: Workbench, claude_default: str, simulator: Any, create: Any, terminate: Any
) -> None:
    with bench.dag(f"killed_{cancel}") as dag:
        wait(batch=create("x"), cancel_on_kill=cancel, timeout=2, allow_failed=1)
    terminate(lambda: simulator.calls()["retrieve"])
    run = bench.run(dag)

    rows = read_rows(str(run.folder("wait") / "results.jsonl"))
    assert [row.status for row in rows] == ["canceled"] * cancel
    assert simulator.calls()["cancel"] == int(cancel)


# ---------------------------------------------------------------- faults


@EACH_MODE
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(do="not_found_blip", on="retrieve"), id="404 once"),
        pytest.param(Fault(do="html", on="retrieve"), id="a proxy's page once"),
        pytest.param(Fault(do="cut", on="results", at="line_end"), id="results cut"),
    ],
)
def test_transient_faults_are_overcome(
    fault: Fault, mode: str, bench: Workbench, claude_default: str, simulator: Any, create: Any
) -> None:
    batch = create("x", "y", "z")
    simulator.inject(fault)
    with bench.dag(f"trouble_{mode}") as dag:
        wait(batch=batch, mode=mode)
    run = bench.run(dag)

    assert run.states == {"wait": "success"}
    assert len(run.xcom("wait")["responses"]) == 3


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_poking_sensor_pokes_on_through_an_outage(
    mode: str, bench: Workbench, simulator_url: str, simulator: Any, create: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"conn_type": "claude", "password": KEY, "host": simulator_url, "extra": {"max_retries": 0}}
    monkeypatch.setenv("AIRFLOW_CONN_CLAUDE_DEFAULT", json.dumps(fields))
    batch = create("x")
    simulator.inject(Fault(do="status", on="retrieve", status=503, times=3))
    with bench.dag(f"outage_{mode}") as dag:
        wait(batch=batch, mode=mode)
    run = bench.run(dag)

    assert run.states == {"wait": "success"}
    assert simulator.calls()["retrieve"] == 4


def test_refused_credential_fails_the_sensor_with_what_to_do(
    bench: Workbench, simulator_url: str, create: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"conn_type": "claude", "password": "sk-ant-wrong", "host": simulator_url}
    monkeypatch.setenv("AIRFLOW_CONN_WRONG_KEY", json.dumps(fields))
    with bench.dag("refused_sensor") as dag:
        wait(batch=create("x"), claude_conn_id="wrong_key")
        wait("deferred", batch=create("x"), claude_conn_id="wrong_key", mode="deferred")
    run = bench.run(dag)

    for task_id in ("wait", "deferred"):
        assert re.search("(?s)401 .*Check the API key", run.error(task_id))


# ---------------------------------------------------------------- afterwards


def test_sensor_deletes_batches_with_delete_batches(bench: Workbench, claude_default: str, simulator: Any) -> None:
    with bench.dag("deleting") as dag:
        wait(batch=send().output, delete_batches=True)
    run = bench.run(dag)

    assert run.xcom("wait")["counts"]["succeeded"] == 2
    assert simulator.books()["batches"][0]["deleted"]


@pytest.mark.parametrize("mode", ["poke", "deferred"])
def test_truncated_requests_file_is_refused(mode: str, bench: Workbench, claude_default: str) -> None:
    """Its answers would be matched to nothing, and no row would show that they are missing."""

    @task(multiple_outputs=False)
    def cut(manifest: dict[str, Any]) -> Any:
        path = Path(manifest["results_path"]).with_name("requests.jsonl")
        path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
        return manifest

    with bench.dag(f"cut_requests_{mode}") as dag:
        wait(batch=cut(send().output), mode=mode)
    run = bench.run(dag)

    assert run.states == {"send": "success", "cut": "success", "wait": "failed"}
    assert "has 1 request, but the operator sent 2" in run.error("wait")
    assert not (run.folder("send") / "results.jsonl").exists()


@RUNNING
@pytest.mark.usefixtures("claude_default")
def test_kill_at_the_beginning_of_a_poke_waits_for_the_calls_to_the_supervisor(
    bench: Workbench, simulator: Any, create: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The signal handler asks the supervisor, who may be answering the interrupted thread."""
    caplog.set_level(logging.INFO)
    get_conn, pokes, said_at_once = ClaudeHook.get_conn, count(1), []
    with bench.dag("killed") as dag:
        sensor = wait(batch=create("a"), cancel_on_kill=True)

    def killed_in_the_second_poke(hook: ClaudeHook) -> ClaudeClient:
        if next(pokes) == 2:
            running.on_kill()
            said_at_once.append("No user ended this task" in caplog.text)
            simulator.pace(0)
        return get_conn(hook)

    def remember(self: MessageBatchSensor, *args: Any) -> Any:
        nonlocal running
        running = self
        return poke(self, *args)

    running, poke = sensor, MessageBatchSensor.poke
    monkeypatch.setattr(MessageBatchSensor, "poke", remember)
    monkeypatch.setattr(ClaudeHook, "get_conn", killed_in_the_second_poke)

    assert bench.run(dag).states == {"wait": "success"}
    assert said_at_once == [False]
    assert "No user ended this task" in caplog.text or "Cannot tell whether a user ended" in caplog.text
