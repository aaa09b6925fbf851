"""Every snippet of the README and of docs/ is run, or checked in a way that can fail."""

from __future__ import annotations

import ast
import base64
import configparser
import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from airflow_fixtures import KEY
from batch.money.estimates import Counter, estimated, params
from batch.money.runs import run
from batch.send.day_budgets import PER_DAY, estimate_of
from docs.pages import DOCS, README, ROOT, Snippet, snippets
from docs.python_snippets import load, used_names
from docs.shell_snippets import OPTIONS, Shell, command_lines
from docs.warehouse import make_warehouse

from airflow_claude_batch import simulator
from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION
from airflow_claude_batch.batch.input.checks import RequestChecker
from airflow_claude_batch.batch.input.elements import Defaults, read_request
from airflow_claude_batch.batch.land.manifest import read_manifest
from airflow_claude_batch.batch.money.day_limit import DayLimit, Excess, day_limit_error
from airflow_claude_batch.batch.money.expectation import Expectations
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.wait.progress import run_time_in_words
from airflow_claude_batch.exceptions import InvalidMessageError
from airflow_claude_batch.rows import Row
from airflow_claude_batch.simulator import Fault
from airflow_claude_batch.simulator.__main__ import _parser
from airflow_claude_batch.simulator.messages.canned_lines import read_answer_dicts

WITH_SNIPPETS = [README, *DOCS]
QUESTIONS = ["Why is the sky blue?", "Why is the sea salty?", "Why is grass green?"]
LANGUAGES = {"ini", "json", "python", "sh", "text", "yaml"}
NOT_RUN = re.compile(r"(?:built, )?not run: \w.+")
NEEDS = re.compile(r"needs Airflow 3\.(\d)$")
#: A snippet that begins so is a file of a user's tests.
TEST_FILE = re.compile(r"# (\w+\.py)\n")


