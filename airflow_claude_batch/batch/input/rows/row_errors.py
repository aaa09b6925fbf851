"""Errors about one source row: all of them name it in the same way, and none quotes a value."""

from __future__ import annotations

from typing import Final

from airflow_claude_batch.batch.input.element_errors import LONGEST_LINE, shorten_place
from airflow_claude_batch.exceptions import InvalidMessageError

NOTHING_SENT: Final = "Nothing was sent."


def row_error(index: int, place: str, problem: str, *lines: str) -> InvalidMessageError:
    """Build the error about a source row.

    >>> print(row_error(17, "line 19 of s3://b/a.csv", "column 'id' holds bytes.", "Nothing was sent.", "Cast it."))
    rows[17] (line 19 of s3://b/a.csv): column 'id' holds bytes.
    Nothing was sent.
    Cast it.

    :param place: where the source has the row. Empty if its number says all.
    :param lines: what it means for money, and what to do.
    """
    return InvalidMessageError(row_line(index, place, problem), *lines)


def row_line(index: int, place: str, problem: str) -> str:
    """Return the first line of an error about a source row. The place is cut if the line is too long."""
    name = f"rows[{index}]"
    room = LONGEST_LINE - len(f"{name} (): {problem}")
    first = f"{name} ({shorten_place(place, room)}): {problem}" if place else f"{name}: {problem}"
    return first if len(first) <= LONGEST_LINE else f"{first[: LONGEST_LINE - 2]}…."
