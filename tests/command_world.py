"""Submissions in Airflow's database and at the simulator, for the commands to look at."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_claude_batch.cli import make_parser
from airflow_claude_batch.commands.process import execute
from airflow_claude_batch.commands.terminal import Terminal
from airflow_claude_batch.simulator import Simulator

#: What a terminal might take for a command, a bell, a link, a spreadsheet's formula, and a letter of another plane.
HOSTILE = "=1+1\x1b[31m\x07\u202e\u009b2J\U0001f600\n|"


class FakeTerminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@dataclass
class Outcome:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def call(*arguments: str, answer: str | None = None, is_terminal: bool = False) -> Outcome:
    """Run a command in this process.

    :param answer: what a person types. None: there is nobody.
    """
    options = make_parser().parse_args(arguments)
    stream = FakeTerminal if is_terminal else io.StringIO
    out, err = stream(), FakeTerminal() if answer is not None else stream()
    answers = io.StringIO() if answer is None else FakeTerminal(f"{answer}\n")
    return Outcome(execute(options.command, options, Terminal(out, err, answers)), out.getvalue(), err.getvalue())


@dataclass
class World:
    """One submission that has ended, with failed rows, and one whose batch runs."""

    simulator: Simulator
    results: Path
    ended_run: str
    open_run: str
    open_batch: str
    url: str
