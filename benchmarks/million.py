"""One task with a million requests of 300 bytes, from the file to the last row, on an account of the first tier.

The simulator runs as a process of its own with the tier's queue limit of 200,000 requests, so that most create calls
wait for batches to end. Only the process of the task is measured; every row is checked. Needs Linux; takes about ten
minutes, most of them the simulator's. ``make bench`` leaves it out: ``python benchmarks/million.py``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bulk import Endpoint, run

QUEUE_LIMIT = 200_000


@contextmanager
def simulator() -> Iterator[Endpoint]:
    """Start the simulator, and stop it."""
    command = [sys.executable, "-m", "airflow_claude_batch.simulator", "--port", "0", "--batch-seconds", "45"]
    command += ["--queue-limit", str(QUEUE_LIMIT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Endpoint(process.stdout.readline().split()[-1])
        finally:
            process.terminate()


def write_messages(path: Path, count: int) -> None:
    """Write the input."""
    with path.open("w") as file:
        for index in range(count):
            element = {"key": f"key-{index}", "prompt": f"Question {index}: " + "what was said? " * 16}
            file.write(json.dumps(element) + "\n")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="million-") as scratch, simulator() as api:
        messages = Path(scratch, "messages.jsonl")
        write_messages(messages, options.requests)
        cost = run("million", sys.executable, Path(scratch), api, folder=scratch, messages=str(messages))
    print(f"{options.requests:,} requests, at most {QUEUE_LIMIT:,} of them in the queue; every row was checked")
    for step, seconds in cost.cpu.items():
        print(f"{f'CPU, s: {step}':34}{seconds:10.1f}")
    print(f"{'time, s':34}{cost.seconds:10.0f}")
    print(f"{'memory above the imports, MB':34}{cost.memory / 2**20:10.1f}")


if __name__ == "__main__":
    main()
