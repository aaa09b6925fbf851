"""Errors about one element of ``messages``: all of them name it in the same way, and none quotes a prompt."""

from __future__ import annotations

from typing import Any, Final

from airflow_claude_batch.batch.quantity import with_article
from airflow_claude_batch.exceptions import InvalidMessageError

#: Parameters that do not exist in this API version and the later ones; api/versioning, 2026-10-21.
SAMPLING_PARAMETERS: Final = ("temperature", "top_p", "top_k")
VERSION_WITHOUT_SAMPLING: Final = "2026-10-21"
#: The arguments that give elements.
MESSAGES: Final = "messages"
ROWS: Final = "rows"
#: The first line of an error, and the key in it.
LONGEST_LINE: Final = 120
KEY_LENGTH: Final = 40
#: Characters of a place that is cut to leave room for the problem.
_SHORTEST_PLACE: Final = 24


def element_error(index: int, key: Any, problem: str, remedy: str, *, inside: str = "") -> InvalidMessageError:
    """Build the error about an element, in three lines: the element and the problem, what was sent, the remedy.

    :param key: the user's key, None if the element has none of its own.
    :param inside: the place inside the element, such as ``.messages[0].content[2]``.
    """
    too_long = len(f"{element_name(index, key)}{inside}: {problem}") - LONGEST_LINE
    name = element_name(index, key, KEY_LENGTH - max(0, min(too_long, KEY_LENGTH - 8)))
    first = f"{name}{inside}: {problem}"
    if len(first) > LONGEST_LINE:
        first = f"{first[: LONGEST_LINE - 2]}…."
    return InvalidMessageError(first, "Nothing was sent.", remedy)


def element_name(index: int, key: Any, key_length: int = KEY_LENGTH, *, argument: str = MESSAGES) -> str:
    """Name an element for people: ``messages[3] (key 'a')``. A key that is only the position is left out.

    :param argument: what gave the elements: ``messages`` or ``rows``.
    """
    is_position = isinstance(key, int) and key == index
    key = None if is_position else key
    name = f"{argument}[{index}]"
    return name if key is None else f"{name} (key {short_repr(key, key_length)})"


def name_source_row(error: InvalidMessageError, place: str) -> InvalidMessageError:
    """Return the error about an element as one about the source row that it was made of.

    :param place: where the row stands, empty if its number says all.
    """
    first, *lines = str(error).replace(f"{MESSAGES}[", f"{ROWS}[", 1).split("\n")
    if place:
        first = f"{shorten_place(place, LONGEST_LINE - len(first) - len(': '))}: {first}"
    if len(first) > LONGEST_LINE:
        first = f"{first[: LONGEST_LINE - 2]}…."
    named = InvalidMessageError(first, *lines)
    named.rule = error.rule
    return named


def shorten_place(place: str, length: int) -> str:
    """Cut a place in its middle: it begins with the line, and ends with the name of the file."""
    length = max(length, _SHORTEST_PLACE)
    if len(place) <= length:
        return place
    start = length // 2
    return f"{place[:start]}…{place[len(place) - (length - start - 1) :]}"


def sampling_error(index: int, key: Any, name: str, api_version: str) -> InvalidMessageError:
    """Build the error about a sampling parameter under an API version that has none."""
    remedy = f"Remove {name!r}. Or, for a model older than 4.7, set api_version to 2023-06-01 in the connection."
    return element_error(index, key, f"API version {api_version} has no {name!r}.", remedy)


def type_name(value: Any) -> str:
    """Name the type of a value that has the wrong one. None is named as authors write it."""
    return "None" if value is None else type(value).__name__


def short_repr(value: Any, length: int = 80) -> str:
    """Represent a value for people, cut to ``length``. Huge numbers and deeply nested lists have no ``repr``."""
    try:
        return f"{value!r:.{length}}"
    except Exception:  # a repr may raise anything
        return f"{with_article(type(value).__name__)} that cannot be shown"
