"""How a command is defined: its name, its arguments, and the module that runs it.

Airflow loads the definitions with each of its own commands. So nothing here imports more than the standard library.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a command.

    :param flags: its name, or its options such as ``("-o", "--output")``.
    :param options: the other arguments of ``ArgumentParser.add_argument``, without ``const``, ``version`` and
        ``parents``, which Airflow does not take.
    """

    flags: tuple[str, ...]
    options: dict[str, Any]


def argument(*flags: str, **options: Any) -> Argument:
    """Define an argument, with the arguments of ``ArgumentParser.add_argument``."""
    return Argument(flags, options)


class WrongUsageError(Exception):
    """The arguments contradict each other, or do not say enough."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command, or a group of commands.

    :param help: one line without a full stop.
    :param module: a module of this package. Its ``run(options, terminal)`` runs the command, and returns the exit
        status. It is imported when the command runs.
    :param description: what the command's help says more.
    :param commands: the commands of a group, which has no module.
    :param values: further options that the module gets.
    """

    name: str
    help: str
    module: str = ""
    arguments: Sequence[Argument] = ()
    description: str | None = None
    commands: Sequence[Command] = ()
    values: Mapping[str, Any] = field(default_factory=dict)


def day(text: str) -> date:
    """Parse a day such as 2026-11-30."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no day: write 2026-11-30") from None


def count(text: str) -> int:
    """Parse a number above zero."""
    if not text.isascii() or not text.isdecimal() or not 0 < int(text[:10]) < 10**9:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no number above zero")
    return int(text)


#: Arguments that several commands have.
OUTPUT = argument("-o", "--output", choices=("table", "json"), default="table", help="default: table")
YES = argument("-y", "--yes", action="store_true", help="do not ask")
CONN_ID = argument("--conn-id", help="connection of the API; default: the submission's, or claude_default")
NAMES = argument("names", nargs="+", metavar="ID | DAG RUN TASK", help="a submission, a message batch, or a task")
MAP_INDEX = argument("--map-index", type=int, help="of a mapped task")
