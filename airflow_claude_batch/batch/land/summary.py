"""Make the manifest of a landing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from airflow_claude_batch.batch.land.bill import bill_by_model
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.manifest import DRY_RUN, Manifest
from airflow_claude_batch.batch.land.rows import Status, count_statuses


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
    approval: dict[str, Any] | None = None,
    sent: Mapping[str, int] | None = None,
    unseen: int = 0,
) -> Manifest:
    """Make the manifest of a submission as it stands.

    :param approval: who approved it.
    :param sent: number of requests in each batch, as far as they are known.
    :param unseen: number of requests that were asked directly by a process that ended before it had their answers.
    """
    all_reused = estimate is None and not batch_ids and Status.REUSED in landing.statuses
    return Manifest(
        submission_id=submission_id,
        status=status,
        batch_ids=list(batch_ids),
        request_count=len(landing.statuses),
        counts=count_statuses(landing.statuses),
        stop_reasons=landing.rows.outcomes.stop_reasons(),
        results_path=results_path,
        landed_batch_ids=[batch_id for batch_id in batch_ids if batch_id in landed],
        batch_request_counts=dict(sent) if sent and status != "ended" else msgspec.UNSET,
        reused=_reused(landing),
        direct=_direct(landing, unseen),
        stored_batch_ids=[id_ for id_ in batch_ids if id_ in landing.stored_batch_ids] or msgspec.UNSET,
        kept_columns=list(landing.matcher.kept_types) or msgspec.UNSET,
        usage=landing.bill.tokens.to_manifest(),
        cost={**landing.bill.to_manifest(), "estimated_usd": "0" if all_reused else _expected_usd(estimate)},
        by_model=bill_by_model(landing, complete=status == "ended"),
        estimate=estimate,
        approval=approval or msgspec.UNSET,
        created_at=created_at,
        ended_at=ended_at if status == "ended" else None,
    )


def _direct(landing: Landing, unseen: int) -> dict[str, Any] | msgspec.UnsetType:
    split = landing.bill.direct_to_manifest()
    if split is None and not unseen:
        return msgspec.UNSET
    return {**(split or {"answers": 0, "usd": "0", "batch_usd": landing.bill.to_manifest()["usd"]}), "unseen": unseen}


def _reused(landing: Landing) -> dict[str, Any] | msgspec.UnsetType:
    count = landing.statuses.count(Status.REUSED)
    return landing.bill.reused.to_manifest(count) if count else msgspec.UNSET


def summarize_dry_run(
    submission_id: str, request_count: int, estimate: dict[str, Any], reused: Mapping[str, Any] | None = None
) -> Manifest:
    """Make the manifest of a dry run: nothing was sent.

    :param reused: what the manifest is to say of requests that the answer store has. None if there are none.
    """
    return Manifest(
        submission_id=submission_id,
        status=DRY_RUN,
        batch_ids=[],
        request_count=request_count,
        counts={},
        results_path=None,
        cost={"usd": "0", "estimated_usd": _expected_usd(estimate)},
        reused=dict(reused) if reused else msgspec.UNSET,
        estimate=estimate,
    )


def _expected_usd(estimate: dict[str, Any] | None) -> Any:
    """Return the expected cost, None if there is none. A later release may write its estimates in another form."""
    usd = (estimate or {}).get("usd")
    return usd.get("expected") if isinstance(usd, dict) else None
