"""Snapshots of submissions in every state, as the tasks push them, for pages with many of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from submission_rows import TaskRow

from airflow_claude_batch._airflow.snapshots import SNAPSHOT_KEY

MODELS = ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5")
DAGS = ("label_tickets", "summarize_contracts", "product_texts", "translate_reviews", "eval_nightly")
#: Of the older submissions, none is open.
MOST_OPEN = 40
#: State of the snapshot, state of the task instance, and the error. Most submissions have ended.
_KINDS: tuple[tuple[str, str | None, str | None], ...] = (
    ("waiting", "deferred", None),
    ("working", "running", None),
    ("approval", "deferred", None),
    ("waiting", "failed", "The message batches of label_tickets.send have not ended within the timeout (6 hours)."),
    ("ended", "failed", "12 of 4,000 requests have no valid answer, and allow_failed permits none."),
    *(("ended", "success", None),) * 15,
)


def example_rows(count: int, now: datetime, *, seconds_apart: int = 1800) -> list[TaskRow]:
    """Return the task instances of submissions, the newest first. Each seventh that runs has a sensor of its own."""
    return [row for number in range(count) for row in _rows(number, now - timedelta(seconds=number * seconds_apart))]


def _rows(number: int, at: datetime) -> list[TaskRow]:
    dag_id, run_id = DAGS[number % len(DAGS)], f"scheduled__{at:%Y-%m-%dT%H:%M:%S}+00:00"
    reported, state, failure = _KINDS[number % len(_KINDS)]
    if number > MOST_OPEN and state in ("deferred", "running"):
        reported, state = "ended", "success"
    if number % 14 == 7:
        sent = example_snapshot(number, "sent", at - timedelta(minutes=40))
        waits = example_snapshot(number, "ended", at)
        return [
            TaskRow(dag_id, run_id, "wait", "success", at, {SNAPSHOT_KEY: waits}, operator="MessageBatchSensor"),
            TaskRow(dag_id, run_id, "send", "success", at - timedelta(minutes=40), {SNAPSHOT_KEY: sent}),
        ]
    snapshot = example_snapshot(number, reported, at, failure)
    return [TaskRow(dag_id, run_id, "send", state, at, {SNAPSHOT_KEY: snapshot})]


def example_snapshot(number: int, state: str, at: datetime, failure: str | None = None) -> dict[str, Any]:
    """Return a snapshot as it stands in XCom. What it holds follows from its number."""
    model, requests = MODELS[number % 3], 100 + number * 37 % 5000
    created = at - timedelta(minutes=5 + number * 7 % 90)
    expected = Decimal(requests) * (1, 3, 5)[number % 3] / 2000
    snapshot: dict[str, Any] = {
        "submission_id": f"submission-{number}",
        "state": state,
        "updated_at": at.isoformat(),
        "conn_id": "claude_default",
        "root": "s3://bucket/claude-batches",
        "place": {"dag_id": DAGS[number % len(DAGS)], "run_id": f"run_{number}", "task_id": "send"},
        "request_count": requests,
        "estimate": _estimate(model, requests, expected),
    }
    if state in ("working", "approval"):
        return snapshot
    parts = 1 + number % 3
    landed = parts if state == "ended" else number % parts
    snapshot |= {
        "part_count": parts,
        "landed_parts": landed,
        "parts": [_part(number, n, n >= parts - landed, requests // parts, created) for n in range(parts)],
        "created_at": created.isoformat(),
        "usual": [720.0, 2400.0 + number % 5 * 600, 5],
    }
    if failure:
        snapshot["failure"] = failure
    return snapshot | (_result(number, model, requests, expected, at) if state == "ended" else {})


def _part(number: int, part: int, landed: bool, requests: int, created: datetime) -> dict[str, Any]:
    return {
        "state": "landed" if landed else "in_progress",
        "batch_id": f"msgbatch_01{number:010d}{part:03d}",
        "requests": requests,
        "created_at": created.isoformat(),
        "expires_at": (created + timedelta(hours=24)).isoformat(),
    }


def _estimate(model: str, requests: int, expected: Decimal) -> dict[str, Any]:
    return {
        "requests": requests,
        "usd": {"lower": str(expected / 2), "expected": str(expected.quantize(Decimal("0.000001"))), "upper": "99.5"},
        "models": {model: {"requests": requests}},
        "expected_seconds": {"shortest": 900.0, "longest": 3000.0, "runs": 5},
    }


def _result(number: int, model: str, requests: int, expected: Decimal, at: datetime) -> dict[str, Any]:
    errored = 12 if number % 20 == 4 else 3 if number % 9 == 5 else 0
    counts = {"succeeded": requests - errored, "errored": errored, "missing": 0}
    usd = str((expected * (80 + number % 30) / 100).quantize(Decimal("0.000001")))
    usage = {"input_tokens": requests * 900, "output_tokens": requests * 120}
    return {
        "ended_at": at.isoformat(),
        "counts": counts,
        "cost": {"usd": usd, "estimated_usd": str(expected)},
        "by_model": {model: {"counts": counts, "usage": usage, "usd": usd}},
    }
