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

from airflow_claude_batch._airflow import settings
from airflow_claude_batch._airflow.compat import AirflowSkipException, timezone
from airflow_claude_batch._airflow.metrics import StatsObserver
from airflow_claude_batch._airflow.on_kill import RunningWork
from airflow_claude_batch._airflow.results_folder import folder_of_file, submission_folder, submission_id
from airflow_claude_batch._airflow.task_loop import (
    apply_wait_result,
    defer,
    fail_on_input_error,
    finish_task,
    poll_interval,
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
from airflow_claude_batch.batch.wait.schedule import NOT_FOUND_CONFIRM_SECONDS
from airflow_claude_batch.batch.wait.wait_result import WaitResult
from airflow_claude_batch.exceptions import BatchTimeoutError, InputError, SubmissionRecordError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.compat import TaskInstance
    from airflow_claude_batch._airflow.options import CollectionOptions
    from airflow_claude_batch._airflow.task_run import PokeMemory, TaskRun

log = logging.getLogger(__name__)

#: Airflow checks its own timeout right after a poke: what was answered must be landed before.
LAST_POKE_MARGIN: Final = timedelta(seconds=1)


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
    options: CollectionOptions,
    run: TaskRun,
    *,
    event: Mapping[str, Any] | None,
    deadline: datetime,
    submission_id: str | None,
) -> dict[str, Any]:
    """Advance a deferrable sensor to its end, or to the next deferral; return the manifest.

    :param event: the trigger's event, when the sensor resumes.
    :param submission_id: the submission that the sensor waits for; None before it has begun to wait.
    """
    kwargs = {"deadline": deadline.isoformat(), "submission_id": submission_id}
    with fail_on_input_error(run.ti):
        try:
            with _open(options, run, deadline, submission_id) as collection:
                if event is not None:
                    apply_wait_result(WaitResult.from_event(event), collection, options.task_id)
                kwargs["submission_id"] = collection.submission_id
                return run_until_done(collection, options, run, **kwargs).to_xcom()
        except InputError as error:
            _wait_for_upstream(options, run, error, deadline, kwargs)
            raise


def _wait_for_upstream(
    options: CollectionOptions, run: TaskRun, error: InputError, deadline: datetime, kwargs: dict[str, Any]
) -> None:
    """Defer for one poll interval if an upstream task is unfinished: it may give the batch anew.

    :raises BatchTimeoutError: the deadline has passed.
    """
    names = ", ".join(unfinished_upstream(run.ti))
    if not names:
        return
    now = timezone.utcnow()
    if now >= deadline:
        raise BatchTimeoutError(f"The time to wait is over, and {names} is not done yet: {error}") from error
    until = min(now + timedelta(seconds=poll_interval(options)), deadline)
    log.info("Waiting until %s: %s is not done yet. %s", until, names, error)
    defer(WaitStep((), "any", until, f"{names} is not done yet"), options, run, kwargs)


def poke(options: CollectionOptions, run: TaskRun, memory: PokeMemory, *, timeout: timedelta) -> dict[str, Any] | None:
    """Poll once. Return the manifest, or None while the batches run or cannot be polled."""
    began_at = _first_poke(options, run) or memory.began_at or timezone.utcnow()
    with fail_on_input_error(run.ti):
        try:
            return _poke(options, run, memory, began_at + timeout)
        except InputError as error:
            # A sensor that is rescheduled has its batch rendered anew for the next poke.
            if not options.reschedule or not (names := unfinished_upstream(run.ti)):
                raise
            log.info("%s is not done yet: %s", ", ".join(names), error)
            return None


def _poke(options: CollectionOptions, run: TaskRun, memory: PokeMemory, deadline: datetime) -> dict[str, Any] | None:
    with _open(options, run, deadline, memory.submission_id) as collection:
        memory.submission_id = collection.submission_id  # a process is given its batch once
        step = collection.advance()
        if isinstance(step, WaitStep):
            _mark_lost(options, run, memory, collection)
            if timezone.utcnow() < deadline - LAST_POKE_MARGIN:
                return None
            collection.deadline = timezone.utcnow()
            step = collection.advance()
        return None if isinstance(step, WaitStep) else finish_task(step, run).to_xcom()


def _mark_lost(options: CollectionOptions, run: TaskRun, memory: PokeMemory, collection: Collection) -> None:
    """Mark the batches lost that the API has denied for long: a single 404 may be a blip."""
    now, since = timezone.utcnow(), memory.not_found_since
    for batch_id in since.keys() - collection.not_found.keys():
        del since[batch_id]
    for batch_id, reason in collection.not_found.items():
        first = since.setdefault(batch_id, _first_poke(options, run) or now)
        if now - first >= timedelta(seconds=NOT_FOUND_CONFIRM_SECONDS):
            collection.mark_lost(batch_id, reason)


def _first_poke(options: CollectionOptions, run: TaskRun) -> datetime | None:
    """Ask Airflow when a sensor that is rescheduled first poked: its memory lasts for one poke."""
    return run.ti.get_first_reschedule_date(run.context) if options.reschedule else None


@contextlib.contextmanager
def _open(
    options: CollectionOptions, run: TaskRun, deadline: datetime, submission_id: str | None
) -> Iterator[Collection]:
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="claude-batch-")))
        batches = _batches(options, run.ti)
        if submission_id is None:
            check_upstream_complete(run.ti)
        else:
            _check_same(batches, submission_id)
        if options.results_format == "parquet":
            check_parquet_installed()
        collection = Collection(
            client=stack.enter_context(run.hook.get_conn()),
            submission_id=batches.submission_id,
            batch_ids=batches.ids,
            folder=batches.folder,
            requests=_requests(batches, scratch),
            policy=Policy(
                allow_failed=options.allow_failed,
                max_inline_bytes=settings.max_inline_bytes(),
                delete_batches=options.delete_batches,
                results_format=options.results_format,
            ),
            prices=settings.price_table(),
            deadline=deadline,
            clock=timezone.utcnow,
            sleep=time.sleep,
            observer=StatsObserver(),
        )
        run.set_running_work(RunningWork(collection, run.hook.get_config(), partial(will_run_again, run.ti)))
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


def _batches(options: CollectionOptions, ti: TaskInstance) -> _Batches:
    value = options.batch
    if isinstance(value, Mapping):
        return _of_manifest(value)
    ids = [value] if isinstance(value, str) else value
    if not isinstance(ids, Sequence) or not ids or not all(isinstance(id_, str) for id_ in ids):
        raise InputError(
            f"batch is {_what_it_is(value)}: give the operator's output, a batch id, or a list of batch ids."
            f"{_likely_remedy(value)}"
        )
    folder = submission_folder(options.results_path, ti)
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
