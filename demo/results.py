"""The results of the run: checks them, and summarizes them for the screen."""

from __future__ import annotations

import contextlib
import io
import sqlite3
import textwrap
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.errors import DemoError

if TYPE_CHECKING:
    from airflow_claude_batch.batch.land.rows import Row

#: The first rows of the table that the DAG read, with what it wrote beside them.
SAMPLE_QUERY = (
    "SELECT name, description, explanation, usd"
    " FROM airflow_options JOIN airflow_options_explained USING (name) ORDER BY name LIMIT 5"
)
#: Folders between the results folder and the rows: DAG, run and task.
FOLDER_DEPTH = 3
SHOWN_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Results:
    """The names in the table that was read, the rows that came back, and the names in the table that was written.

    :param warehouse: the SQLite database with both tables.
    """

    warehouse: Path
    asked: Sequence[str]
    rows: Sequence[Row]
    loaded: Sequence[str]
    manifest: dict[str, Any]

    @classmethod
    def read(cls, warehouse: Path, manifest: dict[str, Any]) -> Results:
        """Read both tables, and the rows that the manifest names."""
        from airflow_claude_batch.rows import read_rows  # imports Airflow, which takes seconds

        asked, loaded = (
            [name for (name,) in _select(warehouse, f"SELECT name FROM {table} ORDER BY name")]  # noqa: S608  no input
            for table in ("airflow_options", "airflow_options_explained")
        )
        return cls(warehouse, asked, list(read_rows(manifest)), loaded, manifest)

    def check(self) -> None:
        """Check that every option has its answer, in order and in the table, and that the bill is within the estimate.

        :raises DemoError: when one of these is not true.
        """
        answered = [row.key for row in self.rows if row.status == "succeeded" and row.text]
        self._check_complete("have no answer", set(answered))
        self._check_complete("are not in the table that was written", set(self.loaded))
        if self.asked != answered:
            raise DemoError("The answers are not in the order of the table.")
        bounds, usd = self._bounds(), self._usd()
        if bounds and usd is not None and not bounds["lower"] <= usd <= bounds["upper"]:
            raise DemoError(f"The cost is outside of the estimate. {self.cost_summary()}")

    def _check_complete(self, problem: str, found: set[str]) -> None:
        missing = [name for name in self.asked if name not in found]
        if missing:
            raise DemoError(f"{len(missing)} of {len(self.asked)} options {problem}, such as {', '.join(missing[:5])}.")

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

    def samples(self) -> list[list[str]]:
        """Return the rows of :data:`SAMPLE_QUERY`, with long texts cut."""
        found = _select(self.warehouse, SAMPLE_QUERY)
        return [[*map(_shorten, texts), f"{usd:.7f}"] for *texts, usd in found]


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


def _select(database: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def _shorten(text: str) -> str:
    return textwrap.shorten(text, SHOWN_CHARACTERS, placeholder=" ...")
