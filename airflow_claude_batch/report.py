"""Write a report over a results folder: ``python -m airflow_claude_batch.report RESULTS_PATH [-o FILE]``."""

from __future__ import annotations

import argparse
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import ConfigurationError
from airflow_claude_batch.web.gather import gather_all
from airflow_claude_batch.web.report_page import render


def main(arguments: list[str] | None = None) -> int:
    """Write the page, print where it is, and return the exit status: 1 if there is nothing to report."""
    options = _parse(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        found = gather_all(options.results_path)
    except (ConfigurationError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if not (found.submissions or found.problems):
        print(f"There is no submission under {options.results_path}: no manifest.json was found.", file=sys.stderr)
        return 1
    page = render(found.submissions, root=options.results_path, now=datetime.now(UTC), problems=found.problems)
    # Names of files may have bytes that are not text.
    options.output.write_text(page, encoding="utf-8", errors="backslashreplace")
    left_out = f"; {quantity(len(found.problems), 'problem')} listed in it" if found.problems else ""
    print(f"Wrote {options.output} over {quantity(len(found.submissions), 'submission')}{left_out}.")
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_claude_batch.report",
        description="Write one page over the submissions of a results folder: outcomes, cost, tokens, time, failures.",
    )
    parser.add_argument("results_path", help="a results folder, or one submission's; a path or URI")
    parser.add_argument("-o", "--output", type=Path, default=Path("report.html"), help="default: report.html")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
