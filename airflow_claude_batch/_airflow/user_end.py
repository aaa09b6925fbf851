"""Tell whether a user ended a task, or the scheduler gave it up because its worker sent no heartbeats.

Both look the same to a worker that wakes up, on every Airflow from 3.0.6 to 3.4: the state is ``failed``, the next
heartbeat gets 404, 409 or 410, and the supervisor sends SIGTERM to the task's process. What differs is the time before.
The scheduler gives up a task only when it got no heartbeat for ``[scheduler] task_instance_heartbeat_timeout`` seconds.
The process that sends heartbeats also passes on the questions of the task. So if Airflow answered shortly before the
task's end that it is running, a user ended it.

A machine that was suspended may wake up with clocks that stood still. So the end of the task is also taken from
Airflow's servers (3.2 and newer), and clocks that disagree prove nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from airflow_claude_batch._airflow.compat import heartbeat_timeout
from airflow_claude_batch._airflow.supervisor import UninterruptedCalls
from airflow_claude_batch._airflow.task_state import UNFINISHED_STATES, ended_at, state_of

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.compat import TaskInstance

log = logging.getLogger(__name__)

#: Share of the heartbeat timeout for which an answer counts. The rest is for the time between two heartbeats, and for
#: the difference between the clocks of two machines.
_RECENT: Final = 0.75
#: Share of the heartbeat timeout after which Airflow is asked again.
_INTERVAL: Final = 0.125


class UnknownEndError(Exception):
    """Cannot tell who ended the task. A batch that is canceled by mistake is lost money, so none is."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The time on two clocks, because each may be wrong: one can be set, the other may stand still.

    :param elapsed: seconds since the machine started, where possible with the time it was suspended.
    """

    wall: datetime
    elapsed: float

    @classmethod
    def now(cls) -> Moment:
        clock = getattr(time, "CLOCK_BOOTTIME", None)
        return cls(datetime.now(UTC), time.monotonic() if clock is None else time.clock_gettime(clock))

    def seconds_until(self, other: Moment) -> float:
        """Return the longer time of the two clocks. A wall clock that was set back counts like one set forward."""
        return max(abs((other.wall - self.wall).total_seconds()), other.elapsed - self.elapsed)


class UserEndCheck:
    """Remembers when Airflow last confirmed that the task is running, and decides by that who ended it.

    Example::

        check = UserEndCheck.of(context["ti"])
        check.sleep(60)  # asks Airflow now and then
        if not check.will_run_again():  # in on_kill
            ...  # a user ended the task

    :param state: asks Airflow for the task's state.
    :param ended_at: asks Airflow when the task ended, by the clock of its servers. None if that is not known.
    :param timeout: seconds without a heartbeat after which the scheduler fails a running task.
    """

    def __init__(
        self,
        state: Callable[[], str | None],
        ended_at: Callable[[], datetime | None],
        timeout: float,
        *,
        now: Callable[[], Moment] = Moment.now,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._state = state
        self._ended_at = ended_at
        self._timeout = timeout
        self._now = now
        self._sleep = sleep
        self._confirmed: Moment | None = None
        self.calls = UninterruptedCalls()

    @classmethod
    def of(cls, ti: TaskInstance) -> UserEndCheck:
        return cls(partial(state_of, ti), partial(ended_at, ti), heartbeat_timeout())

    def confirm_running(self) -> None:
        """Ask Airflow whether the task is running, unless it said so a moment ago. Must run in the main thread.

        Before 3.2 two threads must not talk to the supervisor at once.
        """
        now = self._now()
        if self._confirmed is not None and self._confirmed.seconds_until(now) < self._timeout * _INTERVAL:
            return
        try:
            with self.calls.running():
                if self._state() == "running":
                    self._confirmed = now  # the time of the question: the process may have stood still since
        except Exception as error:  # the supervisor's client raises many types
            log.debug("Could not ask Airflow for the state of this task: %r", error)

    def sleep(self, seconds: float) -> None:
        """Sleep, and ask Airflow now and then."""
        interval = max(self._timeout * _INTERVAL, 1.0)
        while seconds > 0:
            pause = min(seconds, interval)
            self._sleep(pause)
            seconds -= pause
            self.confirm_running()

    def will_run_again(self) -> bool:
        """Return True if the task instance continues, in this try or another; False if a user ended it.

        :raises UnknownEndError: it ended, but the scheduler may have failed it because heartbeats were missing.
        """
        if self._state() in UNFINISHED_STATES:
            return True
        if self._confirmed is None:
            raise UnknownEndError("Airflow never confirmed to this worker that the task was running")
        silence = self._confirmed.seconds_until(self._now())
        if (end := self._ended_at()) is not None:
            silence = max(silence, abs((end - self._confirmed.wall).total_seconds()))
        if silence > self._timeout * _RECENT:
            raise UnknownEndError(
                f"Airflow confirmed {silence:.0f} s earlier that it was running, and the scheduler itself fails a task "
                f"without heartbeats after {self._timeout:.0f} s"
            )
        return False
