"""What a process remembers of an attempt from one landing to the next, beside the ledger."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_claude_batch.batch.direct.memory import DirectMemory


@dataclass(slots=True, kw_only=True)
class AttemptMemory:
    """What a process remembers of an attempt. A process that goes on later begins anew, at no cost.

    :ivar is_old: nothing was sent or open, and no answer was reused, since this process took the attempt up.
    :ivar copies_looked_for: landed batches of whose create calls second batches were looked for.
    """

    direct: DirectMemory
    is_old: bool = True
    copies_looked_for: frozenset[str] = frozenset()
