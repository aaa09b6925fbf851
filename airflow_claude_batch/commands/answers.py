"""Show what an answer store holds, and erase answers from it."""

from __future__ import annotations

import argparse
from contextlib import redirect_stdout

from airflow_claude_batch._airflow.answers_command import UsageError, run_answers
from airflow_claude_batch.commands.definition import WrongUsageError
from airflow_claude_batch.commands.terminal import Terminal


def run(options: argparse.Namespace, terminal: Terminal) -> int:
    """Run one of the commands over answer stores."""
    try:
        with redirect_stdout(terminal.out):
            return run_answers(options)
    except UsageError as error:
        raise WrongUsageError(str(error)) from None
