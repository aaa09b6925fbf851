"""The fields of a submission in JSON. They are stable: new ones may be added."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from airflow_claude_batch._airflow.results_folder import folder_of_place
from airflow_claude_batch._airflow.snapshot_values import Values, values_of
from airflow_claude_batch._airflow.states import Standing, State, standing_of
from airflow_claude_batch._airflow.submissions import FoundSubmission
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.money.amounts import exact_usd
from airflow_claude_batch.commands.lookup import id_of


def standing(found: FoundSubmission, now: datetime) -> Standing:
    """Decide where a submission stands."""
    return standing_of(found.snapshot, found.manifest, found.state, now)


def may_bill(at: Standing) -> bool:
    """Return True if the submission is open: its task works or waits, or message batches of it still run."""
    return at.is_live or at.state is State.STOPPED


def summary(found: FoundSubmission, now: datetime) -> dict[str, Any]:
    """Return what ``list`` shows of a submission."""
    at, values = standing(found, now), values_of(found.snapshot, found.manifest)
    return {
        "submission_id": id_of(found),
        "dag_id": found.key.dag_id,
        "run_id": found.key.run_id,
        "task_id": found.key.task_id,
        "map_index": found.key.map_index,
        "try_number": found.try_number,
        "task_state": found.state,
        "state": str(at.state),
        "detail": at.detail or None,
        "is_open": may_bill(at),
        "requests": values.request_count,
        "batches": at.batch_count,
        "ended_batches": at.ended_batches,
        "failed": values.failed if values.counts else None,
        "reused": values.reused,
        **_money(values),
        "created_at": _iso(values.created_at),
        "ended_at": _iso(values.ended_at),
        "changed_at": _iso(found.pushed_at),
        "failure": None if found.snapshot is None else found.snapshot.failure,
    }


def details(found: Sequence[FoundSubmission], output: Manifest | None, now: datetime) -> dict[str, Any]:
    """Return what ``show`` shows of a submission.

    :param found: its task instances, the one that has changed last first.
    :param output: what that one has returned.
    """
    newest = found[0]
    snapshot, source = newest.snapshot, newest.snapshot or newest.manifest
    values = values_of(snapshot, newest.manifest)
    return {
        **summary(newest, now),
        "conn_id": None if snapshot is None else snapshot.conn_id,
        "folder": folder_of(newest),
        "results_path": None if output is None else output.results_path,
        "reason": None if snapshot is None else snapshot.reason,
        "counts": values.counts,
        "models": {} if source is None else source.by_model,
        "cost": None if source is None else source.cost,
        "estimate": None if source is None else source.estimate,
        "approval": None if source is None else source.approval or None,
        "reused_answers": None if source is None else source.reused or None,
        "usual_seconds": None if snapshot is None or snapshot.usual is None else list(snapshot.usual),
        "parts": _parts(newest),
        "task_instances": [
            {
                "dag_id": each.key.dag_id,
                "run_id": each.key.run_id,
                "task_id": each.key.task_id,
                "map_index": each.key.map_index,
                "task_state": each.state,
                "changed_at": _iso(each.pushed_at),
            }
            for each in found
        ],
    }


def folder_of(found: FoundSubmission) -> str | None:
    """Return the folder of a submission's files, None if it is not known."""
    if found.snapshot is not None and found.snapshot.place is not None:
        return folder_of_place(found.snapshot.root, found.snapshot.place)
    if found.snapshot is not None:
        return found.snapshot.root
    path = None if found.manifest is None else found.manifest.results_path
    return None if path is None else path.rpartition("/")[0]


def _money(values: Values) -> dict[str, Any]:
    return {
        "estimated_usd": None if values.estimate is None else exact_usd(values.estimate.expected),
        "cost_usd": None if values.cost is None else exact_usd(values.cost.usd),
        "cost_is_complete": None if values.cost is None else values.cost.is_complete,
    }


def _parts(found: FoundSubmission) -> list[dict[str, Any]]:
    if found.snapshot is None:
        ids = [] if found.manifest is None else found.manifest.batch_ids
        return [
            {"batch_id": id_, "state": None, "requests": None, "created_at": None, "expires_at": None} for id_ in ids
        ]
    return [
        {
            "batch_id": part.batch_id,
            "state": str(part.state),
            "requests": part.requests,
            "created_at": _iso(part.created_at),
            "expires_at": _iso(part.expires_at),
        }
        for part in found.snapshot.parts
    ]


def _iso(at: datetime | None) -> str | None:
    return None if at is None else str(msgspec.to_builtins(at))
