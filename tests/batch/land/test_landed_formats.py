"""Rows, manifest, Parquet and requests that an earlier release has written are read today."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.landed_rows import read_landed_row
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.manifest import load_manifest
from airflow_claude_batch.batch.land.match_requests import SubmissionMatcher
from airflow_claude_batch.batch.land.parquet_writer import write_parquet
from airflow_claude_batch.batch.land.rows import Row, Status, count_statuses
from airflow_claude_batch.batch.land.summary import summarize
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.rows import read_rows

DATA = Path(__file__).parent / "data"
STATUSES = [
    Status.SUCCEEDED,
    Status.SUCCEEDED,  # in place of an invalid answer
    Status.INVALID_OUTPUT,
    Status.REFUSED,
    Status.ERRORED,
    Status.EXPIRED,
    Status.CANCELED,
    Status.INVALID_OUTPUT,  # unreadable
    Status.SUCCEEDED,  # a duplicate of the first
    Status.NONE,
]


def check(rows: list[Row]) -> None:
    assert [row.index for row in rows] == list(range(10))
    assert [row.key for row in rows] == [
        "a",
        {"n": 1},
        3,
        "refused",
        ["x", None],
        "exp\u2028",
        6.5,
        "unreadable",
        "duplicate",
        "missing",
    ]
    assert [row.status for row in rows] == [status.word for status in STATUSES]
    assert [row.output for row in rows[:3]] == [{"n": 1}, {"n": 2, "ü": "\u2028"}, None]
    assert [row.error and row.error["type"] for row in rows] == [
        None,
        None,
        "invalid_output",
        "invalid_request_error",
        "api_error",
        None,
        None,
        "unreadable_message",
        None,
        "missing",
    ]
    (replaced,) = rows[1].replaced or []
    assert (replaced["status"], replaced["text"], replaced["batch_id"]) == ("invalid_output", '{"n":-1}', "msgbatch_01")
    assert (rows[8].text, rows[8].usage, rows[8].cost_usd) == (rows[0].text, None, "0")
    assert (rows[0].message or {})["id"] == "msg_1"


@pytest.mark.parametrize("name", ["results.jsonl", "results.parquet", "results-typed.parquet"])
def test_rows_are_read(name: str) -> None:
    check(list(read_rows(str(DATA / name))))


def test_rows_are_restored_and_the_manifest_is_the_same() -> None:
    manifest = load_manifest(LocalFolder(DATA))
    assert manifest is not None
    with (
        RequestFile(DATA / "requests.jsonl") as requests,
        Landing(SubmissionMatcher(requests), prices=PriceTable.load()) as landing,
    ):
        landing.restore((DATA / "results.jsonl").read_bytes().splitlines(keepends=True))

        assert list(landing.statuses) == STATUSES
        assert count_statuses(landing.statuses) == manifest.counts
        found = summarize(
            landing,
            submission_id=manifest.submission_id,
            status=manifest.status,
            batch_ids=manifest.batch_ids,
            landed=manifest.landed_batch_ids,
            results_path=manifest.results_path or "",
            created_at=manifest.created_at,
            ended_at=manifest.ended_at,
            estimate=manifest.estimate,
        )
        assert found == manifest
        # What is written again is the same but for the row that no result came for, whose reason is given now.
        landed = (DATA / "results.jsonl").read_bytes().splitlines(keepends=True)
        assert list(landing.lines(missing=json.loads(landed[9])["error"]["message"])) == landed


def test_rows_are_written_as_parquet_as_before(tmp_path: Path) -> None:
    write_parquet(LocalFolder(tmp_path), (DATA / "results.jsonl").read_bytes().splitlines(keepends=True))

    check(list(read_rows(str(tmp_path / "results.parquet"))))


COMPACTED = (
    b'{"index":0,"key":"a","status":"succeeded","text":"A","output":{"n":1.10},"stop_reason":"end_turn",'
    b'"model":"claude-opus-5","usage":{"input_tokens": 23000, "output_tokens": 1000, "iterations": [{"type": '
    b'"compaction", "input_tokens": 180000, "output_tokens": 3500}]},"cost_usd":"0.07","error":null,'
    b'"batch_id":"msgbatch_1","custom_id":"0123456789ab-0-NUSsBbDaisNY5qsAMyUgrg",'
    b'"message":{"model": "claude-opus-5"}}\n'
)


@pytest.mark.parametrize(
    ("iterations", "usd"),
    [
        pytest.param(
            b'[{"type": "compaction", "input_tokens": 180000, "output_tokens": 3500}]', b'"0.56375"', id="known"
        ),
        pytest.param(b'[{"type": "reflection"}]', b"null", id="unknown"),
        pytest.param(b"[]", b'"0.07"', id="none"),
    ],
)
def test_row_whose_iterations_an_earlier_release_left_out_gets_its_cost(iterations: bytes, usd: bytes) -> None:
    compaction = b'[{"type": "compaction", "input_tokens": 180000, "output_tokens": 3500}]'
    line = COMPACTED.replace(compaction, iterations)

    row = read_landed_row(line, PriceTable.load())

    assert row is not None
    assert row.parsed.charge is not None
    assert (row.parsed.charge.usd or "null").encode() in usd
    assert b'{"index":0,"key":"a",' + row.parsed.body + b"\n" == line.replace(
        b'"cost_usd":"0.07"', b'"cost_usd":' + usd
    )
