"""Did the run do what it was for?"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from demo.errors import DemoError

if TYPE_CHECKING:
    from airflow_claude_batch.batch.results import Row

SHOWN_ROWS = 3
SHOWN_CHARACTERS = 150


@dataclass(frozen=True, slots=True)
class Results:
    """What was asked, and the rows that came back."""

    messages: Sequence[dict[str, str]]
    rows: Sequence[Row]

    @classmethod
    def read(cls, messages: Sequence[dict[str, str]], manifest: dict[str, Any]) -> Results:
        """Put the rows that the manifest names beside the messages."""
        from airflow_claude_batch.rows import read_rows  # takes Airflow's import time, while nobody waits for it

        return cls(messages, list(read_rows(manifest)))

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

    def samples(self) -> list[tuple[str, str, str]]:
        """A few rows from all over the result: option, before, after."""
        step = max(1, len(self.rows) // SHOWN_ROWS)
        chosen = list(zip(self.messages, self.rows, strict=True))[::step][:SHOWN_ROWS]
        return [
            (message["key"], _shorten(message["prompt"].partition("\n\n")[2]), _shorten(row.text or ""))
            for message, row in chosen
        ]


def _shorten(text: str) -> str:
    return textwrap.shorten(text, SHOWN_CHARACTERS, placeholder=" ...")