def of_language(language: str) -> list[Any]:
    every = [snippet for page in WITH_SNIPPETS for snippet in snippets(page, language)]
    found = [snippet for snippet in every if not TEST_FILE.match(snippet.text)]
    return [pytest.param(snippet, id=snippet.id) for snippet in found]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """What the pages call ``/data``."""
    folder = tmp_path / "data"
    folder.mkdir()
    lines = [{"key": f"T-{number}", "prompt": f"Ticket {number}"} for number in range(3)]
    folder.joinpath("tickets.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def in_data(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Submissions are kept there too. It has the database and the files of the examples of tables."""
    today = datetime.now(UTC).date()
    days = [str(today + timedelta(days=days)) for days in (-1, 0, 1)]  # midnight may come
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", make_warehouse(data, days))
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__RESULTS_PATH", str(data / "claude-batch"))
    return data


@pytest.fixture
def manifest(run_dag: Callable[..., Any], claude_default: str, in_data: Path) -> dict[str, Any]:
    """Of a submission with three questions, answered."""
    from airflow.sdk import DAG

    from airflow_claude_batch.operators import SendMessageBatchOperator

    with DAG("questions") as dag:
        SendMessageBatchOperator(task_id="ask", messages=QUESTIONS, wait_for_completion=True, deferrable=True)
    ti = run_dag(dag).get_task_instance("ask")
    given: dict[str, Any] = ti.xcom_pull(task_ids="ask")
    return given


def test_every_block_has_a_language_that_is_checked() -> None:
    blocks = [snippet for page in WITH_SNIPPETS for snippet in snippets(page)]
    assert {snippet.id: snippet.language for snippet in blocks if snippet.language not in LANGUAGES} == {}


def test_few_snippets_are_not_run_and_each_says_why() -> None:
    not_run = [snippet for page in WITH_SNIPPETS for snippet in snippets(page) if snippet.remark]
    assert [snippet.id for snippet in not_run if not NOT_RUN.fullmatch(snippet.remark)] == []
    assert len(not_run) <= 4, [snippet.id for snippet in not_run]


@pytest.mark.airflow
@pytest.mark.parametrize("snippet", of_language("python"))
def test_python_snippet_runs(
    snippet: Snippet, tmp_path: Path, in_data: Path, request: pytest.FixtureRequest, claude_default: str
) -> None:
    needed = NEEDS.search(snippet.remark)
    if needed and (3, int(needed[1])) > AIRFLOW_VERSION:
        pytest.skip(snippet.remark)
    if AIRFLOW_VERSION < (3, 1) and "outlets=" in snippet.text:
        pytest.skip("dag.test() of Airflow 3.0 keeps no DAG, and so no asset")
    text = snippet.text.replace("/data", str(in_data))
    above = [each.text for each in snippets(snippet.page, "python") if each.line < snippet.line and not each.remark]
    if snippet.remark.startswith("not run"):
        ast.parse(text)
        return
    names = {name: request.getfixturevalue(name) for name in ("manifest",) if name in used_names(text)}
    module = load(tmp_path / "snippet.py", text, above=above, names=names)
    if not snippet.remark.startswith("built"):
        _run_dags(module, request.getfixturevalue("run_dag"))


def _run_dags(module: Any, run_dag: Callable[..., Any]) -> None:
    from airflow.sdk import DAG

    for dag in [value for value in vars(module).values() if isinstance(value, DAG)]:
        if dag.tasks:
            run = run_dag(dag)
            states = {ti.task_id: ti.state for ti in run.get_task_instances()}
            assert run.state == "success", states


@pytest.mark.airflow
@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in WITH_SNIPPETS if snippets(page, "sh")])
def test_shell_snippets_of_a_page_work(
    page: Path,
    request: pytest.FixtureRequest,
    airflow_db: None,
    simulator_url: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named: dict[str, str] = {}
    text = "".join(snippet.text for snippet in snippets(page, "sh"))
    if "airflow_claude_batch.report" in text or "$ID" in text:  # there is a submission to look at
        manifest = request.getfixturevalue("manifest")
        run_id = Path(manifest["results_path"]).parts[-3]
        named = {"ID": manifest["submission_id"], "BATCH": manifest["batch_ids"][0]}
        named |= {"DAG": "questions", "RUN": run_id, "TASK": "ask"}
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIRFLOW_CONN_CLAUDE_DEFAULT", raising=False)
    shell = Shell({"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": simulator_url, **named}, data)
    try:
        for snippet in snippets(page, "sh"):
            for line in command_lines(snippet.text):
                shell.run(line)
    finally:
        shell.remove_connections()


@pytest.mark.parametrize("snippet", of_language("json"))
def test_json_snippet_is_json_and_what_it_looks_like(snippet: Snippet) -> None:
    lines = snippet.text.splitlines() if snippet.text.startswith('{"') else [snippet.text]
    try:
        values = [json.loads(snippet.text)]
    except ValueError:
        values = [json.loads(line) for line in lines]
    for value in values:
        _check_shape(value)


def _check_shape(value: Any) -> None:
    if "schema_version" in value:
        given = msgspec.to_builtins(read_manifest(value))
        assert set(value) <= set(given), "the manifest has no such field"
    elif "index" in value and "status" in value:
        row = msgspec.to_builtins(msgspec.convert(value, Row))
        assert set(value) <= set(row), "a row has no such field"
    elif "do" in value:
        msgspec.convert(value, Fault)


@pytest.mark.parametrize("snippet", of_language("ini"))
def test_ini_snippet_sets_options_that_exist(snippet: Snippet) -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(snippet.text)
    assert parser.sections()
    known = {"claude_batch": set(OPTIONS), **_airflows_options()}
    for section in parser.sections():
        assert set(parser[section]) <= known[section], section


def _airflows_options() -> dict[str, set[str]]:
    from airflow.configuration import conf

    described = conf.configuration_description
    return {section: set(contents["options"]) for section, contents in described.items()}


@pytest.mark.airflow
def test_text_snippet_of_the_cost_page_is_what_is_logged(
    manifest: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    logged = [record.getMessage() for record in caplog.get_records("setup")]
    _, _, shown = snippets(ROOT / "docs" / "cost.md", "text")
    assert [message for message in logged if message.endswith(shown.text.rstrip())], logged


def test_text_snippet_of_expectations_is_what_is_logged() -> None:
    shown, _, _ = snippets(ROOT / "docs" / "cost.md", "text")
    requests = [params("A review of " + "ten words. " * number, max_tokens=1_000) for number in range(0, 80, 2)]
    runs = [run(number, output=120, seconds=seconds) for number, seconds in enumerate((720.0, 900, 2400, 800, 950), 1)]
    estimate = estimated(requests, Counter(), expectations=Expectations(runs))
    assert estimate.run_time is not None
    assert f"{estimate.to_table()}\n{run_time_in_words(estimate.run_time)}" == shown.text.rstrip("\n")


def test_text_snippet_of_the_budget_is_the_error() -> None:
    _, shown, _ = snippets(ROOT / "docs" / "cost.md", "text")
    excess = Excess(
        limit=DayLimit(usd=Decimal(500), name=PER_DAY),
        left=Decimal("8.20"),
        billed=Decimal("431.80"),
        spent_by=41,
        open_=Decimal(60),
        open_submissions=2,
    )
    estimate = dataclasses.replace(estimate_of("12.50", requests=1000), max_tokens=(1000, 1000))
    now = datetime(2026, 11, 29, 20, 40, tzinfo=UTC)
    assert str(day_limit_error(excess, estimate, now, sent_before=False)) == shown.text.rstrip()


def test_text_snippet_of_the_page_of_checks_is_the_error() -> None:
    (shown,) = snippets(ROOT / "docs" / "preflight.md", "text")
    jpeg = base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(40)).decode()
    source = {"type": "base64", "media_type": "image/png", "data": jpeg}
    image = {"type": "image", "source": source}
    content = [{"type": "text", "text": "What is this?"}, image]
    element = {"key": "ticket-4", "messages": [{"role": "user", "content": content}]}
    request = read_request(element, 17, Defaults(model="claude-haiku-5-5", max_tokens=100))
    with pytest.raises(InvalidMessageError) as refusal:
        RequestChecker(PriceTable.load(), api_version="2026-10-21", betas=()).check(request)
    assert str(refusal.value) == shown.text.rstrip()


def test_yaml_snippet_starts_the_simulator_and_names_its_connection() -> None:
    (shown,) = snippets(ROOT / "docs" / "testing.md", "yaml")
    services = yaml.safe_load(shown.text)["services"]
    _, flag, module, *options = services["simulator"]["entrypoint"]
    started = _parser().parse_args(options)
    connection = json.loads(services["airflow-worker"]["environment"]["AIRFLOW_CONN_CLAUDE_DEFAULT"])
    authority = Path(connection["extra"]["ca_file"])
    assert (flag, module, authority.parent) == ("-m", simulator.__name__, started.tls)
    assert connection["host"] == f"https://{started.name[0]}:{started.port}"


def test_canned_answers_of_the_testing_page_are_read() -> None:
    (shown,) = (each for each in snippets(ROOT / "docs" / "testing.md", "json") if '"index"' in each.text)
    lines = [json.loads(line) for line in shown.text.splitlines()]
    assert len(read_answer_dicts(lines)) == 5


@pytest.mark.timeout(900)  # an interpreter of its own imports Airflow and makes a database
def test_files_of_the_testing_page_pass(tmp_path: Path) -> None:
    """Run by a pytest of their own, as a user's tests are: Airflow's home and configuration are the files'."""
    files = {TEST_FILE.match(each.text): each.text for each in snippets(ROOT / "docs" / "testing.md", "python")}
    written = {found[1]: text for found, text in files.items() if found}
    assert "conftest.py" in written
    for name, text in written.items():
        tmp_path.joinpath(name).write_text(text, encoding="utf-8")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the files use no plugin, and pytest takes seconds to load ours
    environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "."]
    ran = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
