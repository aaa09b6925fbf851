"""Find the rows of what a task gives to ``read_rows``: manifests, paths and lists of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from airflow_claude_batch._airflow.compat import ObjectStoragePath
from airflow_claude_batch._airflow.results_folder import folder_at, folder_of_file
from airflow_claude_batch.batch.input.request_lines import REQUESTS_FILE
from airflow_claude_batch.batch.land.manifest import DRY_RUN, MANIFEST_FILE, Manifest, load_manifest
from airflow_claude_batch.batch.land.rows import RESULTS_FILE
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import ResultsError

if TYPE_CHECKING:
    from airflow_claude_batch.batch.storage import Folder

#: Classes of Airflow, or above them, that stand for an output before the task runs.
_UNRESOLVED: Final = frozenset({"XComArg", "AbstractOperator", "BaseOperator", "MappedOperator"})
_TAKES: Final = "It takes a manifest, a list of manifests, or the path of a results file or of a submission's folder."
_NO_ROW: Final = "No row was read."


@dataclass(frozen=True, slots=True)
class ResultsFile:
    """A file with rows: its path or URI."""

    path: str


@dataclass(frozen=True, slots=True)
class GivenRows:
    """Rows that a manifest holds itself.

    :param place: where the manifest is in the list that was given, for messages.
    """

    rows: Iterable[Any]
    place: str


def find_rows(source: Any, place: str = "") -> Iterator[ResultsFile | GivenRows]:
    """Yield where the rows are, in order. Lists may be lazy, as the outputs of a mapped task are.

    :param place: the place in the list that was given, such as ``[2]``.
    :raises ResultsError: there are no rows, or it cannot be told where they are. The message names the remedy.
    """
    if isinstance(source, Manifest):
        source = source.to_xcom()
    if isinstance(source, str):
        yield _of_text(source, place)
    elif isinstance(source, Mapping):
        yield _of_mapping(source, place)
    elif isinstance(source, os.PathLike | ObjectStoragePath):
        yield _of_text(str(source), place)
    elif not isinstance(source, Iterable) or isinstance(source, bytes) or _is_unresolved(source):
        raise _refusal(source, place)
    else:
        for number, element in enumerate(source):
            yield from find_rows(element, f"{place}[{number}]")


def _of_mapping(source: Mapping[str, Any], place: str) -> ResultsFile | GivenRows:
    if source.get("responses") is not None:
        return GivenRows(source["responses"], _at(place))
    if source.get("status") == DRY_RUN:
        raise ResultsError(
            f"read_rows got the manifest of a dry run{_at(place)}: nothing was sent, so there are no rows.",
            "Nothing was billed. The manifest's estimate says what the requests would cost.",
            "Run the operator with dry_run=False, or skip the tasks that read rows while it is True.",
        )
    if not (path := source.get("results_path")):
        raise _not_a_manifest(source, place)
    if source.get("status") == "in_progress":
        folder, _ = folder_of_file(str(path))
        known = load_manifest(folder)
        if known is None or known.status != "ended":  # the sensor lands into the operator's folder
            raise _in_progress(source.get("batch_ids"), place)
    return ResultsFile(str(path))


def _not_a_manifest(source: Mapping[str, Any], place: str) -> ResultsError:
    if "submission_id" in source or "results_path" in source:
        return ResultsError(
            f"The manifest{_at(place)} has no results_path.",
            "Nothing is landed yet.",
            "Read the rows from the manifest of the task that waits for the results.",
        )
    if "index" in source and "status" in source:
        return ResultsError(
            f"read_rows got a row{_at(place)} instead of a manifest.",
            "It needs no reading: its fields are the row's.",
            "Give read_rows the whole manifest to get Row objects.",
        )
    names = ", ".join(repr(name) for name in list(source)[:3])
    what = f"a mapping with {names[:60]}" if names else "an empty mapping"
    return ResultsError(
        f"read_rows got {what}{_at(place)} instead of a manifest: it has no results_path.",
        _NO_ROW,
        "Give read_rows the manifest as the operator or the sensor returned it.",
    )


def _of_text(text: str, place: str) -> ResultsFile | GivenRows:
    """Find the rows of a path, a URI, or a manifest that was made a text on its way."""
    if not text.strip():
        raise _nothing("an empty text", place)
    if text.startswith("msgbatch_"):
        raise ResultsError(
            f"read_rows got the id of a message batch{_at(place)} instead of a manifest: {text[:40]}.",
            "No row was read. The API keeps the answers for 29 days.",
            "Land them with MessageBatchSensor(batch=…), and give read_rows what the sensor returns.",
        )
    if text.lstrip()[0] in "{[":
        return _of_json(text, place)
    folder, name = folder_of_file(text)
    if name == REQUESTS_FILE:
        raise ResultsError(
            f"{text} has the requests that were sent, not their rows.",
            _NO_ROW,
            f"The rows are in {RESULTS_FILE} beside it, once they are landed.",
        )
    if name == MANIFEST_FILE:
        return _of_folder(folder, text)
    if name.endswith((".jsonl", ".parquet", ".csv")) or _is_file(folder, name):
        return ResultsFile(text)
    return _of_folder(folder_at(text.rstrip("/") or "/"), text)


def _of_json(text: str, place: str) -> ResultsFile | GivenRows:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        value = None
    if isinstance(value, dict):
        return _of_mapping(value, place)
    raise ResultsError(
        f"read_rows got a text{_at(place)} that is neither a path nor a manifest's JSON.",
        _NO_ROW,
        "A template gives text unless the DAG has render_template_as_native_obj=True. Give the task the output itself: "
        "my_task(send.output).",
    )


def _is_file(folder: Folder, name: str) -> bool:
    if not name:
        return False
    try:
        file = folder.open(name)
    except IsADirectoryError:
        return False
    if file is None:
        return False
    file.close()
    return True


def _of_folder(folder: Folder, given: str) -> ResultsFile:
    """Find the rows in a submission's folder.

    :param given: the folder as it was given.
    """
    known = load_manifest(folder)
    if known is not None and known.status != "ended":
        raise _in_progress(known.batch_ids, "")
    file = folder.open(RESULTS_FILE)
    if file is None:
        raise ResultsError(
            f"{given} is no results file, and no folder with a {RESULTS_FILE}.",
            "Nothing is landed yet, it was moved, or this worker has another storage.",
            "Give the folder of one submission, <results_path>/<dag_id>/<run_id>/<task_id>, or the manifest.",
        )
    file.close()
    return ResultsFile(folder.uri(RESULTS_FILE))


def _in_progress(batch_ids: Any, place: str) -> ResultsError:
    count = len(batch_ids) if isinstance(batch_ids, list) else 0
    run = f"{quantity(count, 'message batch')} {'runs' if count == 1 else 'run'} on, billed for what is answered. "
    return ResultsError(
        f"read_rows got the manifest{_at(place)} of a submission that is in progress: its rows are not complete.",
        f"{run if count else ''}{_NO_ROW}",
        "Wait for it with MessageBatchSensor(batch=send.output), and give read_rows what the sensor returns. Or let "
        "the operator wait: wait_for_completion=True.",
    )


def _refusal(source: Any, place: str) -> ResultsError:
    if source is None:
        return _nothing("None", place)
    if _is_unresolved(source):
        return ResultsError(
            f"read_rows got the output of a task{_at(place)} that has not run yet ({type(source).__name__}).",
            "No row was read: the DAG file is only being parsed.",
            "Call read_rows inside a task, and give that task the output: @task def use(manifest), then "
            "use(wait.output).",
        )
    return ResultsError(
        f"read_rows got an object of type {type(source).__name__}{_at(place)} instead of a manifest.", _NO_ROW, _TAKES
    )


def _nothing(what: str, place: str) -> ResultsError:
    return ResultsError(
        f"read_rows got {what}{_at(place)} instead of a manifest.",
        _NO_ROW,
        "Check that the upstream task ran and returned its manifest. One that was skipped, or marked success by hand, "
        "returns none.",
    )


def _is_unresolved(source: Any) -> bool:
    return not _UNRESOLVED.isdisjoint(cls.__name__ for cls in type(source).__mro__)


def _at(place: str) -> str:
    return f" at {place}" if place else ""
