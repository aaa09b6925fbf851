"""The trigger that waits for message batches in Airflow's triggerer.

Its class path and keyword arguments are stored in Airflow's database and outlive upgrades: they are JSON, only ever
added to, and unknown ones are ignored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_claude_batch._airflow.compat import ON_KILL_SUPPORTED, supervisor_call
from airflow_claude_batch._airflow.metrics import StatsObserver
from airflow_claude_batch._airflow.task_state import will_run_again
from airflow_claude_batch.api.client import AsyncClaudeClient
from airflow_claude_batch.batch.wait.schedule import PollErrorKind, WaitFor, classify_error
from airflow_claude_batch.batch.wait.wait_result import WaitResult
from airflow_claude_batch.batch.wait.watcher import Watcher, watcher_for
from airflow_claude_batch.exceptions import APIError, BadRequestError, NotFoundError
from airflow_claude_batch.hooks import ClaudeHook

#: With the LocalExecutor, a task whose trigger fires 3 to 6 s after it deferred may be marked failed: the scheduler
#: then sees its first process end while it is queued again (Airflow 3.3.2, [workers] min_heartbeat_interval).
STARTUP_DELAY_SECONDS: Final = 10.0
#: Airflow 3.3 gives on_kill 30 s ([triggerer] on_kill_timeout). The first question that a triggerer's supervisor is
#: asked takes it seconds, many of them on a busy machine.
KILL_SECONDS: Final = 28.0
STATE_SECONDS: Final = 20.0
#: Before 3.3 the question is asked while the triggerer may be stopping, and then nobody answers it.
STATE_SECONDS_WHEN_CANCELED: Final = 3.0
CANCEL_PAUSE_SECONDS: Final = 2.0
#: A message batch expires this long after its creation (batch-processing docs, 2026-10-08).
LIFETIME: Final = timedelta(hours=24)


class MessageBatchTrigger(BaseTrigger):
    """Fire once, when message batches have ended or the time to wait for them is over.

    :param claude_conn_id: the connection.
    :param batch_ids: what to wait for; none for a mere timer.
    :param open_batch_ids: what to cancel when the task is killed; None for those waited for.
    :param wait_for: ``all`` or ``any`` of them.
    :param poll_interval: the most seconds between two looks; young batches are looked at more often.
    :param until: when to stop waiting, ISO 8601 with an offset; None for never.
    :param cancel_on_kill: cancel the batches when somebody ends the deferred task by hand.
    :param submitted_at: when the oldest batch was submitted, ISO 8601; saves calls.
    """

    def __init__(
        self,
        claude_conn_id: str,
        *,
        batch_ids: list[str],
        open_batch_ids: list[str] | None = None,
        wait_for: WaitFor = "all",
        poll_interval: float = 60.0,
        until: str | None = None,
        cancel_on_kill: bool = False,
        submitted_at: str | None = None,
        **_ignored: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's
        self.claude_conn_id = claude_conn_id
        self.batch_ids = list(batch_ids)
        self.open_batch_ids = self.batch_ids if open_batch_ids is None else list(open_batch_ids)
        self.wait_for: WaitFor = wait_for
        self.poll_interval = poll_interval
        self.until = until
        self.cancel_on_kill = cancel_on_kill
        self.submitted_at = submitted_at
        self._done = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and arguments, which Airflow keeps in its database."""
        return (
            "airflow_claude_batch.triggers.MessageBatchTrigger",
            {
                "claude_conn_id": self.claude_conn_id,
                "batch_ids": self.batch_ids,
                "open_batch_ids": self.open_batch_ids,
                "wait_for": self.wait_for,
                "poll_interval": self.poll_interval,
                "until": self.until,
                "cancel_on_kill": self.cancel_on_kill,
                "submitted_at": self.submitted_at,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event: a :class:`~airflow_claude_batch.batch.wait.wait_result.WaitResult` as JSON."""
        try:
            wake = await self._wait()
        except asyncio.CancelledError:
            if not ON_KILL_SUPPORTED:
                await self._end_batches(STATE_SECONDS_WHEN_CANCELED)
            raise
        except Exception as error:
            self.log.exception("Waiting for message batches %s broke", ", ".join(map(str, self.batch_ids)))
            wake = WaitResult.failed(f"{type(error).__name__}: {error}", error, {})
        self._done = True
        self._log_wake(wake)
        yield TriggerEvent(wake.to_event())  # type: ignore[no-untyped-call]  # Airflow's

    async def on_kill(self) -> None:
        """Cancel the batches if a user ended the task, and ``cancel_on_kill`` says so. Airflow 3.3+ calls it.

        It also calls it after a clear, when the new try already waits for the same batches, and on a triggerer that
        was paused for so long that another took its triggers over: so the task's state decides.
        """
        await self._end_batches(STATE_SECONDS)

    # ------------------------------------------------------------------ waiting

    async def _wait(self) -> WaitResult:
        self._log_begin()
        if self.task_instance is not None:  # dag.test() has none, and no executor either
            # Who asks the supervisor now need not wait for it to get ready when the task is killed.
            await asyncio.gather(asyncio.sleep(STARTUP_DELAY_SECONDS), self._watcher().prepare())
        return await self._watcher().wait(
            self.batch_ids,
            wait_for=self.wait_for,
            poll_interval=self.poll_interval,
            until=_time(self.until),
            created_at=_time(self.submitted_at),
            tell=self.log.log,
        )

    def _watcher(self) -> Watcher:
        conn_id = self.claude_conn_id

        async def connect() -> AsyncClaudeClient:
            config = await ClaudeHook(conn_id).get_async_config()
            return AsyncClaudeClient(replace(config, max_retries=0))

        return watcher_for(conn_id, connect, observer=StatsObserver())

    def _log_begin(self) -> None:
        submitted_at = _time(self.submitted_at)
        parts = [
            f"Waiting for {self.wait_for} of these message batches: {', '.join(self.batch_ids)}"
            if self.batch_ids
            else "Waiting",
            f"they expire after {submitted_at + LIFETIME}" if submitted_at and self.batch_ids else "",
            f"waiting ends at {self.until}" if self.until else "",
        ]
        self.log.info("%s.", "; ".join(filter(None, parts)))

    def _log_wake(self, wake: WaitResult) -> None:
        if wake.status == "due":
            self.log.info("The time to wait (%s) is over.", self.until)
        if wake.error:
            self.log.error("%s", wake.error)

    # ------------------------------------------------------------------ being killed

    async def _end_batches(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        if self._done or not self.cancel_on_kill or not self.open_batch_ids or await self._still_wanted(seconds):
            return
        self._done = True
        left = began_at + KILL_SECONDS - loop.time()
        await asyncio.gather(*(self._cancel(batch_id, left) for batch_id in self.open_batch_ids))

    async def _still_wanted(self, seconds: float) -> bool:
        """Whether the task instance goes on. Not knowing counts as yes: a batch canceled by mistake was paid for."""
        if self.task_instance is None:
            return True
        try:
            return await asyncio.wait_for(supervisor_call(will_run_again, self.task_instance), seconds)
        except Exception as error:
            self.log.warning(
                "Could not tell whether this task was ended by hand (%r), so message batches %s are left to go on.",
                error,
                ", ".join(self.open_batch_ids),
            )
            return True

    async def _cancel(self, batch_id: str, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._cancel_persistently(batch_id)
        except (BadRequestError, NotFoundError) as error:
            self.log.warning("Message batch %s needs no canceling, or cannot be canceled any more: %s", batch_id, error)
        except Exception:
            self.log.exception(
                "Message batch %s could not be canceled: it goes on, for 24 hours at most, and every request that it "
                "answers is billed. Cancel it in the Claude Console, or clear the task to use its answers.",
                batch_id,
            )
        else:
            self.log.warning(
                "Canceled message batch %s, because the task was ended by hand. What was answered by then is billed, "
                "and is there for the next try; the rest is neither.",
                batch_id,
            )

    async def _cancel_persistently(self, batch_id: str) -> None:
        while True:
            try:
                await self._watcher().cancel(batch_id)
            except APIError as error:
                if classify_error(error) is not PollErrorKind.OUTAGE:
                    raise
                self.log.warning("Canceling message batch %s: %s Trying again.", batch_id, error)
                await asyncio.sleep(CANCEL_PAUSE_SECONDS)
            else:
                return


def _time(text: str | None) -> datetime | None:
    """Read a time; one without an offset is UTC."""
    time = datetime.fromisoformat(text) if text else None
    return time.replace(tzinfo=UTC) if time and time.tzinfo is None else time
