"""What a submission came to, model by model: for the manifest, the metrics and the log."""

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

#: Of rows without an answer in batches that were made elsewhere: nobody here knows what they asked.
UNKNOWN: Final = "unknown"


def bill_by_model(landing: Landing, *, complete: bool) -> dict[str, Any]:
    """By model: how its rows ended (``counts``), what they used, and the ``usd`` of that, None if it has no price.

    :param complete: requests without an outcome have ended as missing; else they are left out.
    """
    tokens, costs = landing.bill.tokens_by_model, landing.bill.by_model
    found: dict[str, Any] = {}
    for model, counts in sorted(_counts(landing, complete=complete).items()):
        cost = costs.get(model, Cost())
        usage = tokens.get(model, Tokens()).to_manifest()
        found[model] = {"counts": dict(counts), "usage": usage, "usd": cost and exact_usd(cost.usd)}
    return found


def _counts(landing: Landing, *, complete: bool) -> dict[str, Counter[str]]:
    rows = Counter(zip(landing.statuses, landing.answered_by, strict=True))
    silent = {status for status, model in rows if model is None and (complete or status != Status.NONE)}
    found = Counter({key: count for key, count in rows.items() if key[1] is not None})
    if silent:
        answers = zip(landing.statuses, landing.answered_by, strict=True)
        unanswered = ((i, status) for i, (status, model) in enumerate(answers) if model is None and status in silent)
        found.update((status, landing.asked(index)) for index, status in unanswered)
    counts: dict[str, Counter[str]] = {}
    for (status, model), count in found.items():
        name = landing.bill.canonical(model) if model else UNKNOWN
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
