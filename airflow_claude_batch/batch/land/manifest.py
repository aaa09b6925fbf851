"""The manifest: the small JSON that goes to XCom and stands beside the rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec

from airflow_claude_batch.api.wire import Timestamp
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.land.bill import bill_by_model
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.exceptions import SubmissionRecordError

MANIFEST_FILE = "manifest.json"
SCHEMA_VERSION = 1
DRY_RUN = "dry_run"
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
#: How requests end that were paid for.
_PAID = ("succeeded", "invalid_output")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a submission came to.

    ``status`` is ``ended`` once every request has its final row, ``dry_run`` if nothing was sent, else
    ``in_progress``. ``stop_reasons`` counts why the answers ended, those of ``invalid_output`` rows too: ``max_tokens``
    and ``refusal`` are not what was asked for. ``responses`` holds the rows themselves while they are small, else None
    and ``results_path`` says where they are. ``landed_batch_ids`` are the batches whose answers are in that file, or
    are not wanted any more. ``by_model`` has the counts, usage and USD of each model's rows.
    """

    submission_id: str
    status: str
    batch_ids: list[str]
    request_count: Count
    counts: dict[str, int]
    results_path: str | None
    stop_reasons: dict[str, int] = {}
    responses: list[Any] | None = None
    landed_batch_ids: list[str] = []
    usage: dict[str, Any] | None = None
    cost: dict[str, Any] | None = None
    by_model: dict[str, Any] = {}
    estimate: dict[str, Any] | None = None
    created_at: Timestamp | None = None
    ended_at: Timestamp | None = None
    schema_version: int = SCHEMA_VERSION

    def to_xcom(self) -> dict[str, Any]:
        """Plain JSON values."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


def read_manifest(value: Any) -> Manifest:
    """Understand a manifest that came by XCom or from a file; fields of later versions are ignored.

    :raises ValueError: it is none.
    """
    try:
        return msgspec.convert(value, Manifest)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ValueError(f"not a manifest: {error}") from error


def load_manifest(folder: storage.Folder) -> Manifest | None:
    """The manifest beside the rows, whichever task landed them; None if nothing was landed yet.

    :raises SubmissionRecordError: it cannot be understood.
    """
    data = storage.read(folder, MANIFEST_FILE)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SubmissionRecordError(
            f"{folder.uri(MANIFEST_FILE)} is damaged ({error}). Remove it: the answers are then fetched again."
        ) from error


def landed_batch_ids(folder: storage.Folder) -> frozenset[str]:
    """The batches that the folder's rows account for."""
    known = load_manifest(folder)
    return frozenset(known.landed_batch_ids if known else ())


def counts_more_answers(folder: storage.Folder, counts: Mapping[str, int]) -> bool:
    """Whether the manifest, which is written after the rows, counts more paid answers: then some rows are lost."""
    known = load_manifest(folder)
    return known is not None and any(known.counts.get(word, 0) > counts[word] for word in _PAID)


def write_manifest(folder: storage.Folder, manifest: Manifest) -> None:
    """Write the manifest beside the rows that it speaks of, after them."""
    storage.write(folder, MANIFEST_FILE, msgspec.json.encode(msgspec.structs.replace(manifest, responses=None)))


def summarize(
    landing: Landing,
    *,
    submission_id: str,
    status: str,
    batch_ids: Sequence[str],
    landed: Collection[str],
    results_path: str,
    created_at: datetime | None,
    ended_at: datetime | None,
    estimate: dict[str, Any] | None = None,
) -> Manifest:
    """A submission as it stands."""
    return Manifest(
        submission_id=submission_id,
        status=status,
        batch_ids=list(batch_ids),
        request_count=len(landing.statuses),
        counts=landing.counts(),
        stop_reasons=landing.stop_reasons(),
        results_path=results_path,
        landed_batch_ids=[batch_id for batch_id in batch_ids if batch_id in landed],
        usage=landing.bill.tokens.to_manifest(),
        cost=_cost(landing, estimate),
        by_model=bill_by_model(landing, complete=status == "ended"),
        estimate=estimate,
        created_at=created_at,
        ended_at=ended_at if status == "ended" else None,
    )


def dry_manifest(submission_id: str, request_count: int, estimate: dict[str, Any]) -> Manifest:
    """What a submission would be: nothing was sent."""
    return Manifest(
        submission_id=submission_id,
        status=DRY_RUN,
        batch_ids=[],
        request_count=request_count,
        counts={},
        results_path=None,
        cost={"usd": "0", "estimated_usd": _expected(estimate)},
        estimate=estimate,
    )


def _cost(landing: Landing, estimate: dict[str, Any] | None) -> dict[str, Any]:
    """The bill, with the expected cost beside it."""
    return {**landing.bill.to_manifest(), "estimated_usd": _expected(estimate)}


def _expected(estimate: dict[str, Any] | None) -> Any:
    """The expected cost; None also if another release writes estimates otherwise: they are for people."""
    usd = (estimate or {}).get("usd")
    return usd.get("expected") if isinstance(usd, dict) else None
