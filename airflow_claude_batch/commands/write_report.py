"""Write the report over a results folder, as ``python -m airflow_claude_batch.report`` does."""

from __future__ import annotations

import argparse
from contextlib import redirect_stdout

from airflow_claude_batch import report
from airflow_claude_batch._airflow.results_folder import results_root
from airflow_claude_batch.commands.terminal import Terminal


def run(options: argparse.Namespace, terminal: Terminal) -> int:
    """Write the page, and print where it is."""
    with redirect_stdout(terminal.out):
        return report.main([options.results_path or results_root(None), "--output", options.output])
