"""Run tests under other dates than today's: in 7 days, in 6 months, in 3 years.

A test that depends on today's date fails one day by itself. libfaketime gives the tests, and every process that they
start, another date; monotonic clocks go on as they are, so that timeouts keep their length.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DAYS = (7, 183, 1096)
#: Tests of processes that check their own clocks against others', such as a database server's, are left out.
TESTS = ("tests", "--ignore=tests/stack", "--ignore=tests/crash")
PACKAGE = "faketime"
LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Everything else goes to pytest.")
    parser.add_argument("--days", type=int, action="append", help=f"days from today on; default: {DAYS}")
    options, pytest_options = parser.parse_known_args()
    library = find_library() or install()
    if library is None:
        print(f"libfaketime is missing. Install it, on Debian with: apt-get install {PACKAGE}", file=sys.stderr)
        return 1
    failed = [days for days in options.days or DAYS if not passes(days, library, pytest_options)]
    if failed:
        print(f"Tests failed under the date of {', '.join(map(str, failed))} days from now.", file=sys.stderr)
    return int(bool(failed))


def find_library() -> Path | None:
    """Return the library that fakes the time also for processes with threads; None if there is none."""
    found = (path for pattern in LIBRARIES for path in sorted(Path("/").glob(pattern.lstrip("/"))))
    return next(found, None)


def install() -> Path | None:
    """Install the library from Debian's package, where this user may."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return None
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", PACKAGE]):
        subprocess.run(command, env=environ, capture_output=True, check=False)
    return find_library()


def passes(days: int, library: Path, pytest_options: list[str]) -> bool:
    """Run the tests as if today were so many days later."""
    environ = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "FAKETIME": f"+{days}d",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    today = subprocess.run(["date", "+%F"], env=environ, capture_output=True, text=True, check=True).stdout.strip()
    print(f"\nThe tests on {today}, {days} days from now", flush=True)
    command = [Path(sys.executable).with_name("pytest"), "-q", "-n", "2", "--dist", "loadfile", *pytest_options]
    command += [] if names_tests(pytest_options) else TESTS
    return subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode == 0


def names_tests(pytest_options: list[str]) -> bool:
    return any((ROOT / option.partition("::")[0]).exists() for option in pytest_options)


if __name__ == "__main__":
    sys.exit(main())
