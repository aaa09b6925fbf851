"""Log the outcome of a submission, and its bill as a text table."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any, Final

from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.money.amounts import rounded_usd
from airflow_claude_batch.batch.quantity import quantity

log = logging.getLogger(__name__)

#: The ``stop_reason`` of complete answers.
_COMPLETE: Final = frozenset({"end_turn", "stop_sequence", "tool_use"})

#: Amounts of the manifest's ``cost`` to compare the bill with, by their names in the table.
_COMPARED: Final = {
    "estimated before sending": "estimated_usd",
    "without the batch discount": "without_batch_usd",
    "without the prompt cache": "without_cache_usd",
}


def log_manifest(manifest: Manifest, *, is_old: bool = False) -> None:
    """Log how many requests were sent or have ended, the bill, and what it leaves out.

    :param is_old: earlier attempts had sent everything or, if the submission has ended, landed everything.
    """
    if manifest.status == "in_progress":
        _log_progress(manifest, is_old=is_old)
    elif is_old:
        _log_nothing_new(manifest)
        return
    else:
        _log_end(manifest)
    if manifest.by_model and not is_old:
        log.info("Bill:\n%s", bill_table(manifest))
        _log_reused(manifest)
        _log_ways(manifest)
    if unpriced := (manifest.cost or {}).get("unpriced_models"):
        log.warning(
            "No price is known for %s, so the cost of its tokens is not in the bill. Add the price to the file that "
            "[claude_batch] prices_path names.",
            ", ".join(unpriced),
        )
    if unknown := (manifest.cost or {}).get("unknown_answers"):
        log.warning(
            "The usage of %s is in a form that this release does not know, so the cost is not in the bill. The rows "
            "have the usage as the API sent it. Look up the cost in the Console, or upgrade this package.",
            quantity(unknown, "answer"),
        )


def _log_progress(manifest: Manifest, *, is_old: bool) -> None:
    if not manifest.batch_ids:
        log.info("No message batch was created.")
        return
    several = len(manifest.batch_ids) > 1
    log.info(
        "%s %s %s in progress. %s of %s %s a result.",
        "Message batches" if several else "Message batch",
        ", ".join(manifest.batch_ids),
        "are" if several else "is",
        f"{manifest.request_count - manifest.counts.get('missing', 0):,}",
        quantity(manifest.request_count, "request"),
        "has" if manifest.request_count == 1 else "have",
    )
    if is_old:
        log.info("Nothing was sent now: an earlier try had sent every request.")


def _log_nothing_new(manifest: Manifest) -> None:
    """Say that nothing was sent, and that what the rows cost was paid earlier."""
    count = manifest.request_count
    if manifest.counts.get("succeeded") == count:
        rows = "the answer was there" if count == 1 else f"all {count:,} answers were there"
    else:
        rows = f"{quantity(count, 'request')} had {'its row' if count == 1 else 'their rows'}: {_counts(manifest)}"
    usd = (manifest.cost or {}).get("usd")
    log.info("Nothing was sent: %s. Nothing is billed now; the cost of %s was paid earlier.", rows, _amount(usd))
    log.info("The rows are in %s.", manifest.results_path)


def _log_reused(manifest: Manifest) -> None:
    """Say how many answers were reused, from when they are, and what they cost first."""
    if not manifest.reused:
        return
    first, last = (str(manifest.reused[name])[:10] for name in ("oldest_at", "newest_at"))
    usd = manifest.reused["first_usd"]
    log.info(
        "%s %s reused from the answer store, answered %s. Nothing is billed for %s; %s cost %s then.",
        quantity(manifest.reused["requests"], "answer"),
        "was" if manifest.reused["requests"] == 1 else "were",
        f"on {first}" if first == last else f"between {first} and {last}",
        "it" if manifest.reused["requests"] == 1 else "them",
        "it" if manifest.reused["requests"] == 1 else "they",
        _amount(usd),
    )


def _log_ways(manifest: Manifest) -> None:
    """Split the bill by way: message batches, and the Messages API. Say what may have been paid for twice."""
    if not manifest.direct:
        return
    answers, unseen = manifest.direct["answers"], manifest.direct["unseen"]
    log.info(
        "The bill by way: message batches %s, and %s asked directly at full price %s.",
        _amount(manifest.direct["batch_usd"]),
        quantity(answers, "request"),
        _amount(manifest.direct["usd"]),
    )
    if unseen:
        log.warning(
            "%s in flight when a process of this task ended. %s may have been answered and paid for then, and again "
            "later. What was paid for without an answer is not in the bill.",
            f"{quantity(unseen, 'request')} {'was' if unseen == 1 else 'were'}",
            "It" if unseen == 1 else "They",
        )


def _amount(usd: str | None) -> str:
    return "an unknown amount" if usd is None else f"{rounded_usd(Decimal(usd))} USD"


def _counts(manifest: Manifest) -> str:
    return ", ".join(f"{count:,} {status}" for status, count in manifest.counts.items() if count)


def _log_end(manifest: Manifest) -> None:
    log.info("All requests have ended: %s. The rows are in %s.", _counts(manifest), manifest.results_path)
    if odd := ", ".join(f"{count} {why}" for why, count in manifest.stop_reasons.items() if why not in _COMPLETE):
        log.info("Incomplete or refused answers, by stop_reason: %s.", odd)


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
