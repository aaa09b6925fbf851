"""Did the run do what it was for?"""

from __future__ import annotations

import contextlib
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.errors import DemoError

if TYPE_CHECKING:
    from airflow_claude_batch.batch.land.rows import Row

SHOWN_ROWS = 3
#: Below the results folder stand DAG, run and task.
DEPTH = 3
SHOWN_CHARACTERS = 150


@dataclass(frozen=True, slots=True)
class Results:
    """What was asked, the rows that came back, and their manifest."""

    messages: Sequence[dict[str, str]]
    rows: Sequence[Row]
    manifest: dict[str, Any]

    @classmethod
    def read(cls, messages: Sequence[dict[str, str]], manifest: dict[str, Any]) -> Results:
        """Put the rows that the manifest names beside the messages."""
        from airflow_claude_batch.rows import read_rows  # takes Airflow's import time, while nobody waits for it

        return cls(messages, list(read_rows(manifest)), manifest)

    def check(self) -> None:
        """Return when every message has its answer, in order.

        :raises DemoError: says which has none.
        """
        asked = [message["key"] for message in self.messages]
        answered = [row.key for row in self.rows if row.status == "succeeded" and row.text]
        missing = [key for key in asked if key not in set(answered)]
        if missing:
            raise DemoError(f"{len(missing)} of {len(asked)} options have no answer: {', '.join(missing[:5])} ...")
        if asked != answered:
            raise DemoError("The answers are not in the order of the messages.")
        bounds, usd = self._bounds(), self._usd()
        if bounds and usd is not None and not bounds["lower"] <= usd <= bounds["upper"]:
            raise DemoError(f"The bill, ${usd}, is outside of what was estimated: {self.told_cost()}.")

    def told_cost(self) -> str | None:
        """The bill beside the estimate; None if a price is not known."""
        bounds, usd = self._bounds(), self._usd()
        if bounds is None or usd is None:
            return None
        least, expected, most = (f"${bounds[name]:.4f}" for name in ("lower", "expected", "upper"))
        return f"${usd:.4f}; before: {expected} expected, {least} to {most}"

    def _usd(self) -> Decimal | None:
        usd = (self.manifest["cost"] or {}).get("usd")
        return None if usd is None else Decimal(usd)

    def _bounds(self) -> dict[str, Decimal] | None:
        usd = (self.manifest["estimate"] or {}).get("usd")
        return usd and {name: Decimal(amount) for name, amount in usd.items()}

    def samples(self) -> list[tuple[str, str, str]]:
        """A few rows from all over the result: option, before, after."""
        step = max(1, len(self.rows) // SHOWN_ROWS)
        chosen = list(zip(self.messages, self.rows, strict=True))[::step][:SHOWN_ROWS]
        return [
            (message["key"], _shorten(message["prompt"].partition("\n\n")[2]), _shorten(row.text or ""))
            for message, row in chosen
        ]


def write_report(manifest: dict[str, Any], home: Path) -> Path:
    """Make the page over all submissions beside this one, as ``python -m airflow_claude_batch.report`` does.

    :raises DemoError: nothing was found.
    """
    from airflow_claude_batch.report import main

    page = home / "report.html"
    rows = Path(manifest["results_path"].removeprefix("file://"))
    root = rows.parents[DEPTH]
    with contextlib.redirect_stdout(io.StringIO()):
        if main([str(root), "-o", str(page)]):
            raise DemoError(f"No submission was found under {root}.")
    return page


def _shorten(text: str) -> str:
    return textwrap.shorten(text, SHOWN_CHARACTERS, placeholder=" ...")
