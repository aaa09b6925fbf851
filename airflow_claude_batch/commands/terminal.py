"""Write what a command says: tables for people, JSON and CSV for programs, questions and remarks on stderr."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from io import TextIOWrapper
from itertools import chain, islice
from typing import IO, Any, Final

from airflow_claude_batch.batch.land.csv_results import guard_formula

#: The rows that decide how wide the columns of a table are. The other rows are written as they come.
_MEASURED_ROWS: Final = 200
_GAP: Final = "  "
#: Characters of a column on a narrow terminal.
_LEAST_WIDTH: Final = 3


def printable(text: str) -> str:
    """Return text of unknown origin in one line, without characters that would control a terminal."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class Terminal:
    """The streams of a command.

    Example::

        terminal.write_table(("model", "USD"), [("claude-opus-5-5", "4.00")])
    """

    def __init__(self, out: IO[str] | None = None, err: IO[str] | None = None, answers: IO[str] | None = None) -> None:
        self.out = sys.stdout if out is None else out
        self.err = sys.stderr if err is None else err
        self._answers = sys.stdin if answers is None else answers
        for stream in (self.out, self.err):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # names that the terminal's encoding lacks

    @property
    def is_interactive(self) -> bool:
        """Return whether a person can be asked."""
        return self._answers.isatty() and self.err.isatty()

    def write(self, line: str = "") -> None:
        """Write a line of the outcome."""
        self.out.write(f"{printable(line)}\n")

    def write_json(self, value: Any) -> None:
        """Write a JSON value in one line, in ASCII."""
        self.out.write(f"{_json(value)}\n")

    def write_json_list(self, values: Iterable[Any]) -> None:
        """Write a list of JSON values, one in a line, as they come."""
        separator = "["
        for value in values:
            self.out.write(f"{separator}\n{_json(value)}")
            separator = ","
        self.out.write("[]\n" if separator == "[" else "\n]\n")

    def write_csv(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write rows as CSV, as they come. A text that a spreadsheet would run as a formula gets an apostrophe."""
        clean: Callable[[str], str] = printable if self.out.isatty() else str
        writer = csv.writer(self.out)
        writer.writerow(columns)
        for row in rows:
            writer.writerow([clean(guard_formula(cell)) if isinstance(cell, str) else cell for cell in row])

    def write_table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bool:
        """Write a table, row by row. Return False, and write nothing, if there are no rows.

        On a terminal, the longest cells are cut so that a line fits.
        """
        texts = (["" if cell is None else printable(str(cell)) for cell in row] for row in rows)
        first = list(islice(texts, _MEASURED_ROWS))
        if not first:
            return False
        widths, align = [max(map(len, column)) for column in zip(columns, *first, strict=True)], _aligned
        if self.out.isatty():
            widths, align = _fitted(widths, shutil.get_terminal_size().columns), _cut
        self.out.write(f"{self._bold(align(columns, widths))}\n")
        for row in chain(first, texts):
            self.out.write(f"{align(row, widths)}\n")
        return True

    def note(self, line: str) -> None:
        """Write a remark for people."""
        self.err.write(f"{printable(line)}\n")
        self.err.flush()

    def confirm(self, question: str) -> bool:
        """Ask a person. Without one, the answer is no."""
        if not self.is_interactive:
            self.note(f"{question} There is nobody to ask: add --yes.")
            return False
        self.err.write(f"{printable(question)} [y/N] ")
        self.err.flush()
        return self._answers.readline().strip().lower() in ("y", "yes")

    @contextmanager
    def progress(self, label: str, total: int | None = None, *, shown: bool = True) -> Generator[Callable[[int], None]]:
        """Show a progress bar on stderr if that is a terminal. Yield what advances it by a number.

        :param total: None if it is not known.
        :param shown: False where the outcome appears on the same terminal.
        """
        if not (shown and self.err.isatty()):
            yield lambda _: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(file=self.err), transient=True) as bar:
            task = bar.add_task(printable(label), total=total)
            yield lambda count: bar.advance(task, count)

    def flush(self) -> None:
        """Write what is in the buffer.

        :raises BrokenPipeError: nobody reads it.
        """
        self.out.flush()

    def _bold(self, line: str) -> str:
        """Emphasize a line on a terminal (https://no-color.org)."""
        is_plain = not self.out.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return line if is_plain else f"\x1b[1m{line}\x1b[0m"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return _GAP.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _cut(cells: Sequence[str], widths: Sequence[int]) -> str:
    cut = [cell if len(cell) <= width else f"{cell[: width - 1]}…" for cell, width in zip(cells, widths, strict=True)]
    return _aligned(cut, widths)


def _fitted(widths: Sequence[int], limit: int) -> list[int]:
    """Make the widest columns narrower, all to the same width, until a line fits."""
    room = limit - len(_GAP) * (len(widths) - 1)
    for narrow, width in enumerate(sorted(widths)):
        share = room // (len(widths) - narrow)
        if share < width:
            return [min(each, max(share, _LEAST_WIDTH)) for each in widths]
        room -= width
    return list(widths)


def _json(value: Any) -> str:
    try:
        return json.dumps(value, default=_json_value, allow_nan=False)
    except ValueError:  # whoever may write an XCom may put NaN there, which is no JSON
        return json.dumps(_finite(value), default=_json_value, allow_nan=False)


def _finite(value: Any) -> Any:
    """Replace numbers that JSON does not have by null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def _json_value(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
