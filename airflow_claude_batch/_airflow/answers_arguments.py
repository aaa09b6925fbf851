"""The arguments of the commands over answer stores, for both entry points. It imports only the standard library."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

DESCRIPTION: Final = """\
Show what an answer store holds, and erase answers from it. A command concerns all workspaces below the path. prune and
forget only count until --yes is given. Every command can be interrupted and run again."""

_UNITS: Final = {"d": timedelta(days=1), "h": timedelta(hours=1), "w": timedelta(weeks=1)}
#: The names or flags of an argument, and the other arguments of ``ArgumentParser.add_argument``.
_Argument = tuple[tuple[str, ...], dict[str, Any]]


def age(text: str) -> timedelta:
    """Parse an age such as 90d."""
    found = re.fullmatch(r"(\d{1,5})([dhw])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no age: write 90d, 12h or 4w")
    return int(found[1]) * _UNITS[found[2]]


_PATH: Final[_Argument] = (
    ("--path",),
    {"help": "path or URI of the answer store; default: [claude_batch] answer_store"},
)
_OUTPUT: Final[_Argument] = (
    ("-o", "--output"),
    {"choices": ("text", "json"), "default": "text", "help": "default: text"},
)
_YES: Final[_Argument] = (("--yes",), {"action": "store_true", "help": "erase; without it, only count"})
_KEY: Final[_Argument] = (
    ("--key",),
    {"action": "append", "default": [], "help": "key of a row: a text, or another key as JSON; may be repeated"},
)
_SUBMISSION: Final[_Argument] = (
    ("--submission",),
    {"action": "append", "default": [], "metavar": "ID", "help": "submission_id of a manifest; may be repeated"},
)
_OLDER_THAN: Final[_Argument] = (
    ("--older-than",),
    {"type": age, "required": True, "metavar": "AGE", "help": "90d, 12h or 4w"},
)

#: One line about each command, and its arguments.
ANSWERS_COMMANDS: Final[Mapping[str, tuple[str, Sequence[_Argument]]]] = {
    "stats": ("count answers, files and bytes", (_PATH, _OUTPUT)),
    "prune": ("erase answers that are older", (_PATH, _OUTPUT, _YES, _OLDER_THAN)),
    "forget": ("erase answers of rows or submissions", (_PATH, _OUTPUT, _YES, _KEY, _SUBMISSION)),
    "compact": ("write all answers anew, in as few files as possible", (_PATH, _OUTPUT)),
}
