"""Paths into a landed row, such as ``cost_usd``, ``output.address.city`` or ``output.tags[0]``.

A DAG file that is parsed imports this module, so it imports nothing heavy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from operator import attrgetter
from typing import Any, Final

#: Fields of a row that a path may begin with.
ROOTS: Final = (
    "index",
    "key",
    "input",
    "status",
    "text",
    "output",
    "stop_reason",
    "model",
    "usage",
    "cost_usd",
    "error",
    "batch_id",
    "custom_id",
    "message",
    "reused_from",
    "way",
)
#: Fields below which there may be names, so that a path may go on.
_NESTED: Final = frozenset({"key", "input", "output", "usage", "error", "message", "reused_from"})
_STEP: Final = re.compile(r"\.([^.\[\]?]+)|\[(\d+)\]")
_SIMILARITY: Final = 0.6


@dataclass(frozen=True, slots=True)
class RowPath:
    """A path into a row.

    >>> path = parse_path("output.tags[0]")
    >>> path.root, path.steps
    ('output', ('tags', 0))

    :param text: the path as the author wrote it.
    :param root: the field of the row.
    :param steps: names of members and positions in lists, from the root on.
    :param is_optional: the path ends with ``?``: no row needs to have it.
    """

    text: str
    root: str
    steps: tuple[str | int, ...]
    is_optional: bool = False

    @property
    def is_checked(self) -> bool:
        """Tell whether at least one row must have the path.

        An error has only the members that it needs, and there need not be a reused answer.
        """
        return bool(self.steps) and not self.is_optional and self.root not in ("error", "reused_from")

    def value(self, row: Any) -> Any:
        """Return what a row has at the path, None if it has nothing there."""
        value = getattr(row, self.root, None)
        for step in self.steps:
            if value is None:
                return None
            value = _member(value, step)
        return value

    def getter(self) -> Callable[[Any], Any]:
        """Return a function that does what :meth:`value` does, in less time."""
        root = attrgetter(self.root)
        if not self.steps:
            return root
        if len(self.steps) > 1 or isinstance(self.steps[0], int):
            return self.value
        name = self.steps[0]

        def member(row: Any) -> Any:
            parent = root(row)
            return parent.get(name) if type(parent) is dict else None

        return member

    def missing_step(self, row: Any) -> tuple[int, Any] | None:
        """Return the first step that a row lacks, and the value that lacks it. None if the row has the path.

        A null on the way counts as nothing found: the step is the one below it, and the value None. A list that is too
        short counts as found.
        """
        value = getattr(row, self.root, None)
        for position, step in enumerate(self.steps):
            if value is None:
                return position, None
            if isinstance(step, int) and isinstance(value, list):
                if step >= len(value):
                    return None
            elif not isinstance(value, Mapping) or step not in value:
                return position, value
            value = _member(value, step)
        return None

    def up_to(self, position: int) -> str:
        """Return the text of the path before a step."""
        shown = self.root
        for step in self.steps[:position]:
            shown += f"[{step}]" if isinstance(step, int) else f".{step}"
        return shown


def parse_path(text: str) -> RowPath:
    """Read a path.

    :raises ValueError: it begins with no field of a row, or goes on in a form that is not known. The message is a
        sentence that names what is wrong.
    """
    body = text.removesuffix("?")
    root = re.split(r"[.\[]", body, maxsplit=1)[0]
    if root not in ROOTS:
        raise ValueError(f"A row has no field {root!r}.{did_you_mean(root, ROOTS)} Its fields are {', '.join(ROOTS)}.")
    rest = body[len(root) :]
    found = list(_STEP.finditer(rest))
    if "".join(step[0] for step in found) != rest:
        raise ValueError("After the field there may be names and positions only, such as output.address.city or [0].")
    if found and root not in _NESTED:
        raise ValueError(f"{root!r} is a single value: nothing is below it.")
    steps = tuple(step[1] if step[2] is None else int(step[2]) for step in found)
    return RowPath(text, root, steps, is_optional=text.endswith("?"))


def did_you_mean(name: str, known: Any) -> str:
    """Return a question that follows a sentence, or an empty text if nothing is alike.

    >>> did_you_mean("ouput", ["output", "key"])
    " Did you mean 'output'?"
    """
    by_folded = {str(each).casefold(): str(each) for each in known}
    close = get_close_matches(name.casefold(), by_folded, n=1, cutoff=_SIMILARITY)
    return f" Did you mean {by_folded[close[0]]!r}?" if close else ""


def _member(value: Any, step: str | int) -> Any:
    if isinstance(step, int):
        return value[step] if isinstance(value, list) and step < len(value) else None
    return value.get(step) if isinstance(value, Mapping) else None
