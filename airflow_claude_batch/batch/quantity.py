"""Counts and names in messages, with the noun and the article in their right form."""

from __future__ import annotations


def quantity(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 message batch``, ``2 message batches``, ``100,000 requests``."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun}{'es' if noun.endswith('ch') else 's'}"


def with_article(noun: str) -> str:
    """Return a noun, such as the name of a type, with its article: ``an int``, ``a float``. An empty text stays one."""
    return noun and f"{'an' if noun[0] in 'aeioAEIO' else 'a'} {noun}"
