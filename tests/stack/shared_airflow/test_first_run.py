"""The main example on real processes, which nothing interrupts but two polls that fail: answers, metrics and spans.

Metrics do not name their DAG, so no other DAG runs at the same time.
"""

from collections import Counter
from pathlib import Path

import pytest
from airflow_stack import RUN_SECONDS, DagStack, Stack
from otlp_receiver import OtlpReceiver
from statsd_listener import StatsdListener

from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION
from demo.airflow_api import wait_for
from shared_airflow import main_example

pytestmark = pytest.mark.stack

DAG_ID, RUN_ID = main_example.DAG_ID, "first_run"


@pytest.fixture(scope="module")
def running(dag_stack: DagStack) -> Stack:
    return main_example.original(dag_stack)


@pytest.fixture(scope="module")
def received(running: Stack, statsd: StatsdListener) -> Counter[str]:
    """Run the DAG. Returns the metrics up to the end of its run."""
    running.trigger(RUN_ID)
    running.wait_for_task(RUN_ID, "wait", "deferred")
    running.simulator.inject(do="status", on="retrieve", status=500, times=2)
    failed_polls = "poll_errors,error=ServerError"
    wait_for(lambda: statsd.listen()[failed_polls] == 2, seconds=RUN_SECONDS, what="the failed polls' metric")
    running.simulator.pace(0)
    running.wait_for_success(RUN_ID)
    return Counter(statsd.listen())


@pytest.mark.usefixtures("received")
def test_deferred_wait_on_a_real_triggerer_answers_every_option(running: Stack) -> None:
    main_example.assert_answered_and_paid_once(running, RUN_ID)
    report = Path(running.returned(RUN_ID, "write_report").removeprefix("file://")).read_text()
    assert report.count("<tr><td>core.") > 50


def test_metrics_of_workers_and_of_the_triggerer_arrive(
    running: Stack, received: Counter[str], statsd: StatsdListener
) -> None:
    rows = running.wait_for_success(RUN_ID)
    model = rows[0].model
    assert received[f"requests,model={model}"] == received[f"rows,outcome=succeeded,model={model}"] == len(rows) > 200
    assert received["submissions,status=in_progress"] == received["submissions,status=ended"] == 1
    assert received[f"tokens,kind=output,model={model}"] == sum(row.usage["output_tokens"] for row in rows if row.usage)
    assert received[f"cost_microusd,model={model}"] > 0
    assert received["queue_time"] == received["turnaround"] == 1
    assert statsd.invalid == []


@pytest.mark.usefixtures("received")
def test_submission_is_one_span_below_the_one_that_airflow_makes_of_its_task(
    running: Stack, traces: OtlpReceiver
) -> None:
    rows = running.wait_for_success(RUN_ID)
    wait_for(lambda: traces.of_run(RUN_ID), seconds=RUN_SECONDS, what="the span of the submission")

    (span,) = traces.of_run(RUN_ID)
    assert span.name == f"chat {rows[0].model}"
    assert span.attributes["airflow.task_id"] == "wait"
    assert span.attributes["claude_batch.rows.succeeded"] == len(rows)
    assert span.attributes["gen_ai.usage.output_tokens"] == sum(row.usage["output_tokens"] for row in rows if row.usage)
    if AIRFLOW_VERSION >= (3, 2):  # before, Airflow gives its trace to no task
        assert span.parent_id
        assert [other for other in traces.spans if other.trace_id == span.trace_id and other is not span]
