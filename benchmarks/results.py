"""Stores the results in the repository: one table, whose lines may have been measured on different days.

``results.json`` has the measurements, and ``RESULTS.md`` is generated from it. A run replaces the benchmarks that it
measured. The other ones keep their figures, date and environment.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.figures import COMMON_AI, OFFICIAL, SDK, BenchmarkResult, Figure

HERE = Path(__file__).parent
STORE, PAGE = HERE / "results.json", HERE / "RESULTS.md"
PEERS = (OFFICIAL, COMMON_AI, SDK)
PACKAGES = {
    "airflow-claude-batch": "airflow-claude-batch",
    "Airflow": "apache-airflow-core",
}
PEER_PACKAGES = ("apache-airflow-providers-anthropic", "apache-airflow-providers-common-ai", "anthropic")

#: Below this, a figure is noise, and a ratio to it means nothing.
LEAST = 0.05

HEAD = """\
# Performance, beside the peers

Written by `make bench`, which measures this package and its peers in one run. `make bench ONLY=land` measures one
benchmark again. `tenmillion` runs only when it is named: it takes an hour and 50 GB of disk.

- A peer's column says how many times our figure it took, with the peer's own figure in brackets.
- CPU is that of the measured process alone.
- Memory is its peak above the interpreter with its imports. For a parse and for a waiting task, it is what that adds.
- Each bound was set before anything was measured.
- A load average above the number of cores means that other work disturbed the run. CPU is then higher than without it,
  and lags mean nothing.
"""


@dataclass(frozen=True)
class Measurement:
    """The result of a benchmark, with the day and the environment."""

    day: date
    environment: str
    outcome: BenchmarkResult

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON."""
        return {"day": self.day.isoformat(), "environment": self.environment, **asdict(self.outcome)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Measurement:
        """Convert from JSON."""
        figures = tuple(Figure(**figure) for figure in value["figures"])
        return cls(date.fromisoformat(value["day"]), value["environment"], BenchmarkResult(value["checked"], figures))


def today(outcome: BenchmarkResult, peers: Path) -> Measurement:
    """Add today's date and this environment to a result. ``peers`` is the interpreter of the peers."""
    return Measurement(datetime.now(UTC).date(), environment(peers), outcome)


def environment(peers: Path, *more: str) -> str:
    """Describe what the figures depend on: versions (also of ``more`` packages), machine and load."""
    ours = [f"{name} {version(package)}" for name, package in PACKAGES.items()]
    packages = (*PEER_PACKAGES, *more)
    program = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    found = subprocess.run([peers, "-c", program, *packages], capture_output=True, text=True, check=True)
    theirs = [f"{name} {number}" for name, number in zip(packages, found.stdout.split(), strict=True)]
    python = f"Python {platform.python_version()}"
    machine = f"{os.cpu_count()} cores ({platform.machine()}), load average {os.getloadavg()[0]:.0f}"
    return ", ".join([*ours, python, *theirs, machine, platform.system()])


def read(store: Path = STORE) -> dict[str, Measurement]:
    """Read all measurements by the benchmark's name. Return none if nothing was measured yet."""
    if not store.exists():
        return {}
    return {name: Measurement.from_dict(value) for name, value in json.loads(store.read_bytes()).items()}


def merge(new: Mapping[str, Measurement], order: Sequence[str], store: Path = STORE, page: Path = PAGE) -> None:
    """Replace the measurements of the same names, and write the store and the page."""
    both = read(store) | dict(new)
    merged = {name: both[name] for name in order if name in both}
    store.write_text(
        json.dumps({name: one.to_dict() for name, one in merged.items()}, indent=1, ensure_ascii=False) + "\n"
    )
    page.write_text(draw(merged))


def draw(measurements: Mapping[str, Measurement]) -> str:
    """Draw the whole page."""
    checks = "\n".join(f"- **{name}**: {one.outcome.checked}" for name, one in measurements.items())
    return (
        f"{HEAD}\n{table(measurements)}\n\n## How it was measured\n\n{checks}\n\n## Where\n\n{places(measurements)}\n"
    )


def table(measurements: Mapping[str, Measurement]) -> str:
    """Draw the table with the lines of all benchmarks."""
    lines = ["| | ours | " + " | ".join(PEERS) + " | bound | met | measured |", "|---" * (len(PEERS) + 5) + "|"]
    for name, one in measurements.items():
        lines += [f"| {name}: {' | '.join([*cells(figure), one.day.isoformat()])} |" for figure in one.outcome.figures]
    return "\n".join(lines)


def cells(figure: Figure) -> list[str]:
    """Draw the cells of one line, without the day."""
    met = {None: "", True: "yes", False: "**no**"}[figure.met]
    peers = [beside(figure, figure.peers[name]) if name in figure.peers else "" for name in PEERS]
    return [figure.what, amount(figure.ours, figure.unit), *peers, figure.bound, met]


def beside(figure: Figure, peer: float) -> str:
    """Write a peer's figure, and how many times ours it is."""
    taken = amount(peer, figure.unit)
    return f"{number(peer / figure.ours)}x ({taken})" if figure.ours >= LEAST else taken


def amount(value: float, unit: str) -> str:
    """Write a figure with its unit."""
    return f"{number(value)} {unit}".rstrip().replace(" x", "x")


def number(value: float) -> str:
    """Write a number with three digits: such measurements are not more precise."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def places(measurements: Mapping[str, Measurement]) -> str:
    """List each environment, with the benchmarks that ran in it."""
    by_place: dict[tuple[date, str], list[str]] = {}
    for name, one in measurements.items():
        by_place.setdefault((one.day, one.environment), []).append(name)
    return "\n".join(f"- {day}, {', '.join(names)}: {place}" for (day, place), names in by_place.items())
