"""Stop a task's work when its process is killed while a worker runs it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from airflow_claude_batch._airflow.supervisor import UninterruptedCalls
from airflow_claude_batch.api.client import ClaudeClient
from airflow_claude_batch.batch.cancel import cancel_batch

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClientConfig

log = logging.getLogger(__name__)

#: The supervisor sends SIGKILL soon after SIGTERM.
CANCEL_TIMEOUT_SECONDS: Final = 20.0
#: The interrupted code may hold the log's lock. The line is written later then.
LOG_TIMEOUT_SECONDS: Final = 0.5


class Killable(Protocol):
    """Work that can be stopped: a submission, or a collection of batches made elsewhere."""

    @property
    def open_batch_ids(self) -> tuple[str, ...]: ...

    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class RunningWork:
    """The work that a worker does for a task, and how to reach the API for it.

    :param will_run_again: returns True if another try will use the batches, False if a user ended the task. Raises if
        that cannot be told.
    :param calls: the main thread's calls to the supervisor, which a signal must not interrupt.
    """

    work: Killable
    config: ClientConfig
    will_run_again: Callable[[], bool]
    calls: UninterruptedCalls = field(default_factory=UninterruptedCalls)

    def kill(self, *, cancel: bool) -> None:
        """Stop sending. Cancel the running batches if ``cancel``, and if a user ended the task.

        Airflow ends a task's process in the same way when its heartbeats get no response, when the machine shuts down,
        when another try replaces one that hung, and when a worker wakes up whose task the scheduler has failed. Then
        the next try or a clear uses the batches.

        Airflow calls this in a signal handler, in the middle of whatever the task does, and the task continues
        afterwards. So the task must send nothing more, and the cancellation has a client and a thread of its own:
        the interrupted code may hold the locks of both.
        """
        self.work.stop()
        if cancel:
            self.calls.run_after(self._cancel_in_thread)
        elif self.work.open_batch_ids:
            _run_in_thread(self._log_that_batches_go_on, LOG_TIMEOUT_SECONDS)

    def _cancel_in_thread(self) -> None:
        if not _run_in_thread(self._cancel, CANCEL_TIMEOUT_SECONDS):
            log.warning(
                "Canceling took longer than %.0f s. Of these message batches, some keep running and are billed for "
                "what they answer: %s.",
                CANCEL_TIMEOUT_SECONDS,
                ", ".join(self.work.open_batch_ids),
            )

    def _log_that_batches_go_on(self) -> None:
        log.warning("This task is stopped from outside.\n%s", batches_go_on(self.work.open_batch_ids))

    def _cancel(self) -> None:
        if self._are_batches_wanted():
            return
        with ClaudeClient(self.config) as client:
            for batch_id in self.work.open_batch_ids:
                cancel_batch(client, batch_id)

    def _are_batches_wanted(self) -> bool:
        """Return True if another try will use the batches, or if that is not known."""
        batches = ", ".join(self.work.open_batch_ids)
        try:
            wanted = self.will_run_again()
        except Exception as error:
            log.warning(
                "Cannot tell whether a user ended this task (%s: %s). So these message batches keep running, for 24 "
                "hours at most, and are billed: %s. A retry or a clear of the task uses their answers.",
                type(error).__name__,
                error,
                batches,
            )
            return True
        if wanted:
            log.info(
                "No user ended this task. It continues, and so do its message batches %s.",
                batches,
            )
        return wanted


def batches_go_on(batch_ids: Collection[str]) -> str:
    """Say that message batches outlive their task, what that costs, and how to use or cancel them."""
    is_one = len(batch_ids) == 1
    go_on = "goes on, and is billed" if is_one else "go on, and are billed"
    return (
        f"Message batch{'' if is_one else 'es'} {', '.join(batch_ids)} {go_on}: cancel_on_kill is off. If the task was "
        f"ended, clear it to use what {'it answers' if is_one else 'they answer'}: that resumes the wait."
    )


def _run_in_thread(function: Callable[[], None], seconds: float) -> bool:
    """Run a function in a thread of its own; return whether it ended in time."""
    thread = threading.Thread(target=function, name="cancel-on-kill", daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()
