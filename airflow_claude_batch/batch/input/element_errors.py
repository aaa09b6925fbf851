"""Errors about one element of ``messages``: all of them name it in the same way, and none quotes a prompt."""

from __future__ import annotations

from typing import Any, Final

from airflow_claude_batch.batch.quantity import with_article
from airflow_claude_batch.exceptions import InvalidMessageError

#: Parameters that do not exist in this API version and the later ones; api/versioning, 2026-10-21.
SAMPLING_PARAMETERS: Final = ("temperature", "top_p", "top_k")
VERSION_WITHOUT_SAMPLING: Final = "2026-10-21"
#: The first line of an error, and the key in it.
LONGEST_LINE: Final = 120
KEY_LENGTH: Final = 40


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


def element_name(index: int, key: Any, key_length: int = KEY_LENGTH) -> str:
    """Name an element for people: ``messages[3] (key 'a')``. A key that is only the position is left out."""
    is_position = isinstance(key, int) and key == index
    key = None if is_position else key
    return f"messages[{index}]" if key is None else f"messages[{index}] (key {short_repr(key, key_length)})"


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
