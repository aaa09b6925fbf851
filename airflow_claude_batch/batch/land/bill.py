"""Counts, tokens and cost of a submission, model by model."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from airflow_claude_batch.batch.land.rows import Status, indices_where
from airflow_claude_batch.batch.money.amounts import exact_usd
from airflow_claude_batch.batch.money.cost import Cost, Tokens

if TYPE_CHECKING:
    from airflow_claude_batch.batch.land.landing import Landing

#: Stands for the model of rows without an answer in batches made elsewhere: what they asked is not known here.
UNKNOWN_MODEL: Final = "unknown"


def bill_by_model(landing: Landing, *, complete: bool) -> dict[str, Any]:
    """Sum up each model's rows, as the manifest shows them.

    A model has ``counts`` by status, the ``usage`` in tokens, and ``usd``, which is None if its cost is not known.
    ``reused`` is how many of the rows have a reused answer, left out if none has. A model that only advised another one
    has no counts::

        {"claude-haiku-5-5": {"counts": {"succeeded": 2}, "usage": {"input_tokens": 20, …}, "usd": "0.0021"}}

    :param complete: requests without a result have ended as missing; else they are left out.
    """
    tokens, costs = landing.bill.tokens_by_model, landing.bill.by_model
    counts, reused = _counts(landing, complete=complete), _reused(landing)
    found: dict[str, Any] = {}
    for model in sorted({*counts, *tokens}):
        cost = costs.get(model, Cost())
        usage = tokens.get(model, Tokens()).to_manifest()
        found[model] = {"counts": dict(counts.get(model, ())), "usage": usage, "usd": cost and exact_usd(cost.usd)}
        if model in reused:
            found[model]["reused"] = reused[model]
    return found


def _reused(landing: Landing) -> Counter[str]:
    """Count the rows of each model that have a reused answer."""
    found = Counter[str]()
    for (status, model, _), count in landing.rows.outcomes.counts().items():
        if status == Status.REUSED and model is not None:
            found[landing.bill.canonical(model)] += count
    return found


def _counts(landing: Landing, *, complete: bool) -> dict[str, Counter[str]]:
    """Count the rows of each model by status. A row without an answer counts for the model that was asked."""
    found: Counter[tuple[int, str | None]] = Counter()
    unanswered = {int(Status.NONE)} if complete else set[int]()
    for (status, model, _), count in landing.rows.outcomes.counts().items():
        if model is None:
            unanswered.add(status)
        else:
            found[status, model] += count
    for index in indices_where(landing.statuses, unanswered):
        if landing.rows.outcomes[index].model is None:
            found[landing.statuses[index], landing.matcher.model(index)] += 1
    counts: dict[str, Counter[str]] = {}
    for (status, model), count in found.items():
        name = landing.bill.canonical(model) if model else UNKNOWN_MODEL
        counts.setdefault(name, Counter())[Status(status).word] += count
    return counts
