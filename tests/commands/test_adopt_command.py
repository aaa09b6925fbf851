"""``adopt`` and ``list --orphans`` on a real Airflow: what a clear bills after them, by the simulator's books."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG
from command_world import call
from stored_xcoms import stored_xcoms
from workbench import Run, Workbench

from airflow_claude_batch._airflow.compat import TASK_STATE_SURVIVES_CLEAR
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor
from airflow_claude_batch.simulator import Simulator

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("claude_default")]

#: The fields of ``-o json``. None is removed or renamed.
ORPHAN = {
    "batch_id", "state", "created_at", "ended_at", "expires_at", "age_seconds", "requests", "succeeded", "usd",
    "usd_is_exact", "sender", "owner", "is_young", "problem",
}  # fmt: skip
ADOPTION = {
    "batch_id", "dag_id", "run_id", "task_id", "map_index", "adopted", "standing", "has_ledger", "requests", "answered",
    "answers", "matched", "usd", "matched_usd",
}  # fmt: skip

MESSAGES = ["question 1", "question 2", "question 3"]


def dag_of(bench: Workbench, dag_id: str, messages: Any = MESSAGES, **options: Any) -> DAG:
    with bench.dag(dag_id, schedule=None) as dag:
        SendMessageBatchOperator(
            task_id="send",
            messages=messages,
            model="claude-haiku-5-5",
            max_tokens=10,
            **{"wait_for_completion": True, "deferrable": False, "poll_interval": 0.05, **options},
        )
    return dag


def send_and_forget(bench: Workbench, simulator: Simulator, dag: DAG) -> tuple[Run, list[str]]:
    """Run a DAG that sends, end its batches, and lose everything that Airflow knows of them."""
    simulator.pace(3600.0)
    known = {batch["id"] for batch in simulator.books()["batches"]}
    run = bench.run(dag)
    batch_ids = [batch["id"] for batch in simulator.books()["batches"] if batch["id"] not in known]
    for batch_id in batch_ids:
        simulator.end(batch_id)
    simulator.pace(0.05)
    forget(run)
    return run, batch_ids


def forget(run: Run) -> None:
    """Lose the ledgers, the manifests and the XComs of a DAG. The requests are left."""
    from sqlalchemy import delete

    from airflow_claude_batch._airflow.servers import TaskStateStoreModel, create_session

    with create_session() as session:
        stored_xcoms(session, dag_id=run.dag.dag_id).delete(synchronize_session=False)
        if TaskStateStoreModel is not None:
            session.execute(delete(TaskStateStoreModel).where(TaskStateStoreModel.dag_id == run.dag.dag_id))
    for pattern in ("ledger-*", "manifest.json"):
        for path in (run.bench.results / run.dag.dag_id).rglob(pattern):
            path.unlink()


def into(run: Run, task_id: str = "send") -> tuple[str, str, str, str]:
    return ("--into", run.dag.dag_id, run.run.run_id, task_id)


#: The task sends, and waits for nothing.
LEAVES: dict[str, Any] = {"wait_for_completion": False}


def test_lost_batch_is_listed_adopted_and_landed_by_a_clear_that_bills_nothing(
    bench: Workbench, simulator: Simulator
) -> None:
    run, (batch_id,) = send_and_forget(bench, simulator, dag_of(bench, "adopt_lost", **LEAVES))

    (orphan,) = call("list", "--orphans", "-o", "json").json
    assert orphan["batch_id"] == batch_id
    assert (orphan["state"], orphan["sender"], orphan["requests"], orphan["succeeded"]) == ("ended", "ours", 3, 3)
    assert float(orphan["usd"]) > 0

    shown = call("adopt", batch_id, *into(run))
    assert shown.status == 0
    assert f"3 of 3 requests of adopt_lost {run.run.run_id} send get an answer" in shown.out
    assert "add --yes" in shown.err
    assert call("adopt", batch_id, *into(run), "-o", "json").json["adopted"] is False

    done = call("adopt", batch_id, *into(run), "--yes", "-o", "json")
    assert set(done.json) == ADOPTION
    assert done.json["adopted"] is True
    assert done.json["matched_usd"] == orphan["usd"]
    again = call("adopt", batch_id, *into(run), "--yes")
    assert "nothing to do" in again.out

    run = run.again(dag_of(bench, "adopt_lost"), "send")
    assert run.states == {"send": "success"}
    assert run.xcom("send")["batch_ids"] == [batch_id]
    assert run.xcom("send")["counts"]["succeeded"] == 3
    assert simulator.books()["billed_requests"] == 3
    assert call("list", "--orphans", "-o", "json").json == []
    landed = call("adopt", batch_id, *into(run), "--yes")
    assert "are in the results" in landed.out


def test_ledger_is_written_where_tasks_look_for_it(bench: Workbench, simulator: Simulator) -> None:
    run, (batch_id,) = send_and_forget(bench, simulator, dag_of(bench, "adopt_store", **LEAVES))

    call("adopt", batch_id, *into(run), "--yes")

    assert bool(list(run.folder("send").glob("ledger-*"))) is not TASK_STATE_SURVIVES_CLEAR


def test_mapped_task_gets_the_batch_of_its_own_map_index(bench: Workbench, simulator: Simulator) -> None:
    def dag(**options: Any) -> DAG:
        with bench.dag("adopt_mapped", schedule=None) as dag:
            SendMessageBatchOperator.partial(
                task_id="send",
                model="claude-haiku-5-5",
                max_tokens=10,
                **{"wait_for_completion": True, "deferrable": False, "poll_interval": 0.05, **options},
            ).expand(messages=[["left"], ["right"]])
        return dag

    run, batch_ids = send_and_forget(bench, simulator, dag(**LEAVES))
    prompts = {request["batch_id"]: request["prompt"] for request in simulator.requests()}
    right = next(batch_id for batch_id in batch_ids if prompts[batch_id] == "right")

    wrong = call("adopt", right, *into(run), "--map-index", "0", "--yes")
    assert wrong.status == 1
    assert "answers no request of this task" in wrong.err
    assert call("adopt", right, *into(run), "--yes").status == 1
    assert call("adopt", right, *into(run), "--map-index", "1", "--yes").status == 0

    run = run.again(dag(), "send")
    assert run.states == {"send[0]": "success", "send[1]": "success"}
    assert run.xcom("send", 1)["batch_ids"] == [right]
    assert simulator.books()["billed_requests"] == 3  # left twice: its own batch was not adopted


def test_task_that_sends_for_a_sensor(bench: Workbench, simulator: Simulator) -> None:
    def dag() -> DAG:
        with bench.dag("adopt_two_tasks", schedule=None) as dag:
            send = SendMessageBatchOperator(
                task_id="send", messages=MESSAGES, model="claude-haiku-5-5", max_tokens=10, wait_for_completion=False
            )
            MessageBatchSensor(
                task_id="wait", batch=send.output, deferrable=False, poke_interval=0.05, timeout=0.5, mode="poke"
            )
        return dag

    run, (batch_id,) = send_and_forget(bench, simulator, dag())
    wrong = call("adopt", batch_id, *into(run, "wait"), "--yes")
    assert wrong.status == 1
    assert call("adopt", batch_id, *into(run), "--yes").status == 0

    run = run.again(dag(), "send", "wait")
    assert run.states == {"send": "success", "wait": "success"}
    assert run.xcom("wait")["counts"]["succeeded"] == 3
    assert simulator.books()["billed_requests"] == 3


def test_batch_of_another_task_is_refused_by_its_name(bench: Workbench, simulator: Simulator) -> None:
    simulator.pace(0.05)
    other = bench.run(dag_of(bench, "adopt_owner"))
    (batch_id,) = other.xcom("send")["batch_ids"]
    run, _ = send_and_forget(bench, simulator, dag_of(bench, "adopt_taker", **LEAVES))

    refused = call("adopt", batch_id, *into(run), "--yes")

    assert refused.status == 1
    assert f"{batch_id} belongs to adopt_owner {other.run.run_id} send" in refused.err


def test_active_task_is_left_alone(bench: Workbench, simulator: Simulator) -> None:
    from sqlalchemy import update

    from airflow_claude_batch._airflow.servers import TaskInstance, create_session

    run, (batch_id,) = send_and_forget(bench, simulator, dag_of(bench, "adopt_active", **LEAVES))
    for state in ("running", "deferred"):
        with create_session() as session:
            session.execute(update(TaskInstance).where(TaskInstance.dag_id == "adopt_active").values(state=state))
        refused = call("adopt", batch_id, *into(run), "--yes")
        assert refused.status == 1
        assert f"is {state}" in refused.err


def test_task_that_starts_while_the_results_are_read_is_left_alone(bench: Workbench, simulator: Simulator) -> None:
    from sqlalchemy import update

    from airflow_claude_batch._airflow.adoption import adopt_into, find_target
    from airflow_claude_batch._airflow.servers import TaskInstance, create_session
    from airflow_claude_batch._airflow.task_ledgers import ledger_store
    from airflow_claude_batch._airflow.task_rows import TaskKey
    from airflow_claude_batch.batch.adopt.adopt import AdoptionPlan
    from airflow_claude_batch.batch.adopt.change_ledger import Standing
    from airflow_claude_batch.batch.ledger.record import load_ledger
    from airflow_claude_batch.exceptions import AdoptionError

    run, (batch_id,) = send_and_forget(bench, simulator, dag_of(bench, "adopt_race", **LEAVES))
    key = TaskKey("adopt_race", run.run.run_id, "send")
    with create_session() as session:
        target = find_target(session, batch_id, key)
        session.execute(update(TaskInstance).where(TaskInstance.dag_id == "adopt_race").values(state="running"))

    with pytest.raises(AdoptionError, match="is running"):
        adopt_into(target, AdoptionPlan(batch_id=batch_id, standing=Standing.UNKNOWN, has_ledger=False))
    with create_session() as session:
        assert load_ledger(ledger_store(session, key, target.folder)) is None


def test_results_path_that_this_machine_does_not_reach_is_told(bench: Workbench, simulator: Simulator) -> None:
    _, (batch_id,) = send_and_forget(bench, simulator, dag_of(bench, "adopt_far", **LEAVES))

    listed = call("list", "--orphans", "--days", "999999999", "--results-path", "/on/workers/only", "-o", "json")

    assert all(set(orphan) == ORPHAN for orphan in listed.json)
    assert batch_id in [orphan["batch_id"] for orphan in listed.json]
    assert "may be shown as unknown: /on/workers/only (nothing is there" in listed.err


def test_text_that_is_no_batch_is_refused(bench: Workbench) -> None:
    refused = call("adopt", "[/]", "--into", "no_dag", "no_run", "no_task")

    assert refused.status == 1
    assert refused.err.startswith("'[/]' is not the id of a message batch.")


def test_unknown_task_instance_is_refused(bench: Workbench) -> None:
    refused = call("adopt", "msgbatch_01", "--into", "no_dag", "no_run", "no_task")

    assert refused.status == 1
    assert "There is no task instance no_dag no_run no_task." in refused.err
