"""Run a command in a process of its own: logs and errors go to stderr, and nothing but the outcome to stdout."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from contextlib import redirect_stdout
from importlib import import_module
from typing import Final

from airflow_claude_batch.commands.definition import Command, WrongUsageError
from airflow_claude_batch.commands.terminal import Terminal, printable
from airflow_claude_batch.exceptions import ClaudeBatchError

log = logging.getLogger(__name__)

#: Exit statuses.
OK: Final = 0
PROBLEM: Final = 1
WRONG_USAGE: Final = 2  # as of argparse
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141


def run_command(command: Command, options: argparse.Namespace) -> int:
    """Run a command in a process of its own, and return the exit status."""
    terminal = Terminal()
    prepare_process()
    with redirect_stdout(sys.stderr):  # what Airflow prints while it is imported
        return execute(command, options, terminal)


def execute(command: Command, options: argparse.Namespace, terminal: Terminal) -> int:
    """Run a command, and return the exit status. An error becomes one line on stderr."""
    try:
        module = import_module(f"airflow_claude_batch.commands.{command.module}")
        vars(options).update(command.values)
        status: int = module.run(options, terminal)
        terminal.flush()
    except BrokenPipeError:
        _discard_output(terminal)
        return BROKEN_PIPE
    except KeyboardInterrupt:
        terminal.note("Interrupted.")
        return INTERRUPTED
    except WrongUsageError as error:
        terminal.note(one_line(error))
        return WRONG_USAGE
    except (ClaudeBatchError, OSError) as error:
        terminal.note(one_line(error))
        return PROBLEM
    except Exception as error:  # of Airflow's database, of a store, or of a mistake here
        log.debug("The command failed.", exc_info=True)
        terminal.note(_in_words(error))
        return PROBLEM
    return status


def prepare_process() -> None:
    """Let Airflow look connections up in its database, and keep its logs off stdout."""
    # Airflow looks connections up in its database only in a process that says that it may.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)


def one_line(error: Exception) -> str:
    """Return what an error says, in one line. Of an error of the database, that is its cause, without the statement."""
    text = str(getattr(error, "orig", None) or error)
    return printable(" ".join(text.split()) or type(error).__name__)


def _in_words(error: Exception) -> str:
    text = f"{type(error).__name__}: {one_line(error)}"
    if getattr(error, "orig", None) is None:  # only errors of a database have it
        return text
    home = printable(os.environ.get("AIRFLOW_HOME", "not set, so ~/airflow"))
    return (
        f"Airflow's database cannot be used. {text.rstrip('.')}. "
        f"Check AIRFLOW_HOME ({home}) and [database] sql_alchemy_conn: they must be those of the scheduler."
    )


def _discard_output(terminal: Terminal) -> None:
    """Let the interpreter flush stdout at exit without an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), terminal.out.fileno())
