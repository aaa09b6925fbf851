from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.manifest import (
    Manifest,
    landed_batch_ids,
    load_manifest,
    read_manifest,
    write_manifest,
)
from airflow_claude_batch.batch.land.match_requests import ExternalMatcher
from airflow_claude_batch.batch.land.result_stream import read_results
from airflow_claude_batch.batch.land.summary import summarize, summarize_dry_run
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.exceptions import SubmissionRecordError

MADE = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
ENDED = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
ESTIMATE = {"usd": {"expected": "0.25"}}


def summary(status: str = "ended", **fields: Any) -> Manifest:
    """Three requests, of which one was answered and one was refused."""
    message = {
        "model": "claude-haiku-5-5",
        "content": [{"type": "text", "text": "hi"}],
        "usage": {"input_tokens": 1000, "output_tokens": 100},
    }
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "why"}}
    stream = [
        {"custom_id": "a", "result": {"type": "succeeded", "message": message}},
        {"custom_id": "b", "result": {"type": "errored", "error": error}},
    ]
    with Landing(ExternalMatcher(3), prices=PriceTable.load()) as landing:
        read_results(landing, "b1", [json.dumps(line).encode() for line in stream])
        values = {
            "submission_id": "s",
            "status": status,
            "batch_ids": ["b1", "b2"],
            "landed": {"b1", "elsewhere"},
            "results_path": "/r/results.jsonl",
            "created_at": MADE,
            "ended_at": ENDED,
        }
        return summarize(landing, **values | fields)


def test_manifest_has_the_shape_that_is_promised() -> None:
    xcom = summary(estimate=ESTIMATE).to_xcom()

    assert json.loads(json.dumps(xcom)) == xcom
    assert list(xcom) == [
        "submission_id",
        "status",
        "batch_ids",
        "request_count",
        "counts",
        "results_path",
        "stop_reasons",
        "responses",
        "landed_batch_ids",
        "usage",
        "cost",
        "by_model",
        "estimate",
        "created_at",
        "ended_at",
        "schema_version",
    ]
    assert xcom["schema_version"] == 1
    assert xcom["counts"] == {
        "succeeded": 1,
        "errored": 1,
        "expired": 0,
        "canceled": 0,
        "missing": 1,
        "invalid_output": 0,
    }
    assert xcom["request_count"] == 3
    assert xcom["landed_batch_ids"] == ["b1"]
    assert xcom["responses"] is None
    assert (xcom["created_at"], xcom["ended_at"]) == ("2026-11-22T09:00:00Z", "2026-11-22T10:00:00Z")
    assert xcom["usage"]["input_tokens"] == 1000
    assert xcom["cost"]["estimated_usd"] == "0.25"
    assert float(xcom["cost"]["usd"]) > 0
    assert xcom["by_model"]["claude-haiku-5-5"]["counts"] == {"succeeded": 1}
    assert xcom["by_model"]["claude-haiku-5-5"]["usd"] == xcom["cost"]["usd"]
    assert xcom["by_model"]["unknown"]["counts"] == {"errored": 1, "missing": 1}


def test_submission_that_goes_on_has_no_end() -> None:
    assert summary("in_progress").ended_at is None


def test_submission_without_an_estimate_says_so() -> None:
    assert summary().to_xcom()["cost"]["estimated_usd"] is None


def test_dry_run_s_manifest_names_no_rows_and_no_batches() -> None:
    manifest = summarize_dry_run("s", 3, ESTIMATE)

    assert (manifest.status, manifest.batch_ids, manifest.results_path) == ("dry_run", [], None)
    assert read_manifest(json.loads(json.dumps(manifest.to_xcom()))) == manifest


def test_manifest_that_came_by_xcom_reads_as_it_was() -> None:
    manifest = summary(estimate=ESTIMATE)

    assert read_manifest(json.loads(json.dumps(manifest.to_xcom()))) == manifest


def test_fields_of_a_later_release_are_ignored() -> None:
    assert read_manifest({**summary().to_xcom(), "new": 1}) == summary()


@pytest.mark.parametrize(
    "value",
    [
        None,
        "msgbatch_1",
        {},
        {"batch_ids": "b1"},
        {**summary().to_xcom(), "counts": 1},
        {**summary().to_xcom(), "created_at": "2026-11-22T09:00:00"},
        {**summary().to_xcom(), "request_count": -1},
        {**summary().to_xcom(), "batch_ids": {"\ud800": 1}},
    ],
)
def test_what_is_no_manifest_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="not a manifest"):
        read_manifest(value)


def test_published_manifest_is_found_again_without_the_rows(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    assert load_manifest(folder) is None
    assert landed_batch_ids(folder) == frozenset()

    write_manifest(folder, msgspec.structs.replace(summary(), responses=[{"text": "hi"}]))
    assert load_manifest(folder) == summary()
    assert landed_batch_ids(folder) == {"b1"}
    assert b"hi" not in (storage.read(folder, "manifest.json") or b"")


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"submission_id":"\xff"}', b'{"x":' * 5000], ids=range(5))
def test_damaged_manifest_is_never_taken_for_none(damage: bytes, tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    storage.write(folder, "manifest.json", damage)

    with pytest.raises(SubmissionRecordError, match=r"(?s)manifest.json is damaged .*Remove the file"):
        landed_batch_ids(folder)


def test_estimate_of_another_release_is_passed_on_and_costs_nothing() -> None:
    manifest = summary(estimate={"dollars": 1})

    assert manifest.estimate == {"dollars": 1}
    assert manifest.cost is not None
    assert manifest.cost["estimated_usd"] is None
