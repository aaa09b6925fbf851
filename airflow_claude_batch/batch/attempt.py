"""One try of a task instance, as Airflow describes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec

from airflow_claude_batch.batch.ledger.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a task instance.

    :param submission_id: names the task instance; the same for all of its tries.
    :param try_number: Airflow's number of the try.
    :param generation: number that grows with most clears of the task, but not with its retries.
    :param now: when the attempt begins. Its timeout counts from here.
    :param clear_mark: what changes with every clear, but not with a retry: its kind, a space and its value. None if
        this Airflow has none.
    """

    submission_id: str
    try_number: int
    generation: int
    now: datetime
    clear_mark: str | None = None

    def follows_clear(self, known: Ledger) -> bool:
        """Return True if the task was cleared since the known attempt. If that is not certain, it was a retry.

        A retry that counts as a clear would pay for everything again.
        """
        if known.generation != self.generation:
            return True
        if known.clear_mark is msgspec.UNSET or self.clear_mark is None:
            return False
        kind, _, mark = self.clear_mark.partition(" ")
        known_kind, _, known_mark = known.clear_mark.partition(" ")
        return kind == known_kind and mark != known_mark
