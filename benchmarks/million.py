"""Measures one task with a million requests of 300 bytes, from the file to the last row; and once with ten million.

The simulator runs in a process of its own, with a queue limit. So most create calls wait until batches end. Only the
process of the task is measured. It goes on after each wait with what it holds in memory: what a resumption costs is
measured by ``resume`` and ``traffic``. Every row is checked. A million takes about five minutes, most of them in the
simulator. Ten million take about an hour and 50 GB of disk.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bulk import Cost, run_submission
from benchmarks.figures import BenchmarkResult, Figure, Scope
from benchmarks.simulated import simulator

MOST_CPU_MICROSECONDS, MOST_MEGABYTES = 60, 64


@dataclass(frozen=True)
class Load:
    """So many requests, for an account whose queue takes so many.

    :param batch_seconds: from the creation of a batch to its end: long enough for the queue to fill.
    """

    requests: int
    queue_limit: int
    batch_seconds: float = 45

    def run(self) -> Cost:
        """Run the submission. The last step of the role fails if a row is wrong."""
        limits = ("--batch-seconds", str(self.batch_seconds), "--queue-limit", str(self.queue_limit))
        with tempfile.TemporaryDirectory(prefix="million-") as scratch, simulator(*limits) as api:
            messages = Path(scratch, "messages.jsonl")
            write_messages(messages, self.requests)
            cost = run_submission("million", Path(scratch), api.url, folder=scratch, messages=str(messages))
            books = api.books()
        assert books["billed_requests"] == self.requests, f"{books['billed_requests']:,} requests were billed"
        return cost

    def describe(self) -> str:
        """Say what was measured and checked."""
        return (
            f"{self.requests:,} requests of 300 bytes from a `.jsonl` file to the last row, against the simulator with "
            f"at most {self.queue_limit:,} requests in the queue. The process goes on after each wait, without a "
            "resumption. Checked: every row read back has its own place, key and answer; the simulator's books say "
            "that every request was billed once."
        )


MILLION = Load(1_000_000, 200_000)  # the queue of an account of the Start tier
TEN_MILLION = Load(10_000_000, 500_000)  # the queue of an account of the Scale tier


def write_messages(path: Path, count: int) -> None:
    """Write the file of messages."""
    with path.open("w") as file:
        for index in range(count):
            element = {"key": f"key-{index}", "prompt": f"Question {index}: " + "what was said? " * 16}
            file.write(json.dumps(element) + "\n")


def measure(scope: Scope) -> BenchmarkResult:
    """Run a million."""
    load = Load(scope.of(MILLION.requests), MILLION.queue_limit)
    done, cpu, memory, time = figures_of(load, load.run(), scope)
    figures = (done, cpu.at_most(MOST_CPU_MICROSECONDS), memory.at_most(MOST_MEGABYTES), time)
    return BenchmarkResult(load.describe(), figures)


def measure_ten(scope: Scope) -> BenchmarkResult:
    """Run ten million. Memory and time have no bounds."""
    load = Load(scope.of(TEN_MILLION.requests), TEN_MILLION.queue_limit)
    return BenchmarkResult(load.describe(), figures_of(load, load.run(), scope))


def figures_of(load: Load, cost: Cost, scope: Scope) -> tuple[Figure, Figure, Figure, Figure]:
    """Make the lines of the table. Reading and checking the rows is not counted as CPU."""
    *work, _ = cost.cpu.values()
    what = "requests paid for and landed"
    return (
        Figure(what, "", load.requests, bound="all", met=True) if scope.full else Figure(what, "", load.requests),
        Figure("CPU per request", "µs", sum(work) / load.requests * 1e6),
        Figure("peak memory", "MB", cost.megabytes),
        Figure("time", "s", cost.seconds),
    )
