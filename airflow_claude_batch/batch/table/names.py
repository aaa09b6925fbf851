"""Names of tables, with a schema or without, quoted or not."""

from __future__ import annotations

import re
from typing import Final

_PART: Final = re.compile(r'"((?:[^"]|"")+)"|`((?:[^`]|``)+)`|\[([^\]]+)\]|([^."`\[\]]+)')
_MOST_PARTS: Final = 3


def parse_table_name(text: str) -> tuple[str, ...]:
    """Split a name into its parts, the table's own last. Parts may be quoted.

    >>> parse_table_name('analytics."ticket labels"')
    ('analytics', 'ticket labels')

    :raises ValueError: it is no name of a table.
    """
    parts: list[str] = []
    position = 0
    while True:
        found = _PART.match(text, position)
        part = _unquoted(found) if found else ""
        if found is None or not part.strip() or "\0" in part:
            break
        parts.append(part)
        position = found.end()
        if position == len(text) and len(parts) <= _MOST_PARTS:
            return tuple(parts)
        if text[position : position + 1] != ".":
            break
        position += 1
    raise ValueError("A table is named table or schema.table. A part with a dot in its name is quoted.")


def _unquoted(found: re.Match[str]) -> str:
    double, back, bracket, bare = found.groups()
    if double is not None:
        return double.replace('""', '"')
    if back is not None:
        return back.replace("``", "`")
    return (bracket if bracket is not None else bare).strip()
