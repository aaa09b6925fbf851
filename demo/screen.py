"""The demo's output: one line per step. On a terminal, the tasks are a live table, elsewhere one line per change."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from rich.box import HORIZONTALS
from rich.console import Console
from rich.live import Live
from rich.table import Table

COLOURS = {"success": "green", "failed": "red", "up_for_retry": "red", "deferred": "magenta", "running": "cyan"}


@dataclass(frozen=True, slots=True)
class TaskLine:
    """The current state of one task. ``seconds`` since it started, None before."""

    task_id: str
    state: str
    seconds: float | None
    remark: str


class Screen:
    """Prints the demo's output. Every line begins with the seconds since the start."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._started = time.monotonic()
        self._live: Live | None = None
        self._shown: dict[str, tuple[str, str]] = {}

    @property
    def elapsed_seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._started

    def say(self, text: str, *, style: str = "") -> None:
        """Print a line. It is never wrapped, so that addresses can be copied."""
        stamp = f"[dim]{self.elapsed_seconds:4.0f} s[/dim]  "
        self.console.print(stamp, end="", soft_wrap=True)
        self.console.print(text, style=style, markup=False, soft_wrap=True)

    def progress(self, step: str) -> AbstractContextManager[object]:
        """Show a step while it takes place. Shows nothing without a terminal."""
        return self.console.status(step)

    def ask(self, question: str) -> bool:
        """Ask a yes-or-no question. Without a terminal, the answer is no."""
        try:
            return self.console.input(question).strip().lower() in ("y", "yes")
        except EOFError:
            self.console.print()
            return False

    @contextmanager
    def tasks(self) -> Iterator[None]:
        """Show the tasks until the end of the block. Update them with :meth:`show_tasks`."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, refresh_per_second=4) as self._live:
            yield
        self._live = None

    def show_tasks(self, lines: Sequence[TaskLine]) -> None:
        """Show the current states of the tasks."""
        if self._live is not None:
            self._live.update(_table(lines))
            return
        for line in lines:
            if line.state != "-" and self._shown.get(line.task_id) != (line.state, line.remark):
                self._shown[line.task_id] = (line.state, line.remark)
                self.say(f"{line.task_id}: {line.state}" + (f", {line.remark}" if line.remark else ""))

    def rows(self, rows: Sequence[Sequence[str]]) -> None:
        """Print the first rows of the demo's tables."""
        table = Table(box=HORIZONTALS, show_lines=True, expand=True)
        for heading, ratio in (("name", 2), ("description", 3), ("explanation", 3), ("usd", None)):
            table.add_column(heading, ratio=ratio, overflow="fold")
        for row in rows:
            table.add_row(*(_escape_markup(cell) for cell in row))
        self.console.print(table)


def _table(lines: Sequence[TaskLine]) -> Table:
    table = Table("task", "state", "seconds", "", box=None, padding=(0, 2, 0, 0))
    for line in lines:
        seconds = "" if line.seconds is None else f"{line.seconds:.0f}"
        state = f"[{COLOURS.get(line.state, 'default')}]{line.state}[/]"
        table.add_row(line.task_id, state, seconds, _escape_markup(line.remark))
    return table


def _escape_markup(text: str) -> str:
    return text.replace("[", r"\[")
