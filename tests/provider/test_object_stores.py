"""Input and results in an object store, as Airflow's object storage reaches it."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from stores import FileServer, Store
from workbench import Workbench

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor

pytestmark = pytest.mark.airflow

COUNT = 50
LINES = b"".join(
    json.dumps({"key": f"k{number}", "prompt": f"question {number}"}).encode() + b"\n" for number in range(COUNT)
)


@pytest.fixture
def store(request: pytest.FixtureRequest) -> tuple[Store, str]:
    """A store that is attached under a connection of its own, and its address."""
    store = Store()
    attach("s3", conn_id=request.node.name.partition("[")[0], fs=store)
    return store, f"s3://{request.node.name.partition('[')[0]}@bucket"


def checked(manifest: dict[str, Any]) -> None:
    rows = list(read_rows({**manifest, "responses": None}))
    assert [row.key for row in rows] == [f"k{number}" for number in range(COUNT)]
    assert all(f"question {row.index}”" in str(row.text) for row in rows)


def test_each_form_reads_from_and_lands_in_a_bucket(
    store: tuple[Store, str], bench: Workbench, claude_default: str, simulator: Any
) -> None:
    pytest.importorskip("pyarrow")
    files, root = store
    files.pipe("/bucket/in.jsonl.gz", gzip.compress(LINES))
    files.pipe("/bucket/in.jsonl", LINES)
    with bench.dag("bucket") as dag:
        SendMessageBatchOperator(
            task_id="one",
            messages=ObjectStoragePath(f"{root}/in.jsonl"),
            results_path=f"{root}/out",
            wait_for_completion=True,
            deferrable=True,
            results_format="parquet",
        )
        send = SendMessageBatchOperator(
            task_id="send", messages=f"{root}/in.jsonl.gz", results_path=f"{root}/out/", deferrable=True
        )
        MessageBatchSensor(task_id="wait", batch=send.output, deferrable=True)
    run = bench.run(dag)

    assert set(run.states.values()) == {"success"}
    for task_id, file in (("one", "one/results.parquet"), ("wait", "send/results.jsonl")):
        manifest = run.xcom(task_id)
        assert manifest["results_path"] == f"{root}/out/bucket/{run.run.run_id}/{file}"
        checked(manifest)
    assert simulator.books()["billed_requests"] == 2 * COUNT


def test_unwritable_store_is_refused_before_anything_is_sent(
    store: tuple[Store, str], bench: Workbench, claude_default: str, simulator: Any
) -> None:
    files, root = store
    files.refusing = True
    with bench.dag("refusing") as dag:
        SendMessageBatchOperator(task_id="ask", messages=["a"], results_path=root, wait_for_completion=True)
    run = bench.run(dag)

    assert run.states == {"ask": "failed"}
    assert f"{root}/refusing/" in run.error("ask")
    assert "cannot be written (no writing to" in run.error("ask")
    assert "Nothing was sent.\nSet results_path" in run.error("ask")
    assert simulator.books()["batches"] == []


def test_file_server_gets_a_temporary_file_and_then_a_rename(
    bench: Workbench, claude_default: str, tmp_path: Any
) -> None:
    attach("sftp", conn_id="server", fs=FileServer())
    with bench.dag("served") as dag:
        SendMessageBatchOperator(
            task_id="ask",
            messages=[json.loads(line) for line in LINES.splitlines()],
            results_path=f"sftp://server@host{tmp_path}/out",
            wait_for_completion=True,
            deferrable=True,
        )
    run = bench.run(dag)

    assert run.states == {"ask": "success"}
    checked(run.xcom("ask"))
    names = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {"requests.jsonl", "results.jsonl", "manifest.json"} <= set(names)
    assert not [name for name in names if name.endswith((".tmp", ".writable"))]
