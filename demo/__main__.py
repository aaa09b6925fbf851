"""``python -m demo`` runs the demo. ``python -m demo stop`` stops a demo that KEEP=1 left running."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.demonstration import Demonstration, airflow_home, stop_earlier_demo
from demo.errors import DemoError
from demo.screen import Screen
from demo.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
INTERRUPTED = 130  # the exit code that shells report for Ctrl-C


def main(arguments: list[str]) -> int:
    """Run a command. Returns the exit code."""
    screen = Screen()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        _run(arguments, screen)
    except DemoError as error:
        screen.say(str(error), style="red")
        return 1
    except KeyboardInterrupt:
        screen.say("Interrupted.")
        return INTERRUPTED
    return 0


def _run(arguments: list[str], screen: Screen) -> None:
    if arguments == ["stop"]:
        return _stop(screen)
    if arguments:
        raise DemoError(f"There is no command {' '.join(arguments)!r}.\nThe only command is 'stop'.")
    settings = Settings.read(os.environ)
    folder = airflow_home(ROOT, live=settings.live)
    # Reading rows imports Airflow into this process, which would otherwise create ~/airflow.
    os.environ["AIRFLOW_HOME"] = str(folder)
    with single_demo(folder):
        Demonstration(settings, screen, ROOT).run()


def _stop(screen: Screen) -> None:
    stopped = [stop_earlier_demo(airflow_home(ROOT, live=live), screen) for live in (False, True)]
    if not any(stopped):
        screen.say("No demo is running.")


@contextmanager
def single_demo(folder: Path) -> Iterator[None]:
    """Hold a lock, so that two demos of one checkout never run at the same time.

    :raises DemoError: when another demo holds the lock.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(
                "Another demo is running in this checkout.\nWait until it has finished, or press Ctrl-C there."
            ) from None
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
