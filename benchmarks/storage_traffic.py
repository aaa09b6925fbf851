"""Measures what goes to a submission's folder and back while its parts run one after the other.

The queue of the simulator takes one part at a time. So the task waits after each part, and each wait ends in a new
resumption, as after a deferral: with nothing but the folder. Everything in the folder counts, requests and ledger
included. What a worker keeps in its own temporary files does not.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.bulk import run_submission
from benchmarks.figures import BenchmarkResult, Figure, Scope
from benchmarks.s3_server import s3_server
from benchmarks.simulated import simulator

ROWS = 100_000
PARTS = (1, 4, 10, 40)
MOST_WRITTEN, MOST_READ = 2.3, 1.3
STORAGES = ("disk", "S3")
#: Makes rows of 1.1 KB.
ANSWER = "An answer that says what was asked, and why. " * 13


def write_messages(path: Path, count: int) -> None:
    """Write the file of messages, with short prompts: answers are most of what is stored."""
    with path.open("w") as file:
        for index in range(count):
            file.write(json.dumps({"key": f"key-{index}", "prompt": f"Question {index}"}) + "\n")


def run_parts(parts: int, rows: int, home: Path, endpoint: str | None) -> dict[str, Any]:
    """Run a submission of so many parts. Return what its steps counted.

    :param endpoint: of the S3 server, None for the local disk.
    """
    home.mkdir()
    part = -(-rows // parts)
    messages, answers = home / "messages.jsonl", home / "answers.jsonl"
    write_messages(messages, rows)
    answers.write_text(json.dumps({"text": ANSWER}) + "\n")
    options = ("--batch-seconds", "80000", "--queue-limit", str(part), "--answers", str(answers))
    with simulator(*options) as api:
        cost = run_submission(
            "traffic", home, api.url, folder=str(home), messages=str(messages), part=part, endpoint=endpoint
        )
        books = api.books()
    assert books["billed_requests"] == rows, f"{books['billed_requests']:,} requests were billed"
    assert len(books["batches"]) == cost.counts["resumptions"] == parts, f"{len(books['batches'])} parts"
    return dict(cost.counts)


def measure(scope: Scope) -> BenchmarkResult:
    """Run the same rows in few and in many parts, on both storages."""
    rows = scope.of(ROWS)
    with tempfile.TemporaryDirectory(prefix="traffic-") as scratch, ExitStack() as stack:
        endpoints = {"disk": None, "S3": stack.enter_context(s3_server())}
        figures = [
            figure
            for storage in STORAGES
            for parts in PARTS
            for figure in figures_of(
                storage, parts, run_parts(parts, rows, Path(scratch, f"{storage}-{parts}"), endpoints[storage])
            )
        ]
    return BenchmarkResult(
        f"{rows:,} rows of 1.1 KB, with short prompts, in parts of which the queue takes one at a time; each wait ends "
        "in a new resumption. Bytes of the submission's folder, as multiples of those of its `results.jsonl`: all of "
        "its files count, requests and ledger included. What a resumption reads again from the disk comes from memory, "
        "and counts once. S3 is moto's server over sockets; its calls are HTTP requests, and its bytes those of their "
        "bodies. Checked: every row; that every request was billed once.",
        tuple(figures),
    )


def figures_of(storage: str, parts: int, counts: dict[str, Any]) -> tuple[Figure, ...]:
    """Make the lines of the table for one run. What each kind of file adds goes to stderr."""
    size = counts["rows_bytes"]
    for name, (written, read, calls) in sorted(counts["traffic"].items(), key=lambda item: -sum(item[1][:2])):
        text = f"  {storage} {parts:2} parts {name:24} written {written / size:6.3f}x, read {read / size:6.3f}x"
        print(f"{text}, {calls:,} calls", file=sys.stderr)
    written, read, calls = map(sum, zip(*counts["traffic"].values(), strict=True))
    what = f"{storage}, {parts} part{'s' if parts > 1 else ''}"
    return (
        Figure(f"written, {what}", "x", written / size).at_most(MOST_WRITTEN),
        Figure(f"read, {what}", "x", read / size).at_most(MOST_READ),
        *([Figure(f"calls, {what}", "", calls)] if storage == "S3" else []),
    )
