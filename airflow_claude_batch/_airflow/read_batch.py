"""Read the sensor's ``batch``: an operator's output, a batch id, or a list of batch ids."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_claude_batch._airflow.compat import AirflowSkipException
from airflow_claude_batch._airflow.results_folder import check_below_roots, folder_of_file
from airflow_claude_batch.api.limits import check_batch_id
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.input.request_file import RequestFile, open_requests
from airflow_claude_batch.batch.input.request_lines import REQUESTS_FILE
from airflow_claude_batch.batch.land.handed_over import HandedOver
from airflow_claude_batch.batch.land.manifest import DRY_RUN, read_manifest
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import InputError, SubmissionRecordError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.task_run import TaskRun

log = logging.getLogger(__name__)

NOTHING_LANDED: Final = "Nothing was landed. The API keeps the answers for 29 days."
GIVE_OUTPUT: Final = "Give the operator's output."


@dataclass(frozen=True, slots=True)
class SensedBatches:
    """The message batches that a sensor waits for, and the folder that gets their rows.

    :param request_count: how many requests are in the folder. None for batches made elsewhere.
    :param root: the results_path that the folder is below, None for the deployment's.
    :param handed_over: the operator's arguments that count for the sensor.
    :param has_kept_columns: columns of the source rows lie beside the requests.
    """

    ids: Sequence[str]
    submission_id: str
    folder: storage.Folder
    request_count: int | None
    root: str | None
    handed_over: HandedOver = field(default_factory=HandedOver)
    has_kept_columns: bool = False


def read_batch(value: Any, results_path: str | None, run: TaskRun) -> SensedBatches:
    """Read the sensor's ``batch``. Batches that are not the operator's get the sensor's own folder.

    :raises InputError: it is neither an operator's output nor batch ids, or its folder is not below a results_path.
    :raises AirflowSkipException: the operator's run was dry.
    """
    if isinstance(value, Mapping):
        return _read_manifest(value, results_path, run)
    ids = [value] if isinstance(value, str) else value
    if not isinstance(ids, Sequence) or not ids or not all(isinstance(id_, str) for id_ in ids):
        raise InputError(f"batch is {_described(value)}.", "Nothing was landed.", _remedy(value))
    unique = dict.fromkeys(check_batch_id(id_) for id_ in ids)
    return SensedBatches(tuple(unique), run.submission_id, run.submission_folder(results_path), None, results_path)


def check_same_submission(batches: SensedBatches, expected_id: str) -> None:
    """Check that the batches are of the submission that the sensor began to wait for.

    :raises InputError: they are of another one.
    """
    if batches.submission_id != expected_id:
        raise InputError(
            f"batch is another submission ({batches.folder.uri('')}) than the one that this sensor began to wait for.",
            NOTHING_LANDED,
            "An output of a mapped upstream task is missing. Clear the mapped task that has none, then this one.",
        )


def requests_reader(batches: SensedBatches, scratch: Path) -> Callable[[], RequestFile] | None:
    """Return what reads the requests once all batches have ended. None for batches made elsewhere.

    :param scratch: a directory for a local copy of what is read.
    :raises InputError: the file does not exist.
    """
    if batches.request_count is None:
        return None
    if batches.folder.size(REQUESTS_FILE) is None:
        raise _no_requests_error(batches.folder)

    def read() -> RequestFile:
        requests = open_requests(batches.folder, scratch, verify=False)
        if requests is None:
            raise _no_requests_error(batches.folder)
        if len(requests) != batches.request_count:
            requests.close()
            found = quantity(len(requests), "request")
            raise SubmissionRecordError(
                f"{batches.folder.uri(REQUESTS_FILE)} has {found}, but the operator sent {batches.request_count}: the "
                "file was cut, or written again.",
                NOTHING_LANDED,
                "Restore the file, or clear the operator's task: it writes the file again and pays for nothing twice.",
            )
        if batches.has_kept_columns and requests.kept is None:
            requests.close()
            raise SubmissionRecordError(
                f"{batches.folder.uri('')} has no kept columns that belong to its {REQUESTS_FILE}.",
                NOTHING_LANDED,
                "If the operator's task runs now, it writes them anew: try this task again. Else clear the operator's "
                "task: it reads the rows again and pays for nothing twice.",
            )
        return requests

    return read


def _read_manifest(value: Mapping[str, Any], results_path: str | None, run: TaskRun) -> SensedBatches:
    try:
        manifest = read_manifest(value)
    except ValueError as error:
        raise InputError(
            f"batch is a mapping, but not the operator's output. {error}.", "Nothing was landed.", GIVE_OUTPUT
        ) from None
    if manifest.status == DRY_RUN:
        raise AirflowSkipException("The operator ran with dry_run=True. Nothing was sent, so the sensor is skipped.")
    if manifest.results_path is None:
        raise InputError("batch is a manifest without results_path.", "Nothing was landed.", GIVE_OUTPUT)
    folder, _ = folder_of_file(manifest.results_path)
    ids = [check_batch_id(id_) for id_ in manifest.batch_ids]
    try:
        root = check_below_roots(folder, (results_path, *_results_paths_upstream(run)))
    except InputError:
        if isinstance(folder, storage.LocalFolder) and not (folder.path / REQUESTS_FILE).is_file():
            raise _no_requests_error(folder) from None  # whatever its place, it is not on this worker's disk
        raise
    handed_over = HandedOver.of_manifest(manifest.for_sensor or {})
    has_kept = bool(manifest.kept_columns)
    return SensedBatches(ids, manifest.submission_id, folder, manifest.request_count, root, handed_over, has_kept)


def _results_paths_upstream(run: TaskRun) -> Iterator[str]:
    """Yield what the author of the DAG wrote as ``results_path`` of the operators upstream. It came by no XCom."""
    task = run.ti.task
    for upstream in task.get_flat_relatives(upstream=True):
        own: Any = getattr(upstream, "partial_kwargs", {}).get("results_path", getattr(upstream, "results_path", None))
        if not isinstance(own, str) or not own:
            continue
        try:
            yield str(task.render_template(own, run.context))
        except Exception as error:  # a template may raise anything
            log.debug("results_path of %s cannot be rendered here: %r", upstream.task_id, error)


def _described(value: Any) -> str:
    if value is None:
        return "None: the upstream task or template that gives it returned nothing"
    if isinstance(value, bytes) or not isinstance(value, Sequence):
        return f"of type {type(value).__name__}"
    if not value:
        return "an empty list"
    wrong = next(type(element).__name__ for element in value if not isinstance(element, str))
    return f"a list with an element of type {wrong}"


def _remedy(value: Any) -> str:
    if isinstance(value, Sequence) and value and all(isinstance(element, Mapping) for element in value):
        return (
            "For the outputs of a mapped operator, map the sensor too: "
            "MessageBatchSensor.partial(task_id=…).expand(batch=send.output)."
        )
    return "Give the operator's output, a batch id, or a list of batch ids."


def _no_requests_error(folder: storage.Folder) -> InputError:
    return InputError(
        f"{folder.uri(REQUESTS_FILE)} does not exist. It holds the requests of the batches.",
        NOTHING_LANDED,
        "Set results_path to a place that all workers share. To land the answers without their requests, give the "
        "sensor the manifest's batch_ids.",
    )
