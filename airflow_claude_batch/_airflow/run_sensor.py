"""Run the sensor: wait for message batches, deferred or poke by poke, and land their answers."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_claude_batch._airflow import settings
from airflow_claude_batch._airflow.answer_store import open_sensors_answer_store
from airflow_claude_batch._airflow.compat import timezone
from airflow_claude_batch._airflow.day_budget import settles
from airflow_claude_batch._airflow.on_kill import RunningWork
from airflow_claude_batch._airflow.read_batch import check_same_submission, read_batch, requests_reader
from airflow_claude_batch._airflow.snapshots import Snapshots
from airflow_claude_batch._airflow.task_history import TaskHistory
from airflow_claude_batch._airflow.task_loop import (
    apply_wait_result,
    defer,
    fail_on_input_error,
    finish_task,
    known_of,
    look_for_unfinished_upstream,
    read_connection_again,
    run_until_done,
)
from airflow_claude_batch._airflow.task_state import check_upstream_complete
from airflow_claude_batch._airflow.times import time_in_words
from airflow_claude_batch._airflow.user_end import UserEndCheck
from airflow_claude_batch.api.evidence import has_lasted
from airflow_claude_batch.batch.collection import Collection
from airflow_claude_batch.batch.land.handed_over import HandedOver
from airflow_claude_batch.batch.land.parquet import check_parquet_installed
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.steps import WaitStep
from airflow_claude_batch.batch.wait.progress import Known, progress
from airflow_claude_batch.batch.wait.schedule import LOG_INTERVAL_SECONDS
from airflow_claude_batch.batch.wait.wait_result import WaitResult
from airflow_claude_batch.exceptions import BatchTimeoutError, InputError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.options import CollectionOptions
    from airflow_claude_batch._airflow.poke_memory import PokeMemory
    from airflow_claude_batch._airflow.task_run import TaskRun

log = logging.getLogger(__name__)

#: Airflow checks its own timeout right after a poke: what was answered must be landed before.
LAST_POKE_MARGIN: Final = timedelta(seconds=1)


def run_collection(
    options: CollectionOptions,
    run: TaskRun,
    *,
    event: Mapping[str, Any] | None,
    deadline: datetime,
    submission_id: str | None,
    rendered_again: bool = False,
) -> dict[str, Any]:
    """Advance a deferrable sensor to its end, or to the next deferral; return the manifest.

    :param event: the trigger's event, when the sensor resumes.
    :param submission_id: the submission that the sensor waits for; None before it has begun to wait.
    :param rendered_again: the sensor was deferred because the batch may have been rendered too early.
    """
    kwargs = {"deadline": deadline.isoformat(), "submission_id": submission_id}
    with fail_on_input_error(run.ti):
        try:
            check, in_contact = UserEndCheck.of(run.ti), event is not None
            with (
                _open(options, run, deadline, submission_id, check, in_contact=in_contact) as (collection, history),
                Snapshots(
                    collection, run, conn_id=options.claude_conn_id, history=history, calls=check.calls
                ) as snapshots,
            ):
                waited = None if event is None else WaitResult.from_event(event)
                if waited is not None:
                    apply_wait_result(waited, collection, options.task_id)
                kwargs["submission_id"] = collection.submission_id
                manifest = run_until_done(
                    collection, options, run, kwargs, waited=waited, history=history, snapshots=snapshots
                )
                return manifest.to_xcom()
        except InputError as error:
            _wait_for_upstream(options, run, error, deadline, kwargs)
            if options.batch is None and event is not None and not rendered_again:
                _render_again(options, run, error, deadline, kwargs)
            raise


def _wait_for_upstream(
    options: CollectionOptions, run: TaskRun, error: InputError, deadline: datetime, kwargs: dict[str, Any]
) -> None:
    """Defer for one poll interval if an upstream task is unfinished: the batch may come from it.

    :raises BatchTimeoutError: the deadline has passed.
    """
    names = look_for_unfinished_upstream(run.ti)
    if not names:
        return
    reason = _not_finished(names)
    if timezone.utcnow() >= deadline:
        raise BatchTimeoutError(f"The timeout has passed, and {reason}: {error}") from None
    _defer_for_an_interval(reason, options, run, error, deadline, kwargs)


def _render_again(
    options: CollectionOptions, run: TaskRun, error: InputError, deadline: datetime, kwargs: dict[str, Any]
) -> None:
    """Defer for one poll interval, once: an upstream task may have finished after Airflow had rendered the batch."""
    if timezone.utcnow() < deadline:
        reason = "an upstream task may have finished just now"
        _defer_for_an_interval(reason, options, run, error, deadline, {**kwargs, "rendered_again": True})


def _defer_for_an_interval(
    reason: str,
    options: CollectionOptions,
    run: TaskRun,
    error: InputError,
    deadline: datetime,
    kwargs: dict[str, Any],
) -> None:
    until = min(timezone.utcnow() + timedelta(seconds=settings.poll_interval(options.poll_interval)), deadline)
    log.info("Waiting until %s: %s. %s", time_in_words(until), reason, error)
    defer(WaitStep((), "any", until, reason), options, run, kwargs)


def _not_finished(names: list[str]) -> str:
    return f"{', '.join(names)} {'has' if len(names) == 1 else 'have'} not finished"


def poke(options: CollectionOptions, run: TaskRun, memory: PokeMemory, *, timeout: timedelta) -> dict[str, Any] | None:
    """Poll once. Return the manifest, or None while the batches run or cannot be polled."""
    first_poke = _first_poke(options, run)
    began_at = first_poke or memory.began_at or timezone.utcnow()
    in_contact = first_poke is not None or memory.submission_id is not None
    with fail_on_input_error(run.ti):
        try:
            return _poke(options, run, memory, began_at + timeout, in_contact=in_contact)
        except InputError as error:
            # Airflow renders the batch of a rescheduled sensor again for the next poke.
            if not options.reschedule or not (names := look_for_unfinished_upstream(run.ti)):
                raise
            log.info("Poking again later: %s. %s", _not_finished(names), error)
            return None


def _poke(
    options: CollectionOptions, run: TaskRun, memory: PokeMemory, deadline: datetime, *, in_contact: bool
) -> dict[str, Any] | None:
    # One for all pokes of a process: a kill that comes at the beginning of a poke finds the work of the poke before.
    check = memory.check = memory.check or UserEndCheck.of(run.ti)
    with (
        _open(options, run, deadline, memory.submission_id, check, in_contact=in_contact) as (collection, history),
        Snapshots(collection, run, conn_id=options.claude_conn_id, history=history, calls=check.calls) as snapshots,
    ):
        memory.submission_id = collection.submission_id  # Airflow renders the batch once for each process
        step = collection.advance()
        _check_refusal(collection, run, memory)
        if isinstance(step, WaitStep):
            if not memory.is_shown:
                memory.is_shown = True
                snapshots.push(step)
            _log_hourly(step, known_of(step, history), memory)
            if timezone.utcnow() < deadline - LAST_POKE_MARGIN:  # last of all: whatever is before may take long
                return None
            collection.deadline = timezone.utcnow()
            step = collection.advance()
        if isinstance(step, WaitStep):
            return None
        snapshots.push(step)
        return finish_task(step, run, history).to_xcom()


def _log_hourly(step: WaitStep, known: Known, memory: PokeMemory) -> None:
    """Say how far the batches have come, once an hour. A sensor that is rescheduled remembers nothing between pokes."""
    now = timezone.utcnow()
    if not step.batch_ids:
        return
    if memory.logged_at is not None and now - memory.logged_at < timedelta(seconds=LOG_INTERVAL_SECONDS):
        return
    memory.logged_at = now
    log.info("%s", progress(known, (), dict.fromkeys(step.batch_ids), step.submitted_at, now))


def _check_refusal(collection: Collection, run: TaskRun, memory: PokeMemory) -> None:
    """Raise if the API has rejected the credential for so long that it is believed. Read the connection again."""
    if collection.refusal is None:
        memory.refusals, memory.refused_at = 0, None
        return
    now = timezone.utcnow()
    memory.refusals += 1
    memory.refused_at = memory.refused_at or now
    if has_lasted(memory.refusals, now - memory.refused_at):
        raise collection.refusal
    read_connection_again(collection, run)


def _first_poke(options: CollectionOptions, run: TaskRun) -> datetime | None:
    """Ask Airflow when a sensor that is rescheduled first poked: its memory lasts for one poke."""
    return run.ti.get_first_reschedule_date(run.context) if options.reschedule else None


@contextlib.contextmanager
def _open(
    options: CollectionOptions,
    run: TaskRun,
    deadline: datetime,
    submission_id: str | None,
    check: UserEndCheck,
    *,
    in_contact: bool,
) -> Iterator[tuple[Collection, TaskHistory]]:
    # Connections and states come from the supervisor, also between two pokes of a sensor that is killed.
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as calls:
        calls.enter_context(check.calls.running())
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="claude-batch-")))
        batches = read_batch(options.batch, options.results_path, run)
        if submission_id is None:
            check_upstream_complete(run.ti)
        else:
            check_same_submission(batches, submission_id)
        policy = _policy(options, batches.handed_over)
        if policy.results_format == "parquet":
            check_parquet_installed(batches.ids)
        if options.cancel_on_kill:
            check.confirm_running()  # a sensor that pokes comes here for each poke
        history = stack.enter_context(TaskHistory(batches.root, run.ti, sent_to=batches.folder))
        collection = Collection(
            client=stack.enter_context(run.hook.get_conn()),
            submission_id=batches.submission_id,
            batch_ids=batches.ids,
            folder=batches.folder,
            requests=requests_reader(batches, scratch),
            policy=policy,
            prices=settings.price_table(),
            deadline=deadline,
            clock=timezone.utcnow,
            sleep=check.sleep if options.cancel_on_kill else time.sleep,
            observer=history,
            settle=settles(batches.handed_over.reservation, batches.submission_id, run.ti),
            answers=open_sensors_answer_store(batches, options.claude_conn_id, run),
            in_contact=in_contact,
        )
        run.set_running_work(RunningWork(collection, run.hook.get_config(), check.will_run_again, check.calls))
        calls.close()
        yield collection, history


def _policy(options: CollectionOptions, of_operator: HandedOver) -> Policy:
    """Return the sensor's own choices, and for those that it leaves open the operator's."""
    deletes, format_, allowed = options.delete_batches, options.results_format, options.allow_failed
    return Policy(
        allow_failed=of_operator.allow_failed if allowed is None else allowed,
        max_inline_bytes=settings.max_inline_bytes(),
        delete_batches=of_operator.delete_batches if deletes is None else deletes,
        results_format=of_operator.results_format if format_ is None else format_,
    )
