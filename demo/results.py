"""The results of the run: checks them, and summarizes them for the screen."""

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
#: Folders between the results folder and the rows: DAG, run and task.
FOLDER_DEPTH = 3
SHOWN_CHARACTERS = 150


@dataclass(frozen=True, slots=True)
class Results:
    """The messages that were sent, the rows that came back, and their manifest."""

    messages: Sequence[dict[str, str]]
    rows: Sequence[Row]
    manifest: dict[str, Any]

    @classmethod
    def read(cls, messages: Sequence[dict[str, str]], manifest: dict[str, Any]) -> Results:
        """Read the rows that the manifest names."""
        from airflow_claude_batch.rows import read_rows  # imports Airflow, which takes seconds

        return cls(messages, list(read_rows(manifest)), manifest)

    def check(self) -> None:
        """Check that every message has its answer, in order, and that the bill is within the estimate.

        :raises DemoError: when one of these is not true.
        """
        asked = [message["key"] for message in self.messages]
        answered = [row.key for row in self.rows if row.status == "succeeded" and row.text]
        missing = [key for key in asked if key not in set(answered)]
        if missing:
            raise DemoError(
                f"{len(missing)} of {len(asked)} options have no answer, for example {', '.join(missing[:5])}."
            )
        if asked != answered:
            raise DemoError("The answers are not in the order of the messages.")
        bounds, usd = self._bounds(), self._usd()
        if bounds and usd is not None and not bounds["lower"] <= usd <= bounds["upper"]:
            raise DemoError(f"The cost is outside of the estimate. {self.cost_summary()}")

    def cost_summary(self) -> str | None:
        """Compare the cost with the estimate. None: a price is unknown."""
        bounds, usd = self._bounds(), self._usd()
        if bounds is None or usd is None:
            return None
        lower, expected, upper = (f"${bounds[name]:.4f}" for name in ("lower", "expected", "upper"))
        return (
            f"Cost of the tokens used: ${usd:.4f}. Estimate before sending: {expected} (between {lower} and {upper})."
        )

    def _usd(self) -> Decimal | None:
        usd = (self.manifest["cost"] or {}).get("usd")
        return None if usd is None else Decimal(usd)

    def _bounds(self) -> dict[str, Decimal] | None:
        usd = (self.manifest["estimate"] or {}).get("usd")
        return usd and {name: Decimal(amount) for name, amount in usd.items()}

    def samples(self) -> list[tuple[str, str, str]]:
        """Choose a few rows from the whole result: option, before, after."""
        step = max(1, len(self.rows) // SHOWN_ROWS)
        chosen = list(zip(self.messages, self.rows, strict=True))[::step][:SHOWN_ROWS]
        return [
            (message["key"], _shorten(message["prompt"].partition("\n\n")[2]), _shorten(row.text or ""))
            for message, row in chosen
        ]


def write_report(manifest: dict[str, Any], home: Path) -> Path:
    """Write the report of all submissions of this Airflow, as ``python -m airflow_claude_batch.report`` does.

    :raises DemoError: when no submission was found.
    """
    from airflow_claude_batch.report import main

    page = home / "report.html"
    rows = Path(manifest["results_path"].removeprefix("file://"))
    root = rows.parents[FOLDER_DEPTH]
    with contextlib.redirect_stdout(io.StringIO()):
        if main([str(root), "-o", str(page)]):
            raise DemoError(f"There is no submission in {root}.")
    return page


def _shorten(text: str) -> str:
    return textwrap.shorten(text, SHOWN_CHARACTERS, placeholder=" ...")
