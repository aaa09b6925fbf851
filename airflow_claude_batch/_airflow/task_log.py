"""What a task's log says of its submission: the outcome, and the bill as a text table."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any, Final

from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.money.amounts import rounded_usd

log = logging.getLogger(__name__)

#: Reasons for which an answer ends that is complete.
_COMPLETE: Final = frozenset({"end_turn", "stop_sequence", "tool_use"})

#: Other amounts in the manifest's ``cost``, by what the table calls them.
_COMPARED: Final = {
    "expected before": "estimated_usd",
    "without the batch discount": "without_batch_usd",
    "without the prompt cache": "without_cache_usd",
}


def log_manifest(manifest: Manifest) -> None:
    """Log what a manifest says, with the bill of what was answered."""
    if manifest.status == "in_progress":
        batches = ", ".join(manifest.batch_ids)
        log.info("%d requests are on their way or answered, in %s", manifest.request_count, batches)
    else:
        counts = ", ".join(f"{count} {word}" for word, count in manifest.counts.items() if count)
        odd = ", ".join(f"{count} {why}" for why, count in manifest.stop_reasons.items() if why not in _COMPLETE)
        remark = f" Not whole, or no answer, by their stop_reason: {odd}." if odd else ""
        log.info("Ended: %s.%s The rows are in %s", counts, remark, manifest.results_path)
    if manifest.by_model:
        log.info("Bill:\n%s", bill_table(manifest))
    if unpriced := (manifest.cost or {}).get("unpriced_models"):
        log.warning(
            "No price is known for %s: the tokens are counted, the cost is not. Add the price to a file that "
            "[claude_batch] prices_path names.",
            ", ".join(unpriced),
        )


def bill_table(manifest: Manifest) -> str:
    """Return the bill as text: a line for each model, the total, and the amounts to compare it with."""
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
