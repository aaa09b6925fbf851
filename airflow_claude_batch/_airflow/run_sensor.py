"""The sensor's work: finds out what the batches are of, waits for them and lands their answers."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_claude_batch._airflow.compat import AirflowSkipException, timezone
from airflow_claude_batch._airflow.metrics import StatsObserver
from airflow_claude_batch._airflow.on_kill import RunningWork
from airflow_claude_batch._airflow.results_folder import folder_of_file, submission_folder, submission_id
from airflow_claude_batch._airflow.task_loop import (
    apply_wait_result,
    defer,
    fail_on_input_error,
    finish_task,
    max_inline_bytes,
    poll_interval,
    price_table,
    run_until_done,
)
from airflow_claude_batch._airflow.task_state import check_upstream_complete, unfinished_upstream, will_run_again
from airflow_claude_batch.api.limits import check_batch_id
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.collection import Collection
from airflow_claude_batch.batch.input.request_file import REQUESTS_FILE, RequestFile
from airflow_claude_batch.batch.land.manifest import DRY_RUN, read_manifest
from airflow_claude_batch.batch.land.parquet import check_parquet_installed
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.steps import WaitStep
from airflow_claude_batch.batch.wait.wait_result import WaitResult
from airflow_claude_batch.exceptions import BatchTimeoutError, InputError, SubmissionRecordError
from airflow_claude_batch.hooks import ClaudeHook

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.compat import Context
    from airflow_claude_batch.sensors import MessageBatchSensor

log = logging.getLogger(__name__)

#: For how long the API must deny a batch until it is believed: single 404s are reported from production.
NOT_FOUND_GRACE: Final = timedelta(minutes=10)
#: Airflow looks at its own timeout right after a poke: what was answered must be landed before it does.
LAST_LOOK: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class _Batches:
    """What a sensor's ``batch`` comes to.

    :param request_count: how many requests are in the folder; None for batches made elsewhere.
    """

    ids: Sequence[str]
    submission_id: str
    folder: storage.Folder
    request_count: int | None


def run_collection(
    task: MessageBatchSensor,
    context: Context,
    *,
    event: Mapping[str, Any] | None,
    deadline: datetime,
    submission_id: str | None,
) -> dict[str, Any]:
    """Carry a deferrable sensor on to its end, or to the next deferral.

    :param event: what the trigger said, when this is a resumption.
    :param submission_id: what the sensor has begun to wait for; None if it has not.
    """
    remembered = {"deadline": deadline.isoformat(), "submission_id": submission_id}
    with fail_on_input_error(task, context):
        try:
            with _opened(task, context, deadline, submission_id) as collection:
                if event is not None:
                    apply_wait_result(WaitResult.from_event(event), collection, task)
                remembered["submission_id"] = collection.submission_id
                return run_until_done(task, collection, context, **remembered).to_xcom()
        except InputError as error:
            _wait_until_made(task, context, error, deadline, remembered)
            raise


def _wait_until_made(
    task: MessageBatchSensor, context: Context, error: InputError, deadline: datetime, remembered: dict[str, Any]
) -> None:
    """Defer for a while if what the sensor is to wait for is being made again.

    :raises BatchTimeoutError: it is, and the time is over.
    """
    names = ", ".join(unfinished_upstream(task, context["ti"]))
    if not names:
        return
    now = timezone.utcnow()
    if now >= deadline:
        raise BatchTimeoutError(f"The time to wait is over, and {names} is not done yet: {error}") from error
    until = min(now + timedelta(seconds=poll_interval(task)), deadline)
    log.info("Waiting until %s: %s is not done yet. %s", until, names, error)
    defer(task, WaitStep((), "any", until, f"{names} is not done yet"), remembered)


def poke(task: MessageBatchSensor, context: Context, *, deadline: datetime) -> dict[str, Any] | None:
    """Look once. None while the batches run, or cannot be asked about: an outage is not an answer."""
    with fail_on_input_error(task, context):
        try:
            return _poke(task, context, deadline)
        except InputError as error:
            # A sensor that is rescheduled has its batch rendered anew for the next look.
            if not task.reschedule or not (names := unfinished_upstream(task, context["ti"])):
                raise
            log.info("%s is not done yet: %s", ", ".join(names), error)
            return None


def _poke(task: MessageBatchSensor, context: Context, deadline: datetime) -> dict[str, Any] | None:
    with _opened(task, context, deadline, task._submission_id) as collection:
        task._submission_id = collection.submission_id  # a process is given its batch once
        step = collection.advance()
        if isinstance(step, WaitStep):
            _give_up_in_time(task, context, collection)
            if timezone.utcnow() < deadline - LAST_LOOK:
                return None
            collection.deadline = timezone.utcnow()
            step = collection.advance()
        return None if isinstance(step, WaitStep) else finish_task(step, task, context).to_xcom()


def _give_up_in_time(task: MessageBatchSensor, context: Context, collection: Collection) -> None:
    """Tell a batch that does not exist from a blip."""
    now = timezone.utcnow()
    since = task._not_found_since  # the memory of a poking process lives on the task
    for batch_id in since.keys() - collection.not_found.keys():
        del since[batch_id]
    for batch_id, reason in collection.not_found.items():
        first = since.setdefault(batch_id, first_look(task, context) or now)
        if now - first >= NOT_FOUND_GRACE:
            collection.mark_lost(batch_id, reason)


def first_look(task: MessageBatchSensor, context: Context) -> datetime | None:
    """A sensor that is rescheduled begins each look in a new process."""
    if not task.reschedule:
        return None
    first: datetime | None = context["ti"].get_first_reschedule_date(context)
    return first


@contextlib.contextmanager
def _opened(
    task: MessageBatchSensor, context: Context, deadline: datetime, submission_id: str | None
) -> Iterator[Collection]:
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="claude-batch-")))
        batches = _batches(task, context)
        if submission_id is None:
            check_upstream_complete(task, context["ti"])
        else:
            _check_same(batches, submission_id)
        hook = ClaudeHook(task.claude_conn_id)
        if task.results_format == "parquet":
            check_parquet_installed()
        collection = Collection(
            client=stack.enter_context(hook.get_conn()),
            submission_id=batches.submission_id,
            batch_ids=batches.ids,
            folder=batches.folder,
            requests=_requests(batches, scratch),
            policy=Policy(
                allow_failed=task.allow_failed,
                max_inline_bytes=max_inline_bytes(),
                delete_batches=task.delete_batches,
                results_format=task.results_format,
            ),
            prices=price_table(),
            deadline=deadline,
            clock=timezone.utcnow,
            sleep=time.sleep,
            observer=StatsObserver(),
        )
        # For on_kill, which Airflow calls on the task.
        task._running_work = RunningWork(collection, hook.get_config(), partial(will_run_again, context["ti"]))
        yield collection


def _requests(batches: _Batches, scratch: Path) -> Callable[[], RequestFile] | None:
    """How to read what was sent: it may be large, and waits until everything has ended. That it is gone is said now."""
    if batches.request_count is None:
        return None
    if (file := batches.folder.open(REQUESTS_FILE)) is None:
        raise _nothing_sent(batches.folder)
    file.close()

    def read() -> RequestFile:
        path = storage.local_copy(batches.folder, REQUESTS_FILE, scratch)
        if path is None:
            raise _nothing_sent(batches.folder)
        requests = RequestFile(path, verify=False)
        if len(requests) != batches.request_count:
            requests.close()
            raise SubmissionRecordError(
                f"{batches.folder.uri(REQUESTS_FILE)} has {len(requests)} requests, but the operator's output speaks "
                f"of {batches.request_count}: it was cut, or written anew since. Nothing was landed. Restore it, or "
                "clear the operator's task, which writes it again and pays for nothing twice."
            )
        return requests

    return read


def _nothing_sent(folder: storage.Folder) -> InputError:
    return InputError(
        f"{folder.uri(REQUESTS_FILE)} is not there, which says what was sent. Is results_path a place that all "
        "workers share? To land the answers without it, give the sensor the manifest's batch_ids."
    )


def _batches(task: MessageBatchSensor, context: Context) -> _Batches:
    value = task.batch
    if isinstance(value, Mapping):
        return _of_manifest(value)
    ids = [value] if isinstance(value, str) else value
    if not isinstance(ids, Sequence) or not ids or not all(isinstance(id_, str) for id_ in ids):
        raise InputError(
            f"batch is {_what_it_is(value)}: give the operator's output, a batch id, or a list of batch ids."
            f"{_likely_remedy(value)}"
        )
    ti = context["ti"]
    folder = submission_folder(task.results_path, ti)
    unique = dict.fromkeys(check_batch_id(id_) for id_ in ids)
    return _Batches(tuple(unique), submission_id(ti), folder, request_count=None)


def _check_same(batches: _Batches, begun: str) -> None:
    if batches.submission_id != begun:
        raise InputError(
            f"batch is another submission ({batches.folder.uri(REQUESTS_FILE)}) than the one that this sensor waits "
            "for: an output of a mapped task is gone. Nothing was landed. Clear the operator's task that has none, and "
            "then this one."
        )


def _what_it_is(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, bytes) or not isinstance(value, Sequence):
        return f"of type {type(value).__name__}"
    strange = next((f" with an element of type {type(id_).__name__}" for id_ in value if not isinstance(id_, str)), "")
    return f"a list{strange}" if value else "an empty list"


def _likely_remedy(value: Any) -> str:
    """What authors were after who gave this."""
    if value is None:
        return " The task that it comes from has given nothing."
    if isinstance(value, Sequence) and value and all(isinstance(element, Mapping) for element in value):
        return (
            " For the outputs of a mapped operator map the sensor too: "
            "MessageBatchSensor.partial(task_id=…).expand(batch=send.output)."
        )
    return ""


def _of_manifest(value: Mapping[str, Any]) -> _Batches:
    try:
        manifest = read_manifest(value)
    except ValueError as error:
        raise InputError(f"batch is a mapping, but {error}. Give the operator's output.") from error
    if manifest.status == DRY_RUN:
        raise AirflowSkipException(
            "The operator ran with dry_run=True: nothing was sent, so there is nothing to wait for."
        )
    if manifest.results_path is None:
        raise InputError("batch is a manifest without results_path. Give the operator's output.")
    folder, _ = folder_of_file(manifest.results_path)
    ids = [check_batch_id(id_) for id_ in manifest.batch_ids]
    return _Batches(ids, manifest.submission_id, folder, manifest.request_count)
