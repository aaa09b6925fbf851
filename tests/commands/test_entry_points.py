"""Both entry points, each as a process of its own, and what Airflow pays for the definitions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_world import World

from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION
from airflow_claude_batch.cli import make_parser
from airflow_claude_batch.commands import process
from airflow_claude_batch.commands.definition import Command
from airflow_claude_batch.commands.table import COMMANDS
from airflow_claude_batch.provider_info import get_provider_info

MODULE = [sys.executable, "-m", "airflow_claude_batch"]
#: Beside the interpreter; ``python -m airflow`` is the same.
AIRFLOW = [sys.executable, "-m", "airflow", "claude-batch"]


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=os.environ, capture_output=True, text=True, check=False)


@pytest.mark.airflow
@pytest.mark.parametrize("entry_point", [MODULE, AIRFLOW], ids=["python -m", "airflow"])
def test_stdout_has_the_json_alone(world: World, entry_point: list[str], tmp_path: Path) -> None:
    if entry_point is AIRFLOW and AIRFLOW_VERSION < (3, 2):
        pytest.skip("this Airflow takes no commands of providers")
    done = run([*entry_point, "list", "--dag", "cli_open", "-o", "json"], tmp_path)
    assert (done.returncode, [each["run_id"] for each in json.loads(done.stdout)]) == (0, [world.open_run])


@pytest.mark.airflow
@pytest.mark.skipif(AIRFLOW_VERSION < (3, 2), reason="this Airflow takes no commands of providers")
def test_airflow_takes_every_command(airflow_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.cli import cli_parser

    monkeypatch.setattr(process, "prepare_process", lambda: None)
    for words in (["list"], ["rows", "a"], ["answers", "stats", "-o", "json"], ["report"]):
        options = cli_parser.get_parser().parse_args(["claude-batch", *words])
        ours = vars(make_parser().parse_args(words))
        del ours["command"]
        assert ours.items() <= vars(options).items()
    options = cli_parser.get_parser().parse_args(["claude-batch", "show", "a", "b"])
    with pytest.raises(SystemExit) as exit_:
        options.func(options)
    assert exit_.value.code == 2


def test_closed_pipe_is_no_error(tmp_path: Path) -> None:
    command = [*MODULE, "prices", "-o", "json"]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    running.stdout.close()
    _, complaint = running.communicate()
    assert (running.returncode, complaint) == (141, b"")


def test_definitions_are_light(tmp_path: Path) -> None:
    """Airflow loads them with each of its own commands."""
    assert get_provider_info()["cli"] == ["airflow_claude_batch.cli.get_commands"]
    code = (
        "import sys; before = set(sys.modules); import argparse, dataclasses, datetime, re, typing; "
        "std = set(sys.modules); import airflow_claude_batch.cli; "
        "print(*sorted(name for name in set(sys.modules) - std if name.split('.')[0] not in sys.stdlib_module_names))"
    )
    assert run([sys.executable, "-c", code], tmp_path).stdout.split() == [
        "airflow_claude_batch",
        "airflow_claude_batch._airflow",
        "airflow_claude_batch._airflow.answers_arguments",
        "airflow_claude_batch.cli",
        "airflow_claude_batch.commands",
        "airflow_claude_batch.commands.definition",
        "airflow_claude_batch.commands.table",
    ]


def leaves(commands: tuple[Command, ...] | list[Command]) -> list[Command]:
    return [leaf for each in commands for leaf in (leaves(list(each.commands)) if each.commands else [each])]


@pytest.mark.parametrize("command", leaves(COMMANDS), ids=lambda command: command.name)
def test_every_command_has_a_module_and_help(command: Command) -> None:
    from importlib import import_module

    assert callable(import_module(f"airflow_claude_batch.commands.{command.module}").run)
    assert command.help[0].isupper()
    assert not command.help.endswith(".")
    assert all(each.options.get("help") for each in command.arguments)


def test_wrong_arguments_are_exit_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["nothing"], ["list", "--day", "soon"], ["list", "--limit", "0"], ["rows", "a", "-o", "xml"]):
        with pytest.raises(SystemExit) as exit_:
            make_parser().parse_args(words)
        assert exit_.value.code == 2
        assert "Traceback" not in capsys.readouterr().err
