"""The demo's output without a terminal: one line for each change."""

import io

import pytest
from rich.console import Console

from demo.screen import Screen, TaskLine


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def screen(output: io.StringIO) -> Screen:
    return Screen(Console(file=output, width=60, highlight=False))


def test_line_begins_with_the_seconds_and_is_never_wrapped(screen: Screen, output: io.StringIO) -> None:
    address = "/a/very/long/path" * 10

    screen.say(address)

    assert output.getvalue() == f"   0 s  {address}\n"


def test_brackets_are_text_and_not_markup(screen: Screen, output: io.StringIO) -> None:
    screen.say("[core] dags_folder [red]")
    screen.rows([("[core]", "[bold] before", "[/] after", "0.1")])

    assert "[core] dags_folder [red]" in output.getvalue()
    assert "[bold] before" in output.getvalue()
    assert "[/] after" in output.getvalue()


def test_tasks_are_shown_when_their_state_or_remark_changes(screen: Screen, output: io.StringIO) -> None:
    with screen.tasks():
        screen.show_tasks([TaskLine("send", "-", None, "")])
        screen.show_tasks([TaskLine("send", "running", 1, "")])
        screen.show_tasks([TaskLine("send", "running", 2, "")])
        screen.show_tasks([TaskLine("send", "success", 3, "331 requests")])

    lines = [line.split("s  ", 1)[1] for line in output.getvalue().splitlines()]
    assert lines == ["send: running", "send: success, 331 requests"]


def test_question_without_a_terminal_is_a_no(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))

    assert screen.ask("Send it? ") is False
