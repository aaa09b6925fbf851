"""Wait for message batches in Airflow's triggerer, without occupying a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from airflow_claude_batch._airflow.compat import ON_KILL_SUPPORTED, BaseTrigger, TriggerEvent
from airflow_claude_batch._airflow.metrics import StatsObserver
from airflow_claude_batch._airflow.on_kill import batches_go_on
from airflow_claude_batch._airflow.supervisor import supervisor_call
from airflow_claude_batch._airflow.task_state import will_run_again
from airflow_claude_batch._airflow.times import time_in_words
from airflow_claude_batch.api.client import AsyncClaudeClient
from airflow_claude_batch.api.evidence import Proof, proof_of
from airflow_claude_batch.api.limits import BATCH_LIFETIME
from airflow_claude_batch.batch.storable_json import storable_names
from airflow_claude_batch.batch.wait.progress import Known, usual_in_words
from airflow_claude_batch.batch.wait.registry import WATCHERS
from airflow_claude_batch.batch.wait.schedule import WaitFor
from airflow_claude_batch.batch.wait.wait_result import WaitResult
from airflow_claude_batch.batch.wait.watcher import Watcher
from airflow_claude_batch.events import MessageBatchEndedTrigger
from airflow_claude_batch.exceptions import APIError, BadRequestError, ClaudeBatchError
from airflow_claude_batch.hooks import ClaudeHook

__all__ = ["MessageBatchEndedTrigger", "MessageBatchTrigger"]

#: With the LocalExecutor, a task whose trigger fires 3 to 6 s after it deferred may be marked failed: the scheduler
#: then sees its first process end while it is queued again (Airflow 3.3.2, [workers] min_heartbeat_interval).
STARTUP_DELAY_SECONDS: Final = 10.0
#: The time for on_kill, of which Airflow 3.3 grants 30 s ([triggerer] on_kill_timeout).
ON_KILL_TIMEOUT_SECONDS: Final = 28.0
#: The time to look up the task's state. A supervisor's first lookup takes seconds, many of them on a busy machine.
TASK_STATE_TIMEOUT_SECONDS: Final = 20.0
#: Before 3.3 the lookup is made while the triggerer may be shutting down, and then it gets no reply.
TASK_STATE_TIMEOUT_ON_SHUTDOWN_SECONDS: Final = 3.0
CANCEL_RETRY_SECONDS: Final = 2.0
SECOND: Final = timedelta(seconds=1)


class MessageBatchTrigger(BaseTrigger):
    """Fire one event when message batches have ended, or the deadline has passed.

    All triggers of a connection in a triggerer share one client and poll together.

    Airflow stores the class path and the keyword arguments in its database, so that any triggerer can continue the
    wait after a restart or an upgrade. They are JSON and hold ids, times and options, but no secret. Later versions
    may only add arguments, and unknown arguments are ignored, so that triggers of other versions can still be read.

    :param claude_conn_id: the connection.
    :param batch_ids: the message batches to wait for. Without any, the trigger is a timer.
    :param open_batch_ids: the message batches to cancel when the task is killed. None: those waited for.
    :param wait_for: ``all`` or ``any`` of them.
    :param poll_interval: the longest interval between two polls, in seconds or as a timedelta. Young batches are polled
        more often.
    :param until: the deadline, ISO 8601 with an offset. None: no deadline.
    :param cancel_on_kill: cancel the batches when a user ends the deferred task.
    :param submitted_at: when the oldest batch was submitted, ISO 8601. It saves API calls.
    :param unconfirmed_batch_ids: those that an earlier wait reported as ended although they were not. They are polled
        one by one, and not at once.
    :param known: what the task knows of its other batches, for the log.
    :param later_iteration: a later iteration of the task's loop may exist (Airflow 3.4). Airflow tells its state
        instead of the task's, so nothing is canceled on a kill.

    Example, in an operator::

        def execute(self, context):
            trigger = MessageBatchTrigger("claude_default", batch_ids=["msgbatch_01AbCd"], poll_interval=60)
            self.defer(trigger=trigger, method_name="execute_complete")

        def execute_complete(self, context, event):
            result = WaitResult.from_event(event)  # result.status is "ended", "due" or "error"
    """

    def __init__(
        self,
        claude_conn_id: str,
        *,
        batch_ids: list[str],
        open_batch_ids: list[str] | None = None,
        wait_for: WaitFor = "all",
        poll_interval: float | timedelta = 60.0,
        until: str | None = None,
        cancel_on_kill: bool = False,
        submitted_at: str | None = None,
        unconfirmed_batch_ids: list[str] | None = None,
        known: dict[str, Any] | None = None,
        later_iteration: bool = False,
        **_ignored: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's
        self.claude_conn_id = claude_conn_id
        self.batch_ids = list(batch_ids)
        self.open_batch_ids = self.batch_ids if open_batch_ids is None else list(open_batch_ids)
        self.wait_for: WaitFor = wait_for
        self.poll_interval = poll_interval / SECOND if isinstance(poll_interval, timedelta) else poll_interval
        self.until = until
        self.cancel_on_kill = cancel_on_kill
        self.submitted_at = submitted_at
        self.unconfirmed_batch_ids = list(unconfirmed_batch_ids or ())
        self.known = Known.from_dict(known)
        self.later_iteration = later_iteration
        self._finished = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the keyword arguments for Airflow's database."""
        rare = {
            "unconfirmed_batch_ids": self.unconfirmed_batch_ids,
            "known": self.known.to_dict(),
            "later_iteration": self.later_iteration,
        }
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
                **{name: value for name, value in rare.items() if value},
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event: a :class:`~airflow_claude_batch.batch.wait.wait_result.WaitResult` as JSON."""
        try:
            result = await self._wait()
        except asyncio.CancelledError:
            if not ON_KILL_SUPPORTED:
                await self._cancel_batches_if_killed(TASK_STATE_TIMEOUT_ON_SHUTDOWN_SECONDS)
            raise
        except Exception as error:
            self.log.exception("Waiting for message batches %s failed.", ", ".join(map(str, self.batch_ids)))
            text = str(error) if isinstance(error, ClaudeBatchError) else f"{type(error).__name__}: {error}"
            result = WaitResult.failed(text, error, {})
        self._finished = True
        self._log_result(result)
        # An error quotes what a gateway said, and Airflow's database refuses some characters.
        yield TriggerEvent(storable_names(result.to_event()))  # type: ignore[no-untyped-call]  # Airflow's

    async def on_kill(self) -> None:
        """Cancel the batches if a user ended the task and ``cancel_on_kill`` is set. Airflow 3.3+ calls it.

        Airflow also calls it after a clear, when the new try already waits for the same batches, and before 3.4 on a
        triggerer that was paused for so long that another one took over its triggers. So the task's state decides.
        """
        await self._cancel_batches_if_killed(TASK_STATE_TIMEOUT_SECONDS)

    # ------------------------------------------------------------------ waiting

    async def _wait(self) -> WaitResult:
        self._log_start()
        if self.task_instance is not None:  # dag.test() has none, and no executor either
            # The supervisor's first lookup is slow. Made here, on_kill need not wait for it.
            await asyncio.gather(asyncio.sleep(STARTUP_DELAY_SECONDS), self._watcher().prepare())
        return await self._watcher().wait(
            self.batch_ids,
            wait_for=self.wait_for,
            poll_interval=self.poll_interval,
            until=_parse_time(self.until),
            created_at=_parse_time(self.submitted_at),
            unconfirmed=self.unconfirmed_batch_ids,
            known=self.known,
            write_log=self.log.log,
        )

    def _watcher(self) -> Watcher:
        conn_id = self.claude_conn_id

        async def connect() -> AsyncClaudeClient:
            config = await ClaudeHook(conn_id).get_async_config()
            return AsyncClaudeClient(replace(config, max_retries=0))

        return WATCHERS.get(conn_id, connect, observer=StatsObserver())

    def _log_start(self) -> None:
        submitted_at, until = _parse_time(self.submitted_at), _parse_time(self.until)
        sentences = []
        if self.batch_ids:
            sentences.append(f"Waiting for {self.wait_for} of these message batches: {', '.join(self.batch_ids)}.")
        if self.batch_ids and submitted_at:
            oldest = "It" if len(self.batch_ids) == 1 else "The oldest"
            sentences.append(f"{oldest} expires at {time_in_words(submitted_at + BATCH_LIFETIME)}.")
        if self.batch_ids and not self.cancel_on_kill:
            goes = "it goes on and is" if len(self.batch_ids) == 1 else "they go on and are"
            sentences.append(f"If the task is ended by hand, {goes} billed: cancel_on_kill is off.")
        if until:
            sentences.append(f"The deadline of this wait is {time_in_words(until)}.")
        if self.batch_ids and self.known.usual:
            sentences.append(usual_in_words(self.known.usual))
        self.log.info("%s", " ".join(sentences) or "There is nothing to wait for.")

    def _log_result(self, result: WaitResult) -> None:
        if result.status == "due":
            self.log.info("The deadline of this wait, %s, has passed.", self.until)
        if result.error:
            self.log.error("%s", result.error)

    # ------------------------------------------------------------------ being killed

    async def _cancel_batches_if_killed(self, state_timeout: float) -> None:
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        if self._finished or not self.open_batch_ids:
            return
        if not self.cancel_on_kill:
            self._finished = True
            self.log.warning("This wait is stopped from outside.\n%s", batches_go_on(self.open_batch_ids))
            return
        if await self._task_may_run_again(state_timeout):
            return
        self._finished = True
        remaining = started_at + ON_KILL_TIMEOUT_SECONDS - loop.time()
        await asyncio.gather(*(self._cancel(batch_id, remaining) for batch_id in self.open_batch_ids))

    async def _task_may_run_again(self, timeout_seconds: float) -> bool:
        """Return False only if the task was certainly ended by a user: a batch canceled by mistake is lost money."""
        if self.task_instance is None:
            return True
        if self.later_iteration:
            self.log.warning(
                "This wait is stopped from outside. Airflow does not tell whether a user ended the task: it is in an "
                "earlier iteration of a loop. So these message batches go on, and are billed: %s. If the task was "
                "ended, clear it to use their answers, or cancel them.",
                ", ".join(self.open_batch_ids),
            )
            return True
        try:
            return await asyncio.wait_for(supervisor_call(will_run_again, self.task_instance), timeout_seconds)
        except Exception as error:
            self.log.warning(
                "Could not look up whether a user ended this task (%r), so message batches %s keep running.",
                error,
                ", ".join(self.open_batch_ids),
            )
            return True

    async def _cancel(self, batch_id: str, timeout_seconds: float) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._cancel_with_retries(batch_id)
        except BadRequestError as error:
            self.log.warning("Message batch %s needs no canceling: it has ended. %s", batch_id, error)
        except Exception:
            self.log.exception(
                "Could not cancel message batch %s. It keeps running for 24 hours at most and is billed for what it "
                "answers. Cancel it in the Claude Console, or clear the task to use its answers.",
                batch_id,
            )
        else:
            self.log.warning(
                "Canceled message batch %s because a user ended the task. The answers it already has are billed, and "
                "the next try can use them. The other requests are not billed.",
                batch_id,
            )

    async def _cancel_with_retries(self, batch_id: str) -> None:
        """Cancel a batch, and try again whatever fails. Only a refusal in the API's own words ends that."""
        while True:
            try:
                await self._watcher().cancel(batch_id)
            except APIError as error:
                # A 404 may be a blip of a batch that runs, and a 401 that of a key that is rotated.
                if proof_of(error) is Proof.REFUSED:
                    raise
                self.log.warning(
                    "Could not cancel message batch %s yet, trying again in %.0f s: %s",
                    batch_id,
                    CANCEL_RETRY_SECONDS,
                    error,
                )
                await asyncio.sleep(CANCEL_RETRY_SECONDS)
            else:
                return


def _parse_time(text: str | None) -> datetime | None:
    """Parse ISO 8601. A time without an offset is UTC."""
    time = datetime.fromisoformat(text) if text else None
    return time.replace(tzinfo=UTC) if time and time.tzinfo is None else time
