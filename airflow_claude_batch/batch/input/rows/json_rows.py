"""Read the rows of a file of JSON lines: one object a line, all with the same columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from airflow_claude_batch.batch.input.file_format import Lines
from airflow_claude_batch.batch.input.json_text import TextError
from airflow_claude_batch.batch.input.line_reader import LineReader, decode_line, explain_line
from airflow_claude_batch.batch.input.rows.columns import check_names, in_order, shown_path
from airflow_claude_batch.batch.input.rows.source import SourceRow
from airflow_claude_batch.exceptions import NOTHING_SENT, InputError

_ONE_A_LINE: Final = "Write each row as a JSON object on a line of its own, for example with json.dumps(row)."
_TYPES: Final = {list: "an array", str: "a text", bool: "a boolean", int: "a number", float: "a number"}


class JsonRows:
    """Rows of a file of JSON lines. Whole numbers keep all digits, others are floats.

    :param uri: the path or URI, for errors.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        #: Those of the first line. Empty until it is read, and for a file without lines.
        self.columns: tuple[str, ...] = ()
        self._lines = LineReader(shown_path(uri), argument="rows", noun="row")

    @property
    def line_number(self) -> int:
        return self._lines.line_number

    @property
    def place(self) -> str:
        return f"line {self.line_number} of {self.uri}"

    def read(self, lines: Lines) -> Iterator[SourceRow]:
        """Yield the rows.

        :raises InputError: a line is no JSON object, or has other columns than the first one.
        """
        for line in self._lines.read(lines):
            row = self._decode(line)
            if not self.columns:
                self.columns = check_names(row, self._place_shown)
            yield row if tuple(row) == self.columns else in_order(row, self.columns, self._place_shown)

    def _decode(self, line: bytes) -> dict[str, Any]:
        try:
            row = decode_line(line)
        except ValueError:
            raise self._error(_about_rows(explain_line(line))) from None
        if not isinstance(row, dict):
            what = _TYPES.get(type(row), "null")
            remedy = (
                f"{_ONE_A_LINE} Of an array: jq -c '.[]' old.json > new.jsonl" if what == "an array" else _ONE_A_LINE
            )
            raise self._error(TextError(f"is {what}, not an object", remedy))
        return row

    @property
    def _place_shown(self) -> str:
        return f"rows: line {self.line_number} of {shown_path(self.uri)}"

    def _error(self, error: TextError) -> InputError:
        return InputError(f"{self._place_shown} {error.problem}.", NOTHING_SENT, error.remedy)


def _about_rows(error: TextError) -> TextError:
    """Return an explanation whose remedy speaks of rows, not of elements."""
    if "CSV" in error.problem:
        return error._replace(remedy="Give a CSV file a name that ends in .csv, or .tsv if it has tabs.")
    remedy = error.remedy.replace("element", "row")
    return error._replace(remedy=_ONE_A_LINE if "prompt" in remedy else remedy)
