"""Measures one task with a million requests of 300 bytes, from the file to the last row.

The simulator runs in a process of its own, with the queue limit of the first tier, 200,000 requests. So most create
calls wait until batches end. Only the process of the task is measured. Every row is checked. It takes about ten
minutes, most of them in the simulator.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from benchmarks.bulk import run_submission
from benchmarks.figures import BenchmarkResult, Figure, Scope
from benchmarks.simulated import simulator

REQUESTS = 1_000_000
QUEUE_LIMIT = 200_000  # of an account of the Start tier
OPTIONS = ("--batch-seconds", "45", "--queue-limit", str(QUEUE_LIMIT))


def write_messages(path: Path, count: int) -> None:
    """Write the file of messages."""
    with path.open("w") as file:
        for index in range(count):
            element = {"key": f"key-{index}", "prompt": f"Question {index}: " + "what was said? " * 16}
            file.write(json.dumps(element) + "\n")


def measure(scope: Scope) -> BenchmarkResult:
    """Run the submission. The last step of the role fails if a row is wrong."""
    count = scope.of(REQUESTS)
    with tempfile.TemporaryDirectory(prefix="million-") as scratch, simulator(*OPTIONS) as api:
        messages = Path(scratch, "messages.jsonl")
        write_messages(messages, count)
        cost = run_submission("million", Path(scratch), api.url, folder=scratch, messages=str(messages))
        books = api.books()
    assert books["billed_requests"] == count, f"{books['billed_requests']:,} requests were billed"
    *work, _ = cost.cpu.values()
    done = Figure("requests paid for and landed", "", count)
    return BenchmarkResult(
        f"{count:,} requests of 300 bytes from a `.jsonl` file to the last row, against the simulator with at most "
        f"{QUEUE_LIMIT:,} requests in the queue. Checked: every row read back has its own place, key and answer; the "
        "simulator's books say that every request was billed once.",
        (
            done if not scope.full else Figure(done.what, "", count, bound="all", met=True),
            Figure("CPU per request", "µs", sum(work) / count * 1e6),
            Figure("peak memory", "MB", cost.megabytes),
            Figure("time", "s", cost.seconds),
        ),
    )
