"""Counts in messages, with the noun in its right form."""

from __future__ import annotations


def quantity(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 message batch``, ``2 message batches``, ``100,000 requests``."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun}{'es' if noun.endswith('ch') else 's'}"
