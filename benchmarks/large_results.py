"""Measures the page of a submission whose results file has 2 GB: the first rows, the failed ones, and a key.

The page is rendered in a process of its own, from a folder on a disk. The system's cache has the file.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from benchmarks.bulk import Cost, run_large_results
from benchmarks.figures import BenchmarkResult, Figure, Scope

RESULTS_BYTES = 2_000_000_000
ROW_CHARACTERS = 9_800
LONGEST_ROW_CHARACTERS = 300_000_000
ROUNDS = 3
MOST_SECONDS, MOST_MEGABYTES = 1, 64
PLACE = ("dag", "run", "send")


def measure(scope: Scope) -> BenchmarkResult:
    """Measure a file of ordinary rows, and one with a row of 300 MB."""
    with tempfile.TemporaryDirectory(prefix="large-results-") as scratch:
        root = Path(scratch)
        folder = root.joinpath(*PLACE)
        folder.mkdir(parents=True)
        count = write_results(folder, scope.of(RESULTS_BYTES), longest=0)
        usual = show(root, "T-3", failed=1)
        assert {"T-0", "T-9"} <= {*usual.counts["keys"]}
        last = show(root, f"T-{count - 1}", failed=1)
        write_results(folder, scope.of(RESULTS_BYTES), longest=scope.of(LONGEST_ROW_CHARACTERS))
        long = show(root, "T-1", failed=1)
    return BenchmarkResult(
        f"Results of {RESULTS_BYTES:,} bytes, with rows of 10 kB of which the last one failed, and again with a second "
        f"row of {LONGEST_ROW_CHARACTERS:,} characters. The page is rendered with its first and its failed rows, then "
        "the row with a key beside its request; the fastest of three counts. Checked: the keys of the first rows, and "
        "that the page of the key has its row, or says how far it has looked.",
        (
            Figure("page of 2 GB", "s", usual.counts["page"]).at_most(MOST_SECONDS),
            Figure("key at the beginning of 2 GB", "s", usual.counts["key"]).at_most(MOST_SECONDS),
            Figure("key at the end of 2 GB", "s", last.counts["key"]).at_most(MOST_SECONDS),
            Figure("page with a row of 300 MB", "s", long.counts["page"]).at_most(MOST_SECONDS),
            Figure("memory", "MB", max(cost.megabytes for cost in (usual, last, long))).at_most(MOST_MEGABYTES),
        ),
    )


def show(root: Path, key: str, *, failed: int) -> Cost:
    """Render the pages in a process of their own."""
    return run_large_results("pages", root, root=str(root), key=key, failed=failed, rounds=ROUNDS)


def write_results(folder: Path, size: int, *, longest: int) -> int:
    """Write a results file of about this size, and the requests. Return how many rows it has.

    :param longest: characters of the text of the second row.
    """
    count = 0
    with (folder / "results.jsonl").open("wb") as rows, (folder / "requests.jsonl").open("wb") as requests:
        while rows.tell() < size:
            text = "x" * (longest if longest and count == 1 else ROW_CHARACTERS)
            rows.write(_row(count, "succeeded", text))
            requests.write(b'{"hash":"%022d","key":"T-%d","params":{"model":"m","messages":[]}}\n' % (count, count))
            count += 1
        rows.write(_row(count, "errored", "the last"))
    return count + 1


def _row(index: int, status: str, text: str) -> bytes:
    row = {
        "index": index,
        "key": f"T-{index}",
        "status": status,
        "text": text,
        "stop_reason": "end_turn",
        "model": "m",
        "custom_id": f"0123456789ab-{index}-{index:022d}",
    }
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"
