"""Remember how long the message batches of a task took, and what its runs used, so that people know what to expect.

One small file for each task. It is only for log lines and expectations: whatever is wrong with it, nobody waits or
fails because of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.money.run_history import Run, add_run

log = logging.getLogger(__name__)

HISTORY_FILE: Final = "history.json"
#: How many of the last batches are remembered.
MOST_BATCHES: Final = 20
#: The API ends a batch within 24 hours. A longer time is a wrong clock.
LONGEST_SECONDS: Final = 25 * 3600.0


class History(msgspec.Struct, frozen=True, kw_only=True):
    """How long the last message batches of a task took, by the API's clock, and what its last runs used.

    Example: ``History(seconds=(720.0, 2400.0)).shortest`` is 720.0.
    """

    #: From the creation of a batch to its end. The oldest first.
    seconds: tuple[Annotated[float, msgspec.Meta(gt=0, le=LONGEST_SECONDS)], ...] = ()
    version: int = 1
    #: Not stored while there are none. Versions before did not have them, and leave them out when they write.
    known_runs: tuple[Run, ...] | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="runs")

    @property
    def runs(self) -> tuple[Run, ...]:
        """The last runs, the oldest first."""
        return self.known_runs or ()

    @property
    def shortest(self) -> float:
        return min(self.seconds)

    @property
    def longest(self) -> float:
        return max(self.seconds)

    def with_batches(self, seconds: Iterable[float]) -> History:
        """Add batches that ended now, and forget the oldest ones."""
        valid = [each for each in seconds if 0 < each <= LONGEST_SECONDS]
        return msgspec.structs.replace(self, seconds=(*self.seconds, *valid)[-MOST_BATCHES:])

    def with_run(self, run: Run) -> History:
        """Add a run that ended now, and forget the oldest one."""
        return msgspec.structs.replace(self, known_runs=add_run(self.runs, run))


def load_history(folder: storage.Folder) -> History:
    """Read a task's history; empty if there is none, or it cannot be read."""
    try:
        data = storage.read(folder, HISTORY_FILE)
        return msgspec.json.decode(data, type=History) if data else History()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        log.debug("%s cannot be read, so it begins anew: %s", folder.uri(HISTORY_FILE), error)
        return History()


def add_to_history(folder: storage.Folder, seconds: Iterable[float] = (), run: Run | None = None) -> None:
    """Add batches, or a run, that ended now. Of two tasks that do so at once, one may be forgotten."""
    known = load_history(folder)
    new = known.with_batches(seconds)
    new = new if run is None else new.with_run(run)
    if new == known:
        return
    try:
        storage.write(folder, HISTORY_FILE, msgspec.json.encode(new))
    except OSError as error:
        log.debug("%s could not be written: %s", folder.uri(HISTORY_FILE), error)
