"""Cancel and clear on the page: what is asked, what is refused, and what came of it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from stored_xcoms import stored_xcoms
from web.submission_pages import Rights, browser, reader
from workbench import Run, Workbench

from airflow_claude_batch._airflow.snapshots import SNAPSHOT_KEY
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.simulator import Simulator

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.usefixtures("claude_default"),
    pytest.mark.parametrize("simulator", [{"batch_seconds": 3600.0}], indirect=True),
]

DAG_ID = "page_cancel"
ACTION = {"X-Claude-Batch-Action": "1", "Accept": "text/html"}


def editor(*dag_ids: str) -> Rights:
    return Rights(frozenset(dag_ids), frozenset(dag_ids), frozenset(dag_ids))


def run(bench: Workbench, dag_id: str = DAG_ID) -> Run:
    """Run a task that sends a batch, and does not wait for it."""
    with bench.dag(dag_id) as dag:
        SendMessageBatchOperator(
            task_id="send",
            messages=["a", "b"],
            max_tokens=10,
            wait_for_completion=False,
        )
    return bench.run(dag)


def names_of(run: Run) -> dict[str, str]:
    return {"dag_id": run.dag.dag_id, "run_id": run.run.run_id, "task_id": "send"}


def states(simulator: Simulator) -> list[str]:
    return [batch.processing_status for batch in simulator.batches]


def edit_snapshot(run: Run, **fields: Any) -> None:
    from airflow_claude_batch._airflow.servers import create_session

    with create_session() as session:
        query = stored_xcoms(session, dag_id=run.dag.dag_id, run_id=run.run.run_id, key=SNAPSHOT_KEY)
        xcom = query.one()
        value = json.loads(xcom.value) if isinstance(xcom.value, str) else xcom.value
        xcom.value = json.dumps(value | fields) if isinstance(xcom.value, str) else value | fields


def test_cancel_a_running_batch(bench: Workbench, simulator: Simulator) -> None:
    ran = run(bench)
    with browser(editor(DAG_ID)) as client:
        question = client.get("/cancel", params=names_of(ran)).text
        ids = re.findall(r'name="batch_id" value="(\w+)"', question)
        done = client.post("/cancel", params=names_of(ran), data={"batch_id": ids}, headers=ACTION)
        again = client.post("/cancel", params=names_of(ran), data={"batch_id": ids}, headers=ACTION)
        foreign = client.post("/cancel", params=names_of(ran), data={"batch_id": ["msgbatch_01"]}, headers=ACTION)
        none = client.post("/cancel", params=names_of(ran), headers=ACTION)
        huge = client.post("/cancel", params=names_of(ran), data={"batch_id": ["x" * 70_000]}, headers=ACTION)

    assert len(ids) == 1
    assert "of the 2 requests is not processed, and not billed" in question
    assert "will not land the answers by itself" in question, "the task has ended"
    assert (done.status_code, again.status_code) == (200, 200)
    assert "Canceled.</span>" in done.text
    assert (foreign.status_code, none.status_code, huge.status_code) == (409, 400, 413)
    assert "Nothing was canceled: no message batch of this task instance is msgbatch_01." in foreign.text


def test_who_may_not_edit_the_task_cancels_nothing(bench: Workbench, simulator: Simulator) -> None:
    ran = run(bench)
    with browser(reader(DAG_ID)) as client:
        asked = [client.get(path, params=names_of(ran)).status_code for path in ("/cancel", "/clear")]
        done = client.post("/cancel", params=names_of(ran), data={"batch_id": ["x"]}, headers=ACTION)
    assert [*asked, done.status_code] == [403, 403, 403]


def test_a_batch_that_another_dag_uses_too(bench: Workbench, simulator: Simulator) -> None:
    own, other = run(bench), run(bench, "page_cancel_other")
    with browser(editor("page_cancel_other")) as client:
        ids = re.findall(r'value="(msgbatch_\w+)"', client.get("/cancel", params=names_of(other)).text)
    edit_snapshot(own, parts=[{"state": "in_progress", "batch_id": ids[0]}])
    with browser(editor(DAG_ID)) as client:
        refused = client.post("/cancel", params=names_of(own), data={"batch_id": ids}, headers=ACTION)
    with browser(editor(DAG_ID, "page_cancel_other")) as client:
        done = client.post("/cancel", params=names_of(own), data={"batch_id": ids}, headers=ACTION)
    assert (refused.status_code, done.status_code) == (403, 200)
    assert "also used by a DAG that you may not edit" in refused.text


def test_a_batch_that_a_dag_uses_which_has_run_before_snapshots(bench: Workbench, simulator: Simulator) -> None:
    from airflow_claude_batch._airflow.servers import create_session

    own, other = run(bench), run(bench, "page_cancel_old")
    batch_id = other.xcom("send")["batch_ids"][0]
    with create_session() as session:
        stored_xcoms(session, dag_id=other.dag.dag_id, key=SNAPSHOT_KEY).delete(synchronize_session=False)
    edit_snapshot(own, parts=[{"state": "in_progress", "batch_id": batch_id}])
    with browser(editor(DAG_ID)) as client:
        refused = client.post("/cancel", params=names_of(own), data={"batch_id": [batch_id]}, headers=ACTION)
    assert refused.status_code == 403
    assert "also used by a DAG that you may not edit" in refused.text


def test_a_batch_that_cannot_be_canceled(
    bench: Workbench, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run(bench)
    monkeypatch.setenv(
        "AIRFLOW_CONN_CLAUDE_OTHER",
        json.dumps({"conn_type": "claude", "host": "http://127.0.0.1:9", "password": "k", "extra": {"max_retries": 0}}),
    )
    edit_snapshot(ran, conn_id="claude_other")
    with browser(editor(DAG_ID)) as client:
        ids = re.findall(r'value="(msgbatch_\w+)"', client.get("/cancel", params=names_of(ran)).text)
        done = client.post("/cancel", params=names_of(ran), data={"batch_id": ids}, headers=ACTION)
        edit_snapshot(ran, conn_id="claude_missing")
        without = client.post("/cancel", params=names_of(ran), data={"batch_id": ids}, headers=ACTION)
    assert "Not canceled.</span> It may still run" in done.text
    assert without.status_code == 409
    assert "Nothing was canceled." in without.text
    assert "claude_missing" in without.text


def test_a_snapshot_that_names_odd_batches(bench: Workbench, simulator: Simulator) -> None:
    ran = run(bench)
    odd = ["../../models", "x" * 100_000, "msgbatch_\ud800"]
    times = {"created_at": "0001-01-01T00:00:00+14:00", "expires_at": "9999-12-31T23:59:59-14:00"}
    parts = [{"state": "in_progress", "batch_id": id_} for id_ in [*odd, *(f"msgbatch_{n}" for n in range(1_000))]]
    edit_snapshot(ran, parts=[{"state": "in_progress", "batch_id": "msgbatch_good", **times}, *parts])
    with browser(editor(DAG_ID)) as client:
        question = client.get("/cancel", params=names_of(ran))
        done = client.post("/cancel", params=names_of(ran), data={"batch_id": odd[:1]}, headers=ACTION)
    assert question.status_code == 200
    assert "msgbatch_good" in question.text
    assert "models" not in question.text
    assert len(question.text) < 100_000
    assert done.status_code == 409


def test_clear_asks_and_names_airflows_own_call(bench: Workbench, simulator: Simulator) -> None:
    ran = run(bench)
    with browser(editor(DAG_ID)) as client:
        page = client.get("/clear", params=names_of(ran)).text
    assert 'data-airflow-api="../api/v2/dags/page_cancel/clearTaskInstances"' in page
    body = re.search(r'data-body="([^"]+)"', page)
    assert body is not None
    assert json.loads(body[1].replace("&#34;", '"')) == {
        "dry_run": False,
        "dag_run_id": ran.run.run_id,
        "task_ids": ["send"],
        "only_failed": False,
        "include_downstream": True,
        "reset_dag_runs": True,
    }
    assert "They are not sent again" in page
