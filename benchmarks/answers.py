"""Measures the answer store: a million answers in 30 segments, and what is left of a thousand runs.

Each look-up is measured in a process of its own. The S3 server is another process, which is not measured.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.bulk import Cost, middle, run_answers
from benchmarks.figures import BenchmarkResult, Figure, Scope
from benchmarks.s3_server import file_system, place_of, s3_server

ANSWERS, SEGMENTS, QUESTIONS = 1_000_000, 30, 100_000
RUNS, ANSWERS_OF_RUNS = 1000, 100_000
ROUNDS = 3
MOST_CPU_SECONDS, MOST_MEGABYTES, MOST_SEGMENTS = 0.6, 32, 21 + ANSWERS_OF_RUNS // 32_768
CHECKED = (
    "{answers:,} answers of 800 bytes in {segments} segments, and {questions:,} questions: none of them stored; all of "
    "them, next to each other, as the runs of the last days have left them; and each tenth of all, so that nearly all "
    "bytes are read. To find is to read the indexes, up to the first answer; to read is all that follows. S3 is moto's "
    "server over sockets. {runs:,} runs of {each:,} new answers, merged after each. Memory is the peak, with the "
    "answers as they come. Checked: how many are found, and each answer's key. The median of {rounds} runs counts."
)


def measure(scope: Scope) -> BenchmarkResult:
    """Measure them all, one after the other."""
    answers, questions, runs = scope.of(ANSWERS), scope.of(QUESTIONS), scope.of(RUNS)
    with tempfile.TemporaryDirectory(prefix="answers-") as scratch, s3_server() as endpoint:
        home = Path(scratch)
        figures = (
            *store_figures(home / "million", endpoint, answers, questions),
            *run_figures(home / "runs", scope.of(ANSWERS_OF_RUNS), questions, runs),
            *compact_figures(home / "million", answers),
        )
    each = ANSWERS_OF_RUNS // RUNS
    described = {"answers": answers, "segments": SEGMENTS, "questions": questions, "runs": runs, "each": each}
    return BenchmarkResult(CHECKED.format(**described, rounds=ROUNDS), figures)


def store_figures(home: Path, endpoint: str, answers: int, questions: int) -> list[Figure]:
    """Store the answers, copy them to the S3 server, and look questions up on both."""
    added = run_answers("add", home, folder=str(home), count=answers, runs=SEGMENTS)
    assert len(list(home.iterdir())) == SEGMENTS
    file_system(endpoint).put(f"{home}/", f"{place_of(home)}/", recursive=True)
    kinds = {
        "none is stored": (answers, answers + questions, 1, 0),
        "all are stored": (0, questions, 1, questions),
        "spread over all": (0, answers, answers // questions, questions),
    }
    figures = [
        Figure("CPU per answer that is added", "µs", added.cpu_seconds / answers * 1e6),
        Figure("memory of adding", "MB", added.megabytes),
    ]
    for storage, place in {"disk": "", "S3": endpoint}.items():
        for kind, (first, last, step, expected) in kinds.items():
            cost = look_up(home, place, first, last, step)
            assert cost.counts["any"] + cost.counts["rest"] == expected, cost.counts
            figures += look_up_figures(f"{kind}, {storage}", cost, expected)
    return figures


def look_up(home: Path, endpoint: str, first: int, last: int, step: int) -> Cost:
    """Look questions up some times. Return the run with the median CPU."""
    options: dict[str, Any] = {"folder": str(home), "endpoint": endpoint, "first": first, "last": last, "step": step}
    return middle([run_answers("look_up", home, **options) for _ in range(ROUNDS)])


def look_up_figures(what: str, cost: Cost, expected: int) -> list[Figure]:
    """Make the lines of the table for one kind of look-up."""
    reading = [Figure(f"CPU to read the answers, {what}", "s", cost.cpu["read"])] if expected else []
    return [
        Figure(f"CPU to find, {what}", "s", cost.cpu["find"]).at_most(MOST_CPU_SECONDS),
        *reading,
        Figure(f"memory, {what}", "MB", cost.megabytes).at_most(MOST_MEGABYTES),
    ]


def run_figures(home: Path, answers: int, questions: int, runs: int) -> list[Figure]:
    """Add in many runs and merge after each of them, and look questions up."""
    merged = run_answers("runs", home, folder=str(home), count=answers, runs=runs)
    cost = look_up(home, "", 0, min(questions, answers), 1)
    assert cost.counts["any"] + cost.counts["rest"] == min(questions, answers)
    what = "after 1,000 runs"
    return [
        Figure(f"segments {what}", "", merged.counts["segments"]).at_most(MOST_SEGMENTS),
        Figure(f"CPU per run that adds and merges, {what}", "ms", merged.cpu_seconds / runs * 1e3),
        Figure("memory of adding and merging", "MB", merged.megabytes),
        *look_up_figures(what, cost, questions),
    ]


def compact_figures(home: Path, answers: int) -> list[Figure]:
    """Write the million anew."""
    cost = run_answers("compact", home, folder=str(home))
    assert cost.counts["answers"] == answers
    return [
        Figure("CPU per answer that is compacted", "µs", cost.cpu["compact"] / answers * 1e6),
        Figure("memory of compacting", "MB", cost.megabytes),
    ]
