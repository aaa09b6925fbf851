"""Check the command lines of shell snippets: each is run, or held against what it names, in a way that can fail."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from docs.pages import ROOT

from airflow_claude_batch import report
from airflow_claude_batch._airflow import answers_command
from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION
from airflow_claude_batch.api.aws_keys import KeySource
from airflow_claude_batch.cli import make_parser
from airflow_claude_batch.commands.process import execute
from airflow_claude_batch.commands.terminal import Terminal
from airflow_claude_batch.connection.settings import ConnectionValues, config_from_connection
from airflow_claude_batch.provider_info import get_provider_info

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
OPTIONS = get_provider_info()["config"]["claude_batch"]["options"]
_ASSIGNMENT = re.compile(r"([A-Z_][A-Z0-9_]*)=(.*)", re.DOTALL)


def command_lines(text: str) -> Iterator[str]:
    """The commands of a snippet, one by one, without comments."""
    for line in text.replace("\\\n", " ").splitlines():
        if shlex.split(line, comments=True):
            yield line


class Shell:
    """Runs command lines in order.

    :param environ: the variables that the lines may use; ``export`` adds to it.
    :param data: what stands in the place of ``/data``.
    """

    def __init__(self, environ: dict[str, str], data: Path) -> None:
        self.environ = environ
        self._data = data
        self._connections: list[str] = []

    def run(self, line: str) -> None:
        """Run one line.

        :raises AssertionError: it would not work.
        """
        words = [self._expanded(word) for word in shlex.split(line, comments=True)]
        assigned: dict[str, str] = {}
        while words and (found := _ASSIGNMENT.fullmatch(words[0])):
            assigned[found[1]] = found[2]
            words = words[1:]
        kind = words[0] if words[0] != "python" else " ".join(words[:3])
        runner = getattr(self, f"_{re.sub(r'[^a-z]+', '_', kind)}", None)
        assert runner is not None, f"no check is known for {line!r}"
        runner(words[1:] if words[0] != "python" else words[3:], assigned)

    def remove_connections(self) -> None:
        """Delete what the lines have added to Airflow's database."""
        for name in self._connections:
            self._airflow(["connections", "delete", name], {})

    def _expanded(self, word: str) -> str:
        word = word.replace("/data", str(self._data))
        return re.sub(r"\$(\w+)", lambda found: self.environ[found[1]], word)

    def _make(self, words: list[str], assigned: Mapping[str, str]) -> None:
        for word in words:
            variable = _ASSIGNMENT.fullmatch(word)
            if variable is None:
                assert re.search(rf"(?m)^{re.escape(word)}:.*## ", MAKEFILE), f"make {word} does not exist"
            else:
                assert f"$({variable[1]}" in MAKEFILE or f"(or $({variable[1]})" in MAKEFILE, word
        for name in assigned:  # of the demo
            assert f"{name}=1" in MAKEFILE, f"{name} is no variable of make"

    def _pip(self, words: list[str], assigned: Mapping[str, str]) -> None:
        assert words[0] == "install"
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for word in words[1:]:
            found = re.fullmatch(r"airflow-claude-batch(?:\[(\w+)\])?", word)
            assert found, f"{word} is not ours"
            assert found[1] is None or found[1] in extras, f"there is no extra {found[1]}"

    def _export(self, words: list[str], assigned: Mapping[str, str]) -> None:
        for word in words:
            found = _ASSIGNMENT.fullmatch(word)
            assert found, word
            name, value = found[1], found[2]
            if name.startswith("AIRFLOW__CLAUDE_BATCH__"):
                assert name.removeprefix("AIRFLOW__CLAUDE_BATCH__").lower() in OPTIONS, name
            elif name.startswith("AIRFLOW_CONN_"):
                _check_connection(name, json.loads(value))
            self.environ[name] = value

    def _airflow(self, words: list[str], assigned: Mapping[str, str]) -> None:
        from airflow.cli import cli_parser

        if words[0] == "claude-batch":
            if AIRFLOW_VERSION >= (3, 2):
                cli_parser.get_parser().parse_args(words)  # the same module is run by the other entry point
            return
        if words[:2] == ["connections", "add"]:
            self._connections.append(words[2])
        arguments = cli_parser.get_parser().parse_args(words)
        before = dict(os.environ)
        os.environ.update({**self.environ, **assigned})
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Airflow's commands use what Airflow deprecates
                arguments.func(arguments)
        finally:
            os.environ.clear()
            os.environ.update(before)

    def _python_m_airflow_claude_batch(self, words: list[str], assigned: Mapping[str, str]) -> None:
        options = make_parser().parse_args(words)
        if any("…" in word for word in words):
            return
        before = dict(os.environ)
        os.environ.update({**self.environ, **assigned})
        try:
            assert execute(options.command, options, Terminal()) == 0
        finally:
            os.environ.clear()
            os.environ.update(before)

    def _python_m_airflow_claude_batch_report(self, words: list[str], assigned: Mapping[str, str]) -> None:
        assert report.main(words) == 0

    def _python_m_airflow_claude_batch_answers(self, words: list[str], assigned: Mapping[str, str]) -> None:
        assert answers_command.main(words) == 0

    def _python_m_airflow_claude_batch_simulator(self, words: list[str], assigned: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "airflow_claude_batch.simulator", *words, "--port", "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        assert process.stdout is not None
        said = process.stdout.readline()
        process.terminate()
        _, complaint = process.communicate()
        assert said.startswith("Claude simulator on http"), complaint
        assert process.returncode == 0, complaint


def _check_connection(name: str, written: Mapping[str, object]) -> None:
    assert written.pop("conn_type") in ("claude", "anthropic"), name  # type: ignore[attr-defined]
    fields = {**written, "extra": json.dumps(written.get("extra", {}))}
    values = ConnectionValues(conn_id=name, **fields)  # type: ignore[arg-type]
    config_from_connection(values, {}, open_aws_connection=_never_opened)


def _never_opened(aws_conn_id: str, region: str) -> KeySource:
    """The keys of a connection to AWS, which the pages name and do not make."""
    return KeySource(lambda: pytest.fail(f"{aws_conn_id} was opened"), name=aws_conn_id)
