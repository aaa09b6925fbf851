"""What happens when a task is killed while a worker runs it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from airflow_claude_batch.api.client import ClaudeClient
from airflow_claude_batch.batch.cancel import cancel_batch

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClientConfig

log = logging.getLogger(__name__)

#: The supervisor kills for good soon after it has asked nicely.
CANCEL_SECONDS: Final = 20.0


class Killable(Protocol):
    """What may be under way."""

    @property
    def open_batch_ids(self) -> tuple[str, ...]: ...

    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class RunningWork:
    """What a worker is doing for a task, and how to reach the API for it.

    :param is_wanted: whether the task instance goes on, be it in another try; raises if that cannot be told.
    """

    work: Killable
    config: ClientConfig
    is_wanted: Callable[[], bool]

    def kill(self, *, cancel: bool) -> None:
        """Stop sending; cancel what is open if so asked, and if the task was ended by hand.

        Airflow ends a task's process in the same way when its heartbeats find no answer, when the machine is shut
        down, and when another try has taken over from one that stood still: then the batches are waited for.

        Airflow calls this in a signal's handler, on top of whatever the task was doing, and lets it go on afterwards.
        So the task is told to send nothing more, and the cancellation has a client and a thread of its own: the
        interrupted one may hold the locks of both.
        """
        self.work.stop()
        if not cancel:
            return
        thread = threading.Thread(target=self._cancel, name="cancel-on-kill", daemon=True)
        thread.start()
        thread.join(CANCEL_SECONDS)
        if thread.is_alive():
            log.warning(
                "Canceling %s takes too long; what is not canceled goes on", ", ".join(self.work.open_batch_ids)
            )

    def _cancel(self) -> None:
        if self._is_still_wanted():
            return
        with ClaudeClient(self.config) as client:
            for batch_id in self.work.open_batch_ids:
                cancel_batch(client, batch_id)

    def _is_still_wanted(self) -> bool:
        """Not knowing counts as yes: the next try goes on with the batches, and canceled ones would be lost to it."""
        batches = ", ".join(self.work.open_batch_ids)
        try:
            wanted = self.is_wanted()
        except Exception as error:
            log.warning("Could not tell whether this task was ended by hand (%r): %s may go on", error, batches)
            return True
        if wanted:
            log.info("This process is ended, and the task goes on: so do its message batches %s", batches)
        return wanted
