"""The operator when the API or the network refuses, loses or garbles calls."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from airflow_fixtures import KEY
from workbench import Workbench

from airflow_claude_batch.api import evidence
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.simulator import Fault

pytestmark = pytest.mark.airflow


def ask(task_id: str = "ask", **arguments: Any) -> SendMessageBatchOperator:
    return SendMessageBatchOperator(task_id=task_id, messages=["a", "b", "c"], wait_for_completion=True, **arguments)


def connection(monkeypatch: pytest.MonkeyPatch, name: str, **fields: Any) -> str:
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({"conn_type": "claude", **fields}))
    return name


# ---------------------------------------------------------------- nothing is sent


def test_unusable_connection_is_named_and_nothing_is_sent(
    bench: Workbench, simulator_url: str, simulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = connection(monkeypatch, "wrong_key", password="sk-ant-wrong", host=simulator_url)
    with bench.dag("connections") as dag:
        ask("missing", claude_conn_id="nowhere")
        ask("wrong_key", claude_conn_id=wrong)
        ask("no_key", claude_conn_id=connection(monkeypatch, "no_key", host=simulator_url))
        ask(
            "no_host",
            claude_conn_id=connection(
                monkeypatch, "no_host", password=KEY, host="http://127.0.0.1:9", extra={"max_retries": 0}
            ),
        )
        ask("plain", claude_conn_id=connection(monkeypatch, "plain", password=KEY, host="http://example.org"))
    run = bench.run(dag)

    assert set(run.states.values()) == {"failed"}
    says = {
        "missing": "(?s)There is no connection 'nowhere'.*airflow connections add nowhere",
        "wrong_key": "(?s)401 authentication_error.*Check the API key, which is the connection's password",
        "no_key": "(?s)Connection 'no_key'.*Put the key into password",
        "no_host": r"127.0.0.1:9 \(ConnectError",
        "plain": "Connection 'plain': host: the base URL must begin with https",
    }
    for task_id, words in says.items():
        assert re.search(words, run.error(task_id))
    assert simulator.books()["batches"] == []
    assert "sk-ant" not in "".join(run.error(task_id) for task_id in run.states)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        pytest.param(
            Fault(do="status", on="create", status=401), "401.*Nothing was created.*Check the API key", id="401"
        ),
        pytest.param(
            Fault(do="status", on="create", status=403, message="not for you"),
            "403.*not for you.*permissions",
            id="403",
        ),
        pytest.param(Fault(do="status", on="create", status=413), "413.*Send fewer requests at once", id="413"),
        pytest.param(Fault(do="status", on="create", status=400, message="bad batch"), "bad batch", id="400"),
        pytest.param(
            Fault(do="status", on="create", status=402, message="no credit"), "402.*No retry will help", id="402"
        ),
    ],
)
def test_refused_create_is_not_sent_again_and_the_next_try_sends_it(
    fault: Fault, says: str, bench: Workbench, claude_default: str, simulator: Any
) -> None:
    simulator.inject(fault)
    with bench.dag("refused_create") as dag:
        ask(retries=1, retry_delay=timedelta(0))
    run = bench.run(dag)

    assert run.states == {"ask": "success"}
    assert run.tries("ask") == 2
    assert re.search(says, run.error("ask"), re.DOTALL)
    assert len(simulator.books()["batches"]) == 1
    assert simulator.books()["billed_requests"] == 3


# ---------------------------------------------------------------- accepted, and the response is lost


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(do="drop_after_accept", on="create"), id="connection closed"),
        pytest.param(Fault(do="drop_after_accept", on="create", reset=True), id="connection reset"),
        pytest.param(Fault(do="status_after_accept", on="create", status=504), id="gateway timeout"),
        pytest.param(Fault(do="malformed", on="create"), id="broken JSON"),
    ],
)
def test_create_with_a_lost_response_is_found_and_paid_for_once(
    fault: Fault, bench: Workbench, claude_default: str, simulator: Any
) -> None:
    simulator.inject(fault)
    with bench.dag("lost_answer") as dag:
        ask(poll_interval=0.2)
    run = bench.run(dag)

    assert run.states == {"ask": "success"}
    assert run.tries("ask") == 1
    assert run.xcom("ask")["counts"]["succeeded"] == 3
    assert simulator.calls()["create"] == len(simulator.books()["batches"]) == 1
    assert simulator.books()["billed_requests"] == 3


# ---------------------------------------------------------------- accepted, and later calls fail


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([Fault(do="cut", on="results", at="line_end")], id="results end early"),
        pytest.param([Fault(do="cut", on="results", reset=True)], id="results break off"),
        pytest.param(
            [Fault(do="no_content_type", on="results"), Fault(do="no_trailing_newline", on="results")], id="bare"
        ),
        pytest.param([Fault(do="duplicate_row", on="results"), Fault(do="unknown_row", on="results")], id="odd rows"),
        pytest.param([Fault(do="gzip", on="results")], id="compressed"),
        pytest.param([Fault(do="not_found_blip", on="retrieve")], id="404 once"),
        pytest.param([Fault(do="status", on="retrieve", status=500)], id="500 once"),
        pytest.param([Fault(do="html", on="retrieve")], id="a proxy's page once"),
    ],
)
def test_transient_faults_are_overcome_in_one_try(
    faults: list[Fault], bench: Workbench, claude_default: str, simulator: Any
) -> None:
    simulator.inject(*faults)
    with bench.dag("trouble") as dag:
        ask(poll_interval=0.2)
    run = bench.run(dag)

    assert run.states == {"ask": "success"}
    assert run.tries("ask") == 1
    assert [row["index"] for row in run.xcom("ask")["responses"]] == [0, 1, 2]
    assert simulator.calls()["create"] == 1
    assert simulator.books()["billed_requests"] == 3


@pytest.mark.parametrize("deferrable", [False, True], ids=["working", "deferred"])
@pytest.mark.parametrize("simulator", [{"batch_seconds": 1.0}], indirect=True, ids=["running"])
def test_credential_refused_for_a_moment_while_a_batch_runs_is_waited_out(
    deferrable: bool, bench: Workbench, claude_default: str, simulator: Any
) -> None:
    simulator.inject(Fault(do="status", on="retrieve", status=401, times=1))
    with bench.dag("rotated") as dag:
        ask(deferrable=deferrable, retries=0, poll_interval=0.2)
    run = bench.run(dag)

    assert run.states == {"ask": "success"}
    assert simulator.calls()["create"] == 1
    assert simulator.books()["billed_requests"] == 3


@pytest.mark.parametrize("deferrable", [False, True], ids=["working", "deferred"])
@pytest.mark.parametrize("simulator", [{"batch_seconds": 1.0}], indirect=True, ids=["running"])
def test_credential_refused_while_waiting_ends_the_wait_not_the_batch(
    deferrable: bool, bench: Workbench, claude_default: str, simulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "LASTING", timedelta(0))  # instead of ten minutes of real time
    monkeypatch.setattr(evidence, "LASTING_POLLS", 1)
    simulator.inject(Fault(do="status", on="retrieve", status=401, times=None))
    with bench.dag("refused_later") as dag:
        ask(deferrable=deferrable, retries=1, retry_delay=timedelta(0), poll_interval=0.2)
    bench.errors.clear()
    run = bench.run(dag)

    assert run.states == {"ask": "failed"}
    assert "401" in run.error("ask")
    simulator.clear_faults()
    run = run.again(dag, "ask")
    assert run.states == {"ask": "success"}
    assert simulator.calls()["create"] == 1
    assert simulator.calls()["cancel"] == 0
    assert simulator.books()["billed_requests"] == 3
