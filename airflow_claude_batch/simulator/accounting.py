"""Accounting: what was created and what was billed, as JSON data for tests."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_claude_batch.simulator.batches.batch import Batch
from airflow_claude_batch.simulator.batches.results import result_row
from airflow_claude_batch.simulator.clock import timestamp
from airflow_claude_batch.simulator.messages.answers import AnswerWriter
from airflow_claude_batch.simulator.messages.direct_messages import DirectRequest
from airflow_claude_batch.simulator.messages.prompts import Params, last_user_text


def params_digest(params: msgspec.Raw) -> bytes:
    """Hash params with SHA-256, as canonical JSON: sorted keys, no spaces, UTF-8."""
    content = json.loads(bytes(params))
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).digest()


def build_books(
    batches: list[Batch],
    direct: list[DirectRequest],
    *,
    calls: Mapping[str, int],
    answers: AnswerWriter,
    detail: bool = True,
) -> dict[str, Any]:
    """Build what `Simulator.books` returns, over all workspaces.

    :param detail: False leaves out ``requests`` and ``billed``, which is fast for any number of requests.
    """
    entries = [_batch_entry(batch) for batch in batches]
    billed_requests = sum(batch.counts["succeeded"] for batch in batches)
    summary = {
        "batches": entries,
        "direct": _direct_entry(direct, detail=detail),
        "calls": dict(calls),
        "billed_requests": billed_requests,
    }
    if not detail:
        return summary
    billed: Counter[str] = Counter()
    for batch, entry in zip(batches, entries, strict=True):
        entry["requests"] = _request_entries(batch, answers)
        billed.update(request["params_sha256"] for request in entry["requests"] if request["billed"])
    return {**summary, "billed": dict(billed)}


def _direct_entry(requests: list[DirectRequest], *, detail: bool) -> dict[str, Any]:
    """Build the entry of the requests that were answered outside of batches. They are billed at full price."""
    if not detail:
        return {"billed_requests": len(requests)}
    entries = [
        {
            "workspace": request.workspace,
            "created_at": timestamp(request.at),
            "params_sha256": request.digest.hex(),
            "prompt": last_user_text(request.params),
            "usage": request.usage,
        }
        for request in requests
    ]
    billed = Counter(entry["params_sha256"] for entry in entries)
    return {"billed_requests": len(requests), "requests": entries, "billed": dict(billed)}


def build_requests(batches: list[Batch]) -> list[dict[str, Any]]:
    """Build what `Simulator.requests` returns, over all workspaces."""
    return [
        {
            "batch_id": batch.id,
            "custom_id": request.custom_id,
            "params": params,
            "prompt": _prompt(batch, position, params),
            "outcome": outcome,
            "billed": outcome == "succeeded",
        }
        for batch in batches
        for position, request in enumerate(batch.requests.items())
        for params in [request.read_params()]
        for outcome in [batch.outcome(position).kind if batch.ended_at is not None else None]
    ]


def _prompt(batch: Batch, position: int, params: Params) -> str:
    """Return the text of the last user message. Empty in invalid params, which may have any form."""
    return "" if position in batch.problems else last_user_text(params)


def _batch_entry(batch: Batch) -> dict[str, Any]:
    return {
        "id": batch.id,
        "workspace": batch.workspace,
        "created_at": timestamp(batch.created_at),
        "ended_at": timestamp(batch.ended_at),
        "processing_status": batch.processing_status,
        "request_count": batch.request_count,
        "deleted": batch.deleted,
    }


def _request_entries(batch: Batch, answers: AnswerWriter) -> list[dict[str, Any]]:
    entries = []
    for position, request in enumerate(batch.requests.items()):
        outcome = batch.outcome(position).kind if batch.ended_at is not None else None
        billed = outcome == "succeeded"
        result = result_row(batch, position, request, answers)["result"] if billed else {}
        entries.append(
            {
                "custom_id": request.custom_id,
                "params_sha256": params_digest(request.params).hex(),
                "outcome": outcome,
                "billed": billed,
                "usage": result["message"]["usage"] if billed else {},
            }
        )
    return entries
