"""Finds the column that an author meant, and lists the columns that there are."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

#: Columns that an error lists, and the characters of each.
_MOST_LISTED: Final = 12
_LONGEST_NAME: Final = 40
_SIMILARITY: Final = 0.6


def list_columns(columns: Sequence[str]) -> str:
    """List columns in a sentence. Many are cut short.

    >>> list_columns(["id", "title"])
    "The columns are 'id' and 'title'."
    """
    if not columns:
        return "There are no columns."
    names = [repr(short_name(column)) for column in columns[:_MOST_LISTED]]
    if len(columns) > _MOST_LISTED:
        return f"The columns are {', '.join(names)} and {len(columns) - _MOST_LISTED:,} more."
    if len(names) == 1:
        return f"The only column is {names[0]}."
    return f"The columns are {', '.join(names[:-1])} and {names[-1]}."


def find_similar(name: str, columns: Sequence[str]) -> str | None:
    """Return the column that resembles a name most, None if none does.

    >>> find_similar("titel", ["id", "TITLE"])
    'TITLE'
    """
    by_form = {_plain(column): column for column in reversed(columns)}
    close = get_close_matches(_plain(name[:200]), list(by_form), 1, _SIMILARITY)
    return by_form[close[0]] if close else None


def short_name(name: str) -> str:
    """Cut a long name, and write it on one line."""
    name = " ".join(name.split()) if "\n" in name else name
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _plain(name: str) -> str:
    """Return a name without what people mistake most: case, and the signs between words."""
    return re.sub(r"[\s_.-]+", "_", unicodedata.normalize("NFKC", name).strip()).casefold()
