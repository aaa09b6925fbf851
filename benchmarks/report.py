"""Measures the report: from the command to the drawn page, over 10,000 submissions on a disk.

Every tenth submission has rows without an answer. The report is written by a process of its own, and drawn by Chromium
without a window. A blank page is drawn, too: the difference is what the report takes.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from airflow_claude_batch.batch.land.manifest import Manifest
from benchmarks.figures import BenchmarkResult, Figure, Scope

SUBMISSIONS, DAGS, ROWS = 10_000, 40, 200
FAILING_EVERY, ROUNDS = 10, 3
MOST_SECONDS, MOST_MEGABYTES = 5.0, 5.0
#: Seconds for each process.
ENDED = (str(shutil.which("timeout")), "180")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
CHECKED = (
    "{submissions:,} submissions of {dags} DAGs on a disk, whose files are in memory. Every {every}th has a file of "
    "{rows} rows, half of them without an answer. Writing is the whole process; drawing is what Chromium takes for a "
    "screenshot beyond that of a blank page. The median of {rounds} runs counts."
)
_START = datetime(2026, 8, 1, tzinfo=UTC)
_MODELS = ("claude-opus-5-5", "claude-haiku-5-5", "claude-sonnet-5-5")


def measure(scope: Scope) -> BenchmarkResult:
    """Write the report a few times, and draw it."""
    count = scope.of(SUBMISSIONS)
    with tempfile.TemporaryDirectory(prefix="report-") as scratch:
        root, page, blank = (Path(scratch) / name for name in ("results", "report.html", "blank.html"))
        for number in range(count):
            write_submission(root, number)
        blank.write_text("<!doctype html><p>nothing")
        command = [sys.executable, "-m", "airflow_claude_batch.report", str(root), "-o", str(page)]
        writing = [_run(command) for _ in range(ROUNDS)]
        wall, cpu = (statistics.median(values) for values in zip(*writing, strict=True))
        drawing = draw(page) - draw(blank) if BROWSER else 0.0
        megabytes = page.stat().st_size / 1e6
    figures = [
        Figure("write it over 10,000 submissions", "s", wall),
        Figure("CPU of writing it", "s", cpu),
        Figure("size of the page", "MB", megabytes).at_most(MOST_MEGABYTES),
    ]
    if BROWSER:
        figures.append(Figure("draw it in Chromium", "s", drawing))
        figures.append(Figure("write and draw it", "s", wall + drawing).at_most(MOST_SECONDS))
    return BenchmarkResult(
        CHECKED.format(submissions=count, dags=DAGS, every=FAILING_EVERY, rows=ROWS, rounds=ROUNDS), tuple(figures)
    )


def write_submission(root: Path, number: int) -> None:
    """Write the manifest of a submission that has ended, and its rows if some are without an answer."""
    created = _START + timedelta(minutes=15 * number)
    folder = root / f"dag_{number % DAGS:02}" / f"scheduled__{created.isoformat()}" / "ask"
    folder.mkdir(parents=True)
    model, failed = _MODELS[number % len(_MODELS)], 0 if number % FAILING_EVERY else ROWS // 2
    counts = {"succeeded": ROWS - failed, "errored": failed}
    usage = {"input_tokens": 100 * ROWS, "output_tokens": 20 * ROWS}
    manifest = Manifest(
        submission_id=f"{number:016x}",
        status="ended",
        batch_ids=[f"msgbatch_{number:024}"],
        request_count=ROWS,
        counts=counts,
        results_path=str(folder / "results.jsonl"),
        stop_reasons={"end_turn": ROWS - failed},
        usage=usage,
        cost={"usd": "1.23", "estimated_usd": "1.30", "without_batch_usd": "2.46", "unpriced_models": []},
        by_model={model: {"counts": counts, "usage": usage, "usd": "1.23"}},
        created_at=created,
        ended_at=created + timedelta(minutes=5 + number % 400),
    )
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    if failed:
        (folder / "results.jsonl").write_bytes(b"".join(map(_row, range(ROWS))))


def _row(index: int) -> bytes:
    row: dict[str, object] = {"index": index, "key": f"ticket-{index}", "status": "succeeded", "text": "x" * 500}
    if index % 2:
        row |= {"status": "errored", "text": None, "error": {"type": "api_error", "message": "internal server error"}}
    return msgspec.json.encode(row) + b"\n"


def draw(page: Path) -> float:
    """Return the median of the seconds that Chromium takes for a screenshot."""
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,2000")
    command = [str(BROWSER), *options, f"--screenshot={page.with_suffix('.png')}", page.as_uri()]
    return statistics.median(_run(command)[0] for _ in range(ROUNDS))


def _run(command: Sequence[str]) -> tuple[float, float]:
    """Run a process. Return its seconds, and those of CPU."""
    started = time.monotonic()
    process = subprocess.Popen((*ENDED, *command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime
