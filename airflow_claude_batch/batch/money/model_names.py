"""Finds the models that somebody may have meant by a name that no model has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_SIMILARITY: Final = 0.75  # below it, two names of models share little more than "claude-"
_MOST: Final = 3  # names in one suggestion

# What other platforms and libraries add to a model's name: "us.anthropic." and "anthropic/" before it; "[1m]",
# "@20250929", "-v1:0" and ":thinking" after it.
_ADDED: Final = re.compile(r"(-v\d+)?[\[:@].*$|-v\d+$|-latest$")
_DATE: Final = re.compile(r"-\d{8}$")


def suggest_models(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names that may be meant, the best first. Empty if none is alike.

    >>> suggest_models("anthropic/claude-opus-5.5", ["claude-opus-5-5", "claude-opus-5"])
    ['claude-opus-5-5']

    :param known: names of models, the newest first.
    """
    by_plain_name: dict[str, str] = {}
    for each in known:
        by_plain_name.setdefault(_plain(each), each)
    plain = _plain(name)
    same_words = [model for each, model in by_plain_name.items() if _words(each) == _words(plain)]
    if same_words:
        return same_words[:1]
    close = get_close_matches(plain, by_plain_name, n=_MOST, cutoff=_SIMILARITY) if "-" in plain else []
    return [by_plain_name[each] for each in close] or _of_the_line(plain, by_plain_name)[:1]


def may_be_alias(name: str, ids: Iterable[str]) -> bool:
    """Tell whether a name has the form of an alias of one of these ids.

    The aliases that the API gives are the id without its date, and names that end with ``-latest`` or ``-0``.
    """
    base = name.removesuffix("-latest").removesuffix("-0")
    return any(_DATE.sub("", each) in (name, base) for each in ids if each != name)


def is_same_model(one: str, other: str) -> bool:
    """Tell whether two ids may be of the same model: they are equal, or one of them only lacks the date.

    >>> is_same_model("claude-haiku-5-5", "claude-haiku-5-5-20261001")
    True
    """
    return one == other or one == _DATE.sub("", other) or other == _DATE.sub("", one)


def _plain(name: str) -> str:
    """Reduce a name to the words and numbers that tell models apart."""
    plain = name.strip().lower()
    plain = plain[max(plain.find("claude"), 0) :]
    plain = re.sub(r"[^a-z0-9]+", "-", _ADDED.sub("", plain)).strip("-")
    return _DATE.sub("", plain)


def _words(plain: str) -> list[str]:
    """Return the words and digits of a name in any order: older ids have the number before the line."""
    return sorted(re.findall(r"[a-z]+|\d", plain.removeprefix("claude-")))


def _of_the_line(plain: str, by_plain_name: dict[str, str]) -> list[str]:
    """Return the models whose line a name has: "opus" or "sonnet"."""
    words = set(re.findall(r"[a-z]+", plain)) - {"claude"}
    return [model for each, model in by_plain_name.items() if words & set(re.findall(r"[a-z]+", each))]
