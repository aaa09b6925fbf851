"""Measures one resumption that finds nothing new: of a million requests of 1.5 KB, half landed, the rest running.

The submission is a real one, made against the simulator and left with five of its ten parts landed. Then a process of
its own takes it up, as a worker does when a trigger has fired: with nothing but the folder.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import s3_server
from benchmarks.bulk import Cost, middle, run_submission
from benchmarks.figures import BenchmarkResult, Figure, Scope
from benchmarks.simulated import simulator
from benchmarks.submitting import write_messages

REQUESTS = 1_000_000
PARTS = 10
ROUNDS = 3
MOST_CPU_SECONDS, MOST_MEGABYTES = 0.1, 2


def resume_often(home: Path, requests: int, endpoint: str, parts: int = PARTS, rounds: int = ROUNDS) -> dict[str, Cost]:
    """Send, land half of the parts, and resume on both storages. Return the run with the median CPU of each.

    :param endpoint: of the S3 server.
    """
    home.mkdir()
    messages = home / "messages.jsonl"
    write_messages(messages, requests)
    options: dict[str, Any] = {"folder": str(home), "messages": str(messages), "part": -(-requests // parts)}
    with simulator("--batch-seconds", "80000") as api:
        left = run_submission("half_landed", home, api.url, **options).counts
        assert left["landed"] == requests // 2, f"{left['landed']:,} landed"
        options["running"] = left["running"]
        upload(home / "submission", endpoint, s3_server.place_of(home))
        return {
            storage: middle([run_submission("resume", home, api.url, **options, endpoint=place) for _ in range(rounds)])
            for storage, place in (("disk", None), ("S3", endpoint))
        }


def upload(folder: Path, endpoint: str, root: str) -> None:
    """Copy a submission's folder into the bucket, as the submission would have written it there."""
    files = s3_server.file_system(endpoint)
    for path in folder.iterdir():
        files.put_file(str(path), f"{root}/{path.name}")


def measure(scope: Scope) -> BenchmarkResult:
    """Make the submission once, and resume it on both storages."""
    requests = scope.of(REQUESTS)
    with tempfile.TemporaryDirectory(prefix="resuming-") as scratch, s3_server.s3_server() as endpoint:
        costs = resume_often(Path(scratch, "resuming"), requests, endpoint)
    return BenchmarkResult(
        f"{requests:,} requests of 1.5 KB in {PARTS} parts, half of them landed, the others running. A new process "
        "resumes the submission, asks the API for the running batches, and waits again. The clients of the API and of "
        f"the storage are made and connected before, which is not counted. {ROUNDS} times each, of which the one with "
        "the median CPU counts. Checked: that it waits for the same batches.",
        tuple(figure for storage, cost in costs.items() for figure in figures_of(storage, cost)),
    )


def figures_of(storage: str, cost: Cost) -> tuple[Figure, ...]:
    """Make the lines of the table. What each kind of file adds goes to stderr."""
    for name, (written, read, calls) in cost.counts["traffic"].items():
        print(f"  {storage} {name:24} written {written:,}, read {read:,} bytes, {calls} calls", file=sys.stderr)
    written, read, calls = map(sum, zip(*cost.counts["traffic"].values(), strict=True))
    return (
        Figure(f"CPU, {storage}", "s", cost.cpu["resume"]).at_most(MOST_CPU_SECONDS),
        Figure(f"read, {storage}", "MB", read / 1e6).at_most(MOST_MEGABYTES),
        Figure(f"written, {storage}", "KB", written / 1e3),
        *([Figure(f"calls, {storage}", "", calls)] if storage == "S3" else []),
        Figure(f"peak memory, {storage}", "MB", cost.megabytes),
    )
