"""Report a submission's outcome: asset events, OpenLineage."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import Asset, AssetAlias
from workbench import Run, Workbench

from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION
from airflow_claude_batch._airflow.lineage import LineageMixin
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor

ROWS = Asset("claude://rows", extra={"owner": "us"})
in_the_database = pytest.mark.skipif(
    AIRFLOW_VERSION < (3, 1), reason="dag.test() of Airflow 3.0 keeps no DAG, and so no event of its assets"
)
SUMMARY = {"submission_id", "status", "request_count", "counts", "usage", "cost", "results_path"}


def events(run: Run, task_id: str) -> list[dict[str, Any]]:
    """The extras of the asset events that a task of the run has made."""
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(AssetEvent).filter_by(source_run_id=run.run.run_id, source_task_id=task_id)
        return [dict(event.extra) for event in found]


@in_the_database
@pytest.mark.airflow
@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])
def test_outlet_events_have_counts_and_cost(deferrable: bool, bench: Workbench, claude_default: str) -> None:
    with bench.dag(f"outlets_{deferrable}") as dag:
        send = SendMessageBatchOperator(
            task_id="send", messages=["a", "b"], deferrable=deferrable, outlets=[ROWS, AssetAlias("unused")]
        )
        MessageBatchSensor(task_id="wait", batch=send.output, deferrable=deferrable, poke_interval=0.01, outlets=[ROWS])
    run = bench.run(dag)

    (sent,), (landed,) = events(run, "send"), events(run, "wait")
    assert sent["status"] == "in_progress"
    manifest = run.xcom("wait")
    assert {name: landed[name] for name in SUMMARY} == {name: manifest[name] for name in SUMMARY}
    assert landed["counts"]["succeeded"] == 2
    assert float(landed["cost"]["usd"]) > 0
    assert "responses" not in landed


@in_the_database
@pytest.mark.airflow
def test_dry_run_event_has_status_dry_run(bench: Workbench, claude_default: str) -> None:
    with bench.dag("dry_outlets") as dag:
        SendMessageBatchOperator(task_id="send", messages=["a"], dry_run=True, outlets=[ROWS])

    (event,) = events(bench.run(dag), "send")

    assert event["status"] == "dry_run"


@pytest.mark.parametrize(
    ("path", "namespace", "name"),
    [
        ("/data/x/results.jsonl", "file", "/data/x/results.jsonl"),
        ("file:///data/results.jsonl", "file", "/data/results.jsonl"),
        ("s3://aws_default@bucket/x/results.jsonl", "s3://bucket", "x/results.jsonl"),
    ],
)
def test_openlineage_gets_the_rows_and_the_summary(path: str, namespace: str, name: str) -> None:
    pytest.importorskip("airflow.providers.openlineage.extractors")
    task = LineageMixin()
    counts = {"succeeded": 2, "missing": 1}
    task._manifest = Manifest(
        submission_id="s", status="ended", batch_ids=[], request_count=3, counts=counts, results_path=path
    )

    facets = task.get_openlineage_facets_on_complete(None)

    (output,) = facets.outputs
    assert (output.namespace, output.name) == (namespace, name)
    assert output.outputFacets["outputStatistics"].rowCount == 3
    assert facets.run_facets["claudeBatch"].counts == counts


def test_openlineage_gets_no_dataset_while_in_progress() -> None:
    pytest.importorskip("airflow.providers.openlineage.extractors")
    task = LineageMixin()
    task._manifest = Manifest(
        submission_id="s",
        status="in_progress",
        batch_ids=["b"],
        request_count=3,
        counts={"missing": 3},
        results_path="/data/results.jsonl",
    )

    facets = task.get_openlineage_facets_on_complete(None)

    assert facets.outputs == []
    assert facets.run_facets["claudeBatch"].request_count == 3


def test_openlineage_gets_nothing_without_a_manifest() -> None:
    pytest.importorskip("airflow.providers.openlineage.extractors")

    assert LineageMixin().get_openlineage_facets_on_complete(None).outputs == []
