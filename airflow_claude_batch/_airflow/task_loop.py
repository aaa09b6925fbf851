"""The loop that the operator and the sensor share: advance, wait in the worker or defer, until done."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from airflow_claude_batch import exceptions
from airflow_claude_batch._airflow import metrics, settings, tracing
from airflow_claude_batch._airflow.approval import ask, raise_rejection
from airflow_claude_batch._airflow.compat import AirflowFailException, TaskDeferred, loop_iteration, timezone
from airflow_claude_batch._airflow.task_log import log_manifest
from airflow_claude_batch._airflow.task_state import state_of, unfinished_upstream
from airflow_claude_batch._airflow.times import time_in_words
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.steps import AskStep, DoneStep, WaitStep
from airflow_claude_batch.batch.wait.blocking import wait_for_batches
from airflow_claude_batch.batch.wait.progress import Known, usual_in_words
from airflow_claude_batch.batch.wait.wait_result import WaitResult
from airflow_claude_batch.exceptions import ApprovalRejectedError, ClaudeBatchError, InputError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.compat import TaskInstance
    from airflow_claude_batch._airflow.options import TaskOptions
    from airflow_claude_batch._airflow.snapshots import Snapshots
    from airflow_claude_batch._airflow.task_history import TaskHistory
    from airflow_claude_batch._airflow.task_run import TaskRun
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)

#: Airflow resumes a deferred task this long after the time at which its trigger should have fired: no triggerer runs.
TRIGGER_GRACE_PERIOD: Final = timedelta(minutes=10)


class Work(Protocol):
    """What the loop advances: a submission, or a collection of batches made elsewhere."""

    client: ClaudeClient

    def advance(self) -> WaitStep | AskStep | DoneStep: ...

    def mark_lost(self, batch_id: str, reason: str) -> None: ...


def run_until_done(
    work: Work,
    options: TaskOptions,
    run: TaskRun,
    kwargs: dict[str, Any] | None = None,
    *,
    waited: WaitResult | None = None,
    sleep: Callable[[float], None] = time.sleep,
    history: TaskHistory | None = None,
    snapshots: Snapshots,
) -> Manifest:
    """Advance until done. A deferrable task leaves by the exception that defers it.

    :param waited: the result of the wait from which the task resumes.
    :param sleep: pause between two polls, in seconds.
    :param kwargs: arguments for ``execute_complete`` when the task resumes.
    :param history: knows how long the task's earlier batches took, and notes what this submission used.
    :param snapshots: get where the submission stands after each step.
    """
    while True:
        step = work.advance()
        snapshots.push(step)
        if isinstance(step, DoneStep):
            return finish_task(step, run, history)
        if isinstance(step, AskStep):
            ask(step, run)
        log.info("Waiting until %s at the latest: %s.", time_in_words(step.until), step.reason)
        known = known_of(step, history)
        unconfirmed = _unconfirmed_ids(step, waited)
        if options.deferrable:
            defer(step, options, run, kwargs or {}, unconfirmed, known)
        if known.usual:
            log.info("%s", usual_in_words(known.usual))
        waited = wait_for_batches(
            work.client,
            step.batch_ids,
            wait_for=step.wait_for,
            poll_interval=settings.poll_interval(options.poll_interval),
            until=step.until,
            created_at=step.submitted_at,
            unconfirmed=unconfirmed,
            known=known,
            reconnect=partial(read_connection_again, work, run),
            connection=options.claude_conn_id,
            sleep=sleep,
            observer=metrics.StatsObserver(),
        )
        apply_wait_result(waited, work, options.task_id)
        if step.read_connection:
            read_connection_again(work, run)


def known_of(step: WaitStep, history: TaskHistory | None) -> Known:
    """Return what the hourly progress line says beyond the batches that are waited for."""
    usual = history.usual if history is not None and step.batch_ids else None
    return Known(step.ended_batches, step.ended_requests, usual)


def _unconfirmed_ids(step: WaitStep, waited: WaitResult | None) -> list[str]:
    """Return the batches that the last wait reported as ended, but that are still to be waited for.

    A listing that differs from the batches themselves must not make a task wait and resume without a pause.
    """
    reported = waited.batches if waited else {}
    return [id_ for id_ in step.batch_ids if id_ in reported and reported[id_].processing_status == "ended"]


def read_connection_again(work: Work, run: TaskRun) -> None:
    """Give the client the settings that the connection has now: the key may have been rotated."""
    try:
        work.client.reconfigure(run.hook.read_config_again())
    except Exception as error:  # a custom secrets back end may raise anything
        log.warning("The connection could not be read again, so its old settings stay in use: %s", error)


def defer(
    step: WaitStep,
    options: TaskOptions,
    run: TaskRun,
    kwargs: dict[str, Any],
    unconfirmed: Sequence[str] = (),
    known: Known | None = None,
) -> NoReturn:
    """Leave the worker; the trigger's event brings the task back.

    Airflow's own timeout is only a fallback: the trigger fires at ``until`` by itself.

    :param unconfirmed: batches that an earlier wait reported as ended although they were not.
    :param known: what is known of the other batches, for the log.
    :raises TaskDeferred: always, as ``BaseOperator.defer`` does.
    """
    raise TaskDeferred(
        trigger=run.make_trigger(
            options.claude_conn_id,
            batch_ids=list(step.batch_ids),
            open_batch_ids=list(step.open_batch_ids),
            wait_for=step.wait_for,
            poll_interval=settings.poll_interval(options.poll_interval),
            until=step.until.isoformat(),
            cancel_on_kill=options.cancel_on_kill,
            submitted_at=step.submitted_at.isoformat() if step.submitted_at else None,
            unconfirmed_batch_ids=list(unconfirmed),
            known=(known or Known()).to_dict(),
            later_iteration=options.cancel_on_kill and _has_later_iteration(run),
        ),
        method_name="execute_complete",
        kwargs=kwargs or None,
        timeout=max(step.until - timezone.utcnow(), timedelta()) + TRIGGER_GRACE_PERIOD,
    )


def _has_later_iteration(run: TaskRun) -> bool:
    """Return True if a later iteration of the task's loop may exist: a user has cleared this one alone.

    Airflow tells triggers the state of the latest iteration only. If that is this one, it is running now.
    """
    if loop_iteration(run.context) is None:
        return False
    try:
        return state_of(run.ti) != "running"
    except Exception as error:  # the supervisor's client raises many types
        log.debug("Could not ask Airflow for the state of this task: %r", error)
        return True


def apply_wait_result(result: WaitResult, work: Work, task_id: str) -> None:
    """Mark the batches that the wait found to be lost.

    :raises ClaudeBatchError: the wait ended with an error that a person must fix.
    """
    if result.status != "error":
        return
    if result.lost:
        for batch_id in result.lost:
            work.mark_lost(batch_id, result.error or "not found")
        return
    kind = getattr(exceptions, result.error_type or "", None)
    name = kind.__name__ if isinstance(kind, type) and issubclass(kind, ClaudeBatchError) else "error"
    raise exceptions.BatchError(f"{task_id} stopped waiting ({name}): {result.error}")


def finish_task(step: DoneStep, run: TaskRun, history: TaskHistory | None = None) -> Manifest:
    """Log, record, count and trace the outcome, and return its manifest.

    A submission is counted and traced once: not in a try that is followed by another one.

    :raises BatchError: the submission failed; a retry of the task may succeed.
    :raises AirflowFailException: it failed, and a retry cannot succeed.
    :raises AirflowSkipException: it was rejected, and the author wants the task to be skipped then.
    """
    if isinstance(step.failure, ApprovalRejectedError):
        raise_rejection(step.failure, skips=step.skips)
    if history is not None and not step.is_old:
        history.submission_ended(step.manifest)
    log_manifest(step.manifest, is_old=step.is_old)
    run.record_manifest(step.manifest, run.context)
    if step.failure is None or step.permanent or run.ti.try_number > run.ti.max_tries:
        is_old = step.is_old and step.failure is None
        metrics.count_submission(step.manifest, is_old=is_old)
        if not is_old:
            tracing.trace_submission(step.manifest, run.ti, step.failure)
    if step.failure is None:
        return step.manifest
    if step.permanent:
        raise AirflowFailException(str(step.failure)) from None
    raise step.failure


@contextlib.contextmanager
def fail_on_input_error(ti: TaskInstance) -> Iterator[None]:
    """Fail the task for good on errors of the input: a retry would meet them again, unless an upstream task reruns."""
    try:
        yield
    except InputError as error:
        if names := look_for_unfinished_upstream(ti):
            log.warning(
                "These upstream tasks have not finished: %s. If the error comes from that, a retry helps, or a clear "
                "once they have finished.",
                ", ".join(names),
            )
            raise
        raise AirflowFailException(f"{ti.task_id}: {error}") from error.__cause__


def look_for_unfinished_upstream(ti: TaskInstance) -> list[str]:
    """Return the unfinished upstream tasks, none if Airflow cannot be asked. The error of the input is shown then."""
    try:
        return unfinished_upstream(ti)
    except Exception as error:  # the supervisor's client raises many types
        log.warning("Could not check whether upstream tasks have finished (%s: %s).", type(error).__name__, error)
        return []
