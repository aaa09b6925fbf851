"""Measures the overview in Airflow's UI: the api-server's CPU for a page of many submissions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figures import BenchmarkResult, Figure, Scope

ROOT = Path(__file__).parents[1]
FEW, MANY, OTHERS = 1_000, 5_000, 100_000
#: What a page of the overview lists at most.
LINES = 100
MOST_MILLISECONDS = 1_000


def serve(submissions: int, others: int) -> dict[str, Any]:
    """Serve pages in a process of its own, with a new database in SQLite."""
    with tempfile.TemporaryDirectory(prefix="overview-") as home:
        settings = {
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
        }
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.overview_role", str(submissions), str(others)]
        run = subprocess.run(command, capture_output=True, check=True, env=os.environ | settings)
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def measure(scope: Scope) -> BenchmarkResult:
    """Ask for the overview with 1,000 and with 5,000 submissions."""
    figures: list[Figure] = []
    for submissions in (FEW, MANY):
        found = serve(scope.of(submissions), scope.of(OTHERS))
        assert found["lines"] == min(LINES, scope.of(submissions)), found
        first, *later = (seconds * 1e3 for seconds in found["seconds"])
        figures += [
            Figure(f"first page of {submissions:,} submissions, CPU", "ms", first).at_most(MOST_MILLISECONDS),
            Figure(f"each page after it, of {submissions:,}, CPU", "ms", median(later)).at_most(MOST_MILLISECONDS),
        ]
    return BenchmarkResult(
        f"The overview in Airflow's UI, from SQLite with the submissions and {OTHERS:,} XComs of other tasks. The "
        "first page of a process reads the templates too. A page reads at most 1,000 task instances, however many "
        "there are. Checked: that the page lists 100 submissions.",
        tuple(figures),
    )
