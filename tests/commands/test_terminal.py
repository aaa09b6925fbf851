"""What commands write: tables, JSON and CSV of any values, on a terminal and into a pipe."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_claude_batch.commands.terminal import Terminal, printable

ESCAPE = "\x1b"
#: The first text of a process takes hypothesis a second, and more on a busy machine.
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Screen(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def written(write: str, *arguments: Any, stream: io.StringIO | None = None) -> str:
    out = stream or io.StringIO()
    getattr(Terminal(out, io.StringIO(), io.StringIO()), write)(*arguments)
    return out.getvalue()


@QUICK
@given(st.text())
def test_no_text_controls_a_terminal(text: str) -> None:
    assert printable(text).isprintable()
    assert written("write", text).rstrip("\n").isprintable()
    assert all(line.isprintable() for line in written("write_table", ["a"], [[text], [1]]).splitlines())


@QUICK
@given(st.lists(st.dictionaries(st.text(max_size=5), st.text() | st.integers() | st.none(), max_size=3)))
def test_json_is_ascii_and_exact(values: list[Any]) -> None:
    text = written("write_json_list", values)
    assert text.isascii()
    assert json.loads(text) == values
    assert len(text.splitlines()) == (len(values) + 2 if values else 1)
    assert json.loads(written("write_json", values)) == values


def test_numbers_that_json_does_not_have_are_null() -> None:
    out = io.StringIO()
    Terminal(out, io.StringIO(), io.StringIO()).write_json({"a": [float("nan"), 1.5], "b": (float("-inf"), {"c": 2})})
    assert json.loads(out.getvalue()) == {"a": [None, 1.5], "b": [None, {"c": 2}]}


def test_json_has_numbers_for_decimals() -> None:
    assert written("write_json", {"a": Decimal("1.5")}) == '{"a": 1.5}\n'


@QUICK
@given(st.lists(st.text(), min_size=1))
def test_csv_is_read_as_it_was_but_for_formulas(cells: list[str]) -> None:
    (_, row) = csv.reader(io.StringIO(written("write_csv", ["x"] * len(cells), [cells]), newline=""))
    assert [cell.removeprefix("'") for cell in row] == [cell.removeprefix("'") for cell in cells]
    assert not any(cell.startswith(("=", "@")) for cell in row)


def test_csv_on_a_terminal_has_no_control_characters() -> None:
    assert ESCAPE not in written("write_csv", ["a"], [[f"{ESCAPE}[2J"]], stream=Screen())
    assert ESCAPE in written("write_csv", ["a"], [[f"{ESCAPE}[2J"]])


def test_table_is_aligned_and_cut_to_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("a", 1, None), ("a long name", 22, "x" * 100)]
    assert written("write_table", ("name", "count", "more"), rows).splitlines() == [
        "name         count  more",
        "a            1",
        f"a long name  22     {'x' * 100}",
    ]
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    header, _, last = written("write_table", ("name", "count", "more"), rows, stream=Screen()).splitlines()
    assert header == f"{ESCAPE}[1mname        count  more{ESCAPE}[0m"
    assert last == f"a long na…  22     {'x' * 9}…"
    monkeypatch.setenv("COLUMNS", "20")
    assert written("write_table", ("name", "count", "more"), rows, stream=Screen()).splitlines()[1:] == [
        "a      1",
        "a lo…  22     xxxx…",
    ]


@pytest.mark.parametrize("variable", [("NO_COLOR", "1"), ("TERM", "dumb")], ids=lambda variable: str(variable[0]))
def test_no_emphasis_where_it_is_not_wanted(variable: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(*variable)
    assert written("write_table", ["a"], [["b"]], stream=Screen()) == "a\nb\n"


def test_empty_table_is_nothing() -> None:
    assert written("write_table", ["a"], []) == ""


def test_rows_are_written_as_they_come() -> None:
    """A long table does not wait for its last row."""
    out = io.StringIO()

    def rows() -> Any:
        for number in range(1000):
            if number == 999:
                assert out.getvalue().count("\n") > 900
            yield [number]

    assert Terminal(out, io.StringIO(), io.StringIO()).write_table(["n"], rows())
    assert out.getvalue().count("\n") == 1001


@pytest.mark.parametrize(("typed", "is_yes"), [("y", True), ("YES", True), ("", False), ("n", False), ("yy", False)])
def test_confirm_asks_on_stderr(typed: str, is_yes: bool) -> None:
    out, err = io.StringIO(), Screen()
    assert Terminal(out, err, Screen(f"{typed}\n")).confirm("Cancel it?") is is_yes
    assert (out.getvalue(), err.getvalue()) == ("", "Cancel it? [y/N] ")


def test_without_a_person_the_answer_is_no() -> None:
    err = io.StringIO()
    assert Terminal(io.StringIO(), err, io.StringIO("y\n")).confirm("Cancel it?") is False
    assert err.getvalue() == "Cancel it? There is nobody to ask: add --yes.\n"


def test_progress_is_on_a_terminal_only() -> None:
    for err in (io.StringIO(), Screen()):
        out = io.StringIO()
        with Terminal(out, err, io.StringIO()).progress("Reading", 3) as advance:
            advance(3)
        assert out.getvalue() == ""
        assert ("Reading" in err.getvalue()) is err.isatty()
