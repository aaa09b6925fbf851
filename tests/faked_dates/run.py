"""Run tests under other dates than today's: in 7 days, in 6 months, in 3 years.

A test that depends on today's date fails one day by itself. Every Python process of the tests, and those that they
start, gets another date (``sitecustomize.py`` beside this file). Timeouts keep their length.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DAYS = (7, 183, 1096)
#: time_machine is a plugin of pytest, too, and is imported before pytest.
WARNINGS = ("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")
#: Programs that are not Python, such as database servers, keep today's date: tests that start them are left out.
TESTS = ("tests", "--ignore=tests/stack", "--ignore=tests/crash")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Everything else goes to pytest.")
    parser.add_argument("--days", type=int, action="append", help=f"days from today on; default: {DAYS}")
    options, pytest_options = parser.parse_known_args()
    failed = [days for days in options.days or DAYS if not passes(days, pytest_options)]
    if failed:
        print(f"Tests failed under the date of {', '.join(map(str, failed))} days from now.", file=sys.stderr)
    return int(bool(failed))


def passes(days: int, pytest_options: list[str]) -> bool:
    """Run the tests as if today were so many days later."""
    date = datetime.now(UTC) + timedelta(days=days)
    print(f"\nThe tests on {date:%Y-%m-%d}, {days} days from now", flush=True)
    paths = (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))
    environ = {**os.environ, "FAKED_DAYS": str(days), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [
        Path(sys.executable).with_name("pytest"),
        "-q",
        "-n",
        "2",
        "--dist",
        "loadfile",
        *WARNINGS,
        *pytest_options,
    ]
    command += [] if names_tests(pytest_options) else TESTS
    return subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode == 0


def names_tests(pytest_options: list[str]) -> bool:
    return any((ROOT / option.partition("::")[0]).exists() for option in pytest_options)


if __name__ == "__main__":
    sys.exit(main())
