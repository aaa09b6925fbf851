"""The commands ``airflow claude-batch …`` (Airflow 3.2) and ``python -m airflow_claude_batch …``.

Airflow imports this module with each of its own commands, so it imports nothing but the definitions. To add a command,
see ``commands/table.py``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Final

from airflow_claude_batch.commands.definition import Command
from airflow_claude_batch.commands.table import COMMANDS

NAME: Final = "claude-batch"
HELP: Final = "Look at Claude's message batches of this Airflow, and act on them"


def get_commands() -> list[Any]:
    """Return the commands for Airflow's command line, as objects of ``airflow.cli.cli_config``."""
    return [_airflow_command(Command(NAME, HELP, commands=COMMANDS))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``python -m airflow_claude_batch``, and return the exit status."""
    options = make_parser().parse_args(arguments)
    return _run(options.command, options)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m airflow_claude_batch``. What it parses has the ``command``."""
    parser = argparse.ArgumentParser(prog="python -m airflow_claude_batch", description=f"{HELP}.")
    _add_commands(parser, COMMANDS)
    return parser


def _add_commands(parser: argparse.ArgumentParser, commands: Sequence[Command]) -> None:
    parsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in commands:
        sub = parsers.add_parser(
            command.name, help=f"{command.help}.", description=command.description or f"{command.help}."
        )
        if command.commands:
            _add_commands(sub, command.commands)
            continue
        for argument in command.arguments:
            sub.add_argument(*argument.flags, **argument.options)
        sub.set_defaults(command=command)


def _airflow_command(command: Command) -> Any:
    from airflow_claude_batch._airflow.command_line import ActionCommand, Arg, GroupCommand

    if command.commands:
        return GroupCommand(
            command.name, command.help, [_airflow_command(each) for each in command.commands], command.description
        )

    def run_and_exit(options: argparse.Namespace) -> None:
        sys.exit(_run(command, options))

    arguments = [Arg(each.flags, **each.options) for each in command.arguments]  # type: ignore[no-untyped-call]  # no types
    return ActionCommand(command.name, command.help, run_and_exit, arguments, command.description)


def _run(command: Command, options: argparse.Namespace) -> int:
    from airflow_claude_batch.commands.process import run_command

    return run_command(command, options)
