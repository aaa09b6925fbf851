"""``python -m demo`` runs the demo, ``python -m demo stop`` stops what one with KEEP=1 left up."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.demonstration import Demonstration, home, stop_leftovers
from demo.errors import DemoError
from demo.screen import Screen
from demo.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
INTERRUPTED = 130  # what shells report for Ctrl-C


def main(arguments: list[str]) -> int:
    """Run a verb; answers the exit code."""
    screen = Screen()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        _do(arguments, screen)
    except DemoError as error:
        screen.say(str(error), style="red")
        return 1
    except KeyboardInterrupt:
        screen.say("Interrupted")
        return INTERRUPTED
    return 0


def _do(arguments: list[str], screen: Screen) -> None:
    if arguments == ["stop"]:
        return _stop(screen)
    if arguments:
        raise DemoError(f"There is no verb {' '.join(arguments)!r}; the only one is 'stop'.")
    settings = Settings.read(os.environ)
    folder = home(ROOT, live=settings.live)
    # Reading rows imports Airflow into this process too, which would otherwise make a home in the user's own.
    os.environ["AIRFLOW_HOME"] = str(folder)
    with alone(folder):
        Demonstration(settings, screen, ROOT).run()


def _stop(screen: Screen) -> None:
    found = [stop_leftovers(home(ROOT, live=live), screen) for live in (False, True)]
    if not any(found):
        screen.say("Nothing is up")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a second demo of the same checkout out while this one runs."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError("Another demo runs in this checkout. Wait for it, or press Ctrl-C there.") from None
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
