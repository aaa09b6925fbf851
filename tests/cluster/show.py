"""What is printed: lines with the seconds since the start, and the tables at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.havoc import Havoc

HEADINGS = ("DAG", "runs", "tasks", "green", "requests", "batches", "billed once", "rows right")


class Show:
    """Prints as it goes."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def row(self, what: str, value: object = "") -> None:
        print(f"{time.monotonic() - self._began:5.0f} s  {what:<62}{value}".rstrip(), flush=True)

    def table(self, lines: Sequence[Sequence[str]]) -> None:
        """A line per DAG."""
        for line in (HEADINGS, *lines):
            print("  " + f"{line[0]:<12}" + "".join(f"{cell:>13}" for cell in line[1:]), flush=True)

    def havoc(self, script: Havoc) -> None:
        """What has gone wrong, and how often."""
        kills = sum(count for name, count in script.done.items() if name.startswith(("kill", "freeze")))
        self.row("processes killed or frozen; faults in the network", f"{kills}; {script.faults}")
        for name, count in sorted(script.done.items()):
            print(f"  {name:<40}{count:>5}", flush=True)
        for name, count in sorted(script.in_vain.items()):
            print(f"  {name + ', but there was nothing to do it to':<60}{count:>5}", flush=True)
