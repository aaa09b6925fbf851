"""Landed rows read with a data frame library."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel
from workbench import Workbench

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor

pl = pytest.importorskip("polars")
pytest.importorskip("pyarrow")
pytestmark = pytest.mark.airflow


class Fact(BaseModel):
    """The schema of an answer."""

    name: str
    year: int


@pytest.fixture
def manifest(bench: Workbench, claude_default: str) -> Any:
    """Return the manifest of a submission that one task sent and another landed, as Parquet."""
    with bench.dag("tables") as dag:
        send = SendMessageBatchOperator(
            task_id="send",
            messages=[{"key": key, "prompt": f"When was {key} found?"} for key in ("tea", "coffee", "milk")],
            output_schema=Fact,
        )
        MessageBatchSensor(task_id="wait", batch=send.output, deferrable=True, results_format="parquet")
    return bench.run(dag).xcom("wait")


def test_rows_become_a_data_frame_of_the_model_fields(manifest: Any) -> None:
    rows = read_rows(manifest, schema=Fact)
    frame = pl.DataFrame([{"key": row.key, **row.output.model_dump()} for row in rows])

    assert frame.columns == ["key", "name", "year"]
    assert frame["key"].to_list() == ["tea", "coffee", "milk"]


def test_parquet_is_scanned_without_this_package(manifest: Any) -> None:
    assert manifest["results_path"].endswith("/results.parquet")
    frame = (
        pl.scan_parquet(manifest["results_path"])
        .filter(pl.col("status") == "succeeded")
        .select("key", "output", "cost_usd")
        .unnest("output")
        .collect()
    )

    rows = list(read_rows(manifest["results_path"], schema=Fact))
    assert frame["key"].to_list() == ["tea", "coffee", "milk"]
    assert frame["year"].to_list() == [row.output.year for row in rows]
    assert frame["cost_usd"].sum() == sum(Decimal(row.cost_usd or 0) for row in rows)


def test_json_lines_are_scanned_without_this_package(manifest: Any) -> None:
    """Columns that ``schema`` does not name are left out."""
    path = manifest["results_path"].replace(".parquet", ".jsonl")

    frame = pl.scan_ndjson(path, schema={"index": pl.Int64, "key": pl.String, "text": pl.String}).collect()

    assert frame["index"].to_list() == [0, 1, 2]
    assert frame["text"].null_count() == 0
