"""The benchmark of the report, over a few submissions: what its figures say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from airflow_claude_batch.web.gather import gather
from benchmarks import report
from benchmarks.figures import Scope

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="benchmarks wait for processes as Linux has them")


def test_writing_is_measured_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "ROUNDS", 1)
    monkeypatch.setattr(report, "BROWSER", None)

    seconds, cpu, size = report.measure(Scope(ours_only=True, scale=0.001)).figures

    assert 0 < cpu.ours <= seconds.ours * 2
    assert (size.bound, size.met) == ("≤ 5 MB", True)


def test_measured_submissions_have_rows_without_an_answer(tmp_path: Path) -> None:
    for number in range(3):
        report.write_submission(tmp_path, number)

    assert [(one.failed, len(one.failures)) for one in gather(str(tmp_path))] == [(100, 20), (0, 0), (0, 0)]
    (rows,) = tmp_path.rglob("results.jsonl")
    assert {json.loads(line)["status"] for line in rows.read_text().splitlines()} == {"succeeded", "errored"}
