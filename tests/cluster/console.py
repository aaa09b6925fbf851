"""The output: lines with the seconds since the start, and tables at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.disruptions import Disruptions

HEADINGS = ("DAG", "runs", "tasks", "succeeded", "requests", "batches", "billed once", "rows correct")


class Console:
    """Prints lines and tables."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def row(self, label: str, value: object = "") -> None:
        print(f"{time.monotonic() - self._began:5.0f} s  {label:<62}{value}".rstrip(), flush=True)

    def table(self, lines: Sequence[Sequence[str]]) -> None:
        """Print one line per DAG."""
        for line in (HEADINGS, *lines):
            print("  " + f"{line[0]:<12}" + "".join(f"{cell:>13}" for cell in line[1:]), flush=True)

    def disruptions(self, disruptions: Disruptions) -> None:
        """Print how often each disruption happened."""
        kills = sum(count for name, count in disruptions.done.items() if name.startswith(("kill", "freeze")))
        self.row("processes killed or frozen; network faults", f"{kills}; {disruptions.faults}")
        for name, count in sorted(disruptions.done.items()):
            print(f"  {name:<40}{count:>5}", flush=True)
        for name, count in sorted(disruptions.skipped.items()):
            print(f"  {name + ', skipped: no suitable process or task':<60}{count:>5}", flush=True)
