"""The manifest: the small JSON that goes to XCom and stands beside the rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from airflow_claude_batch.api.wire import Timestamp
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.storable_json import storable_names
from airflow_claude_batch.exceptions import SubmissionRecordError

MANIFEST_FILE: Final = "manifest.json"
SCHEMA_VERSION: Final = 1
DRY_RUN: Final = "dry_run"
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
#: Statuses of rows that were paid for.
_PAID: Final = ("succeeded", "invalid_output")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a submission: how its requests ended, what that cost, and where the rows are.

    The operator and the sensor return it as a dict (see :meth:`to_xcom`)::

        {"submission_id": "dag/run/task", "status": "ended", "batch_ids": ["msgbatch_01…"], "request_count": 2,
         "counts": {"succeeded": 2, "errored": 0, …}, "results_path": "s3://bucket/…/results.jsonl", …}
    """

    submission_id: str
    #: ``ended`` once every request has its final row, ``dry_run`` if nothing was sent, else ``in_progress``.
    status: str
    #: Every batch that was created for the submission.
    batch_ids: list[str]
    request_count: Count
    #: Number of rows of each status.
    counts: dict[str, int]
    #: Path or URI of the file with the rows, None for a dry run.
    results_path: str | None
    #: Number of answers by stop reason, invalid answers included. ``max_tokens`` and ``refusal`` deserve attention.
    stop_reasons: dict[str, int] = {}
    #: The rows themselves if they are small and Airflow's stores can hold them, else None.
    responses: list[Any] | None = None
    #: Batches whose answers are in the file with the rows, or are not wanted any more.
    landed_batch_ids: list[str] = []
    #: Number of requests in each batch, as far as they are known. In the file only, while batches are in progress.
    batch_request_counts: dict[str, Count] | msgspec.UnsetType = msgspec.UNSET
    #: The operator's arguments that count for the sensor, unless it has its own: ``allow_failed``, ``delete_batches``
    #: and ``results_format``; and ``answer_store``. Left out if there are none.
    for_sensor: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    #: Reused answers: the number of ``requests``, and ``first_usd``, what they cost when they were asked for (None if
    #: that is not known), answered between ``oldest_at`` and ``newest_at``. Left out if there are none.
    reused: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    #: Answers of the Messages API, at full price: how many (``answers``), what they cost (``usd``), and what those of
    #: message batches cost (``batch_usd``); None if that is not known. ``unseen`` is the number of requests that may
    #: have been paid for twice, because a process ended while they were asked. Left out if there are none.
    direct: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    #: Batches whose answers are in the answer store. Left out if there are none.
    stored_batch_ids: list[str] | msgspec.UnsetType = msgspec.UNSET
    #: The columns of the source rows that each row carries in ``input``. Left out if there are none.
    kept_columns: list[str] | msgspec.UnsetType = msgspec.UNSET
    #: Tokens of all answers, by the API's names.
    usage: dict[str, Any] | None = None
    #: US dollars as decimal digits: ``usd``, ``estimated_usd``, ``without_batch_usd``, ``without_cache_usd``. Those
    #: that are not known are None. ``unpriced_models`` lists the models without a price. ``unknown_answers`` counts the
    #: answers whose usage is in a form that is not known; it is left out if there are none.
    cost: dict[str, Any] | None = None
    #: ``counts``, ``usage`` and ``usd`` of each model's rows.
    by_model: dict[str, Any] = {}
    #: The estimate that was made before sending.
    estimate: dict[str, Any] | None = None
    #: Who approved the cost (``by``), when (``at``), and up to which amount in all (``usd``, None if a price was not
    #: known). Left out if nobody had to be asked, or nobody was.
    approval: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    #: When the first batch was created, and when the last one ended.
    created_at: Timestamp | None = None
    ended_at: Timestamp | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def result_count(self) -> int:
        """The number of rows for which a result came."""
        return sum(self.counts.values()) - self.counts.get("missing", 0)

    def to_xcom(self) -> dict[str, Any]:
        """Return the manifest as a dict of JSON values that every store of Airflow takes.

        Names of models and stop reasons come from answers. They may hold what a store refuses. What only the readers of
        the file need is left out.
        """
        plain = msgspec.structs.replace(self, responses=None, batch_request_counts=msgspec.UNSET)
        values: dict[str, Any] = storable_names(msgspec.to_builtins(plain))
        return {**values, "responses": self.responses}


def read_manifest(value: Any) -> Manifest:
    """Read a manifest that came by XCom. Fields of later versions are ignored.

    :raises ValueError: the value is not a manifest.
    """
    try:
        return msgspec.convert(value, Manifest)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ValueError(f"This is not a manifest: {error}") from error


def load_manifest(folder: storage.Folder) -> Manifest | None:
    """Read the manifest beside the rows; None if nothing was landed yet.

    :raises SubmissionRecordError: the file is damaged.
    """
    data = storage.read(folder, MANIFEST_FILE)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SubmissionRecordError(
            f"{folder.uri(MANIFEST_FILE)} is damaged ({error}).",
            "Answers of message batches stay at the API for 29 days; without the file they are downloaded again, free.",
            "Remove the file and clear the task.",
        ) from None


def landed_batch_ids(folder: storage.Folder) -> frozenset[str]:
    """Return the batches whose answers are in the folder's rows."""
    known = load_manifest(folder)
    return frozenset(known.landed_batch_ids if known else ())


def counts_more_answers(known: Manifest | None, counts: Mapping[str, int]) -> bool:
    """Tell whether the manifest counts more answers than these: then rows were lost after it was written."""
    return known is not None and any(known.counts.get(word, 0) > counts[word] for word in _PAID)


def write_manifest(folder: storage.Folder, manifest: Manifest) -> None:
    """Write the manifest beside its rows, without the rows themselves. The rows must be there before it."""
    storage.write(folder, MANIFEST_FILE, msgspec.json.encode(msgspec.structs.replace(manifest, responses=None)))
