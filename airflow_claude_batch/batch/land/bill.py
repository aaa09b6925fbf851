"""Counts, tokens and cost of a submission, model by model."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from airflow_claude_batch.batch.land.rows import Status
from airflow_claude_batch.batch.money.estimate import rounded_usd
from airflow_claude_batch.batch.money.pricing import Cost, Tokens, exact_usd

if TYPE_CHECKING:
    from airflow_claude_batch.batch.land.landing import Landing
    from airflow_claude_batch.batch.land.manifest import Manifest

#: Stands for the model of rows without an answer in batches made elsewhere: what they asked is not known here.
UNKNOWN_MODEL: Final = "unknown"


def bill_by_model(landing: Landing, *, complete: bool) -> dict[str, Any]:
    """Sum up each model's rows, as the manifest shows them.

    A model has ``counts`` by status, the ``usage`` in tokens, and ``usd``, which is None if the model has no price::

        {"claude-haiku-5-5": {"counts": {"succeeded": 2}, "usage": {"input_tokens": 20, …}, "usd": "0.0021"}}

    :param complete: requests without a result have ended as missing; else they are left out.
    """
    tokens, costs = landing.bill.tokens_by_model, landing.bill.by_model
    found: dict[str, Any] = {}
    for model, counts in sorted(_counts(landing, complete=complete).items()):
        cost = costs.get(model, Cost())
        usage = tokens.get(model, Tokens()).to_manifest()
        found[model] = {"counts": dict(counts), "usage": usage, "usd": cost and exact_usd(cost.usd)}
    return found


def _counts(landing: Landing, *, complete: bool) -> dict[str, Counter[str]]:
    """Count the rows of each model by status. A row without an answer counts for the model that was asked."""
    rows = Counter(zip(landing.statuses, landing.rows.models(), strict=True))
    found = Counter({key: count for key, count in rows.items() if key[1] is not None})
    unanswered = {status for status, model in rows if model is None and (complete or status != Status.NONE)}
    if unanswered:  # their requests are read one by one, which takes time
        answers = enumerate(zip(landing.statuses, landing.rows.models(), strict=True))
        found.update(
            (status, landing.model_of(index))
            for index, (status, model) in answers
            if model is None and status in unanswered
        )
    counts: dict[str, Counter[str]] = {}
    for (status, model), count in found.items():
        name = landing.bill.canonical(model) if model else UNKNOWN_MODEL
        counts.setdefault(name, Counter())[Status(status).word] += count
    return counts


def bill_table(manifest: Manifest) -> str:
    """The bill as a few lines for the log: by model, in all, and beside what it might have been."""
    cost = manifest.cost or {}
    lines = [("", "rows", "input tokens", "cached", "output tokens", "USD")]
    lines += [_line(model, part) for model, part in manifest.by_model.items()]
    total = {"counts": manifest.counts, "usage": manifest.usage or {}, "usd": cost.get("usd")}
    if len(manifest.by_model) > 1:
        lines.append(_line("all", total))
    for words, name in _COMPARED.items():
        if cost.get(name) is not None:
            lines.append((words, "", "", "", "", rounded_usd(Decimal(cost[name]))))
    width = max(len(line[0]) for line in lines) + 2
    return "\n".join(f"{line[0]:<{width}}" + "{:>10}{:>15}{:>12}{:>15}{:>14}".format(*line[1:]) for line in lines)


_COMPARED: Final = {
    "expected before": "estimated_usd",
    "without the batch discount": "without_batch_usd",
    "without the prompt cache": "without_cache_usd",
}


def _line(name: str, part: dict[str, Any]) -> tuple[str, str, str, str, str, str]:
    usage, usd = part["usage"], part["usd"]
    cached = usage.get("cache_read_input_tokens", 0) + usage.get("cache_creation_input_tokens", 0)
    return (
        name,
        f"{sum(part['counts'].values()):,}",
        f"{usage.get('input_tokens', 0) + cached:,}",
        f"{cached:,}",
        f"{usage.get('output_tokens', 0):,}",
        "unknown" if usd is None else rounded_usd(Decimal(usd)),
    )
