"""Keep what a sensor learns from poke to poke.

It is its own module because sensors import it when a DAG is parsed, so it must stay light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_claude_batch._airflow.user_end import UserEndCheck


class PokeMemory:
    """What a sensor remembers from poke to poke of one process. The sensor owns it.

    ``began_at`` is when this process began to poke. ``submission_id`` names what it waits for, None before the first
    poke. ``is_shown`` says that Airflow's UI has a snapshot of it. ``check`` tells who ended the task. ``logged_at`` is
    when the log last said how far the batches have come. ``refusals`` counts the pokes in a row whose credential was
    rejected, the first of them at ``refused_at``. Batches that could not be read are noted in the folder instead, for
    each poke may be a process of its own.
    """

    def __init__(self) -> None:
        self.began_at: datetime | None = None
        self.submission_id: str | None = None
        self.is_shown = False
        self.check: UserEndCheck | None = None
        self.logged_at: datetime | None = None
        self.refusals = 0
        self.refused_at: datetime | None = None
