"""What the pages say of the code: links, paths, names and defaults, and that they stay short enough to be read."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from docs.pages import CONTRIBUTING, DOCS, PAGES, README, ROOT, anchors, code_spans, links, prose, snippets

from airflow_claude_batch._airflow import metrics
from airflow_claude_batch.provider_info import CONNECTION_FIELDS, get_provider_info
from airflow_claude_batch.simulator import Simulator
from airflow_claude_batch.simulator.faults import Kind

INDEX = ROOT / "docs" / "index.md"
TOP = ("airflow_claude_batch/", "benchmarks/", "dags/", "demo/", "docs/", "tests/", ".ci/")
BASE_OPERATOR_ARGUMENTS = {"self", "kwargs"}
OLD_NAMES = {"stranger_row"}  # of a fault; still accepted


def page(name: str) -> Path:
    return ROOT / "docs" / name


def table_keys(path: Path, heading: str) -> set[str]:
    """What stands between backticks in the first column of the tables of a section."""
    section = re.split(rf"(?m)^## {re.escape(heading)}$", path.read_text(encoding="utf-8"))[1].split("\n## ")[0]
    first_cells = re.findall(r"(?m)^\| (`.+?) \|", section)
    return {name for cell in first_cells for name in re.findall(r"`([^`]+)`", cell)}


# ---------------------------------------------------------------- links and paths


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in PAGES])
def test_links_lead_somewhere(path: Path) -> None:
    for link in links(path):
        target, _, anchor = link.partition("#")
        if "://" in target:
            assert target.startswith("https://"), link
            continue
        file = (path.parent / target).resolve() if target else path
        assert file.is_file(), link
        assert not anchor or anchor in anchors(file), link


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in PAGES])
def test_paths_that_are_named_exist(path: Path) -> None:
    named = [span for span in code_spans(path) if span.startswith(TOP)]
    assert [span for span in named if not (ROOT / span).exists()] == []


def test_contributing_names_every_package_and_a_test_for_every_part_of_the_promise() -> None:
    spans = set(code_spans(CONTRIBUTING))
    packages = [file.parent for file in (ROOT / "airflow_claude_batch" / "batch").glob("*/__init__.py")]
    packages += [file.parent for file in (ROOT / "airflow_claude_batch").glob("*/__init__.py")]
    assert [each.name for each in packages if f"{each.relative_to(ROOT)}/" not in spans] == []
    promises = re.findall(r"(?m)^\d\. .+$", prose(CONTRIBUTING))
    assert len(promises) == 7
    assert all("`tests/" in promise for promise in promises)


def test_the_readme_makes_sense_on_a_page_of_a_package_index() -> None:
    assert [link for link in links(README) if not link.startswith("https://")] == []


def test_the_source_distribution_has_what_the_readme_names() -> None:
    included = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["sdist"][
        "include"
    ]
    named = {
        span.split("/")[0] for span in code_spans(README) if span.startswith(("docs/", "dags/")) or span.endswith(".md")
    }
    assert named >= {"docs", "dags", "CONTRIBUTING.md", "CHANGELOG.md"}
    assert {*named, "Makefile", "constraints.txt"} <= set(included)


# ---------------------------------------------------------------- shape


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_the_index_and_the_readme_name_every_page() -> None:
    others = {path.name for path in DOCS} - {INDEX.name}
    assert {Path(link).name for link in links(INDEX)} == others
    assert {Path(span).name for span in code_spans(README) if span.startswith("docs/")} == others


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in DOCS])
def test_a_page_begins_with_a_summary_and_an_example(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert lines[2][0].isalpha() or lines[2].startswith("`")
    assert snippets(path)


# ---------------------------------------------------------------- names and numbers


def test_operations_describes_every_setting_with_its_default() -> None:
    options = get_provider_info()["config"]["claude_batch"]["options"]
    assert table_keys(page("operations.md"), "Settings") >= set(options)
    rows = dict(re.findall(r"(?m)^\| `(\w+)` \| (.+?) \|", page("operations.md").read_text(encoding="utf-8")))
    for name, option in options.items():
        if option["default"] is not None:
            assert rows[name] == option["default"]


def test_operations_names_every_metric() -> None:
    counted = set(re.findall(r'_(?:count|time)\("(\w+)"', inspect.getsource(metrics)))
    assert table_keys(page("operations.md"), "Metrics") >= {f"claude_batch.{name}" for name in counted}
    assert {name.split(".")[1] for name in table_keys(page("operations.md"), "Metrics") if "." in name} == counted


def test_connection_describes_every_field() -> None:
    assert table_keys(page("connection.md"), "Fields") >= set(CONNECTION_FIELDS)


def test_testing_describes_every_knob_and_fault_of_the_simulator() -> None:
    knobs = set(inspect.signature(Simulator).parameters)
    assert table_keys(page("testing.md"), "Answers and endings of your choice") == knobs
    assert table_keys(page("testing.md"), "Faults") == set(get_args(Kind)) - OLD_NAMES


@pytest.mark.parametrize("class_name", ["operators.SendMessageBatchOperator", "sensors.MessageBatchSensor"])
def test_every_argument_is_somewhere_in_the_pages(class_name: str) -> None:
    module, _, name = class_name.partition(".")
    imported = __import__(f"airflow_claude_batch.{module}", fromlist=[name])
    arguments = set(inspect.signature(getattr(imported, name).__init__).parameters) - BASE_OPERATOR_ARGUMENTS
    text = "".join(path.read_text(encoding="utf-8") for path in [README, *DOCS])
    assert [each for each in arguments if f"`{each}`" not in text and f"{each}=" not in text] == []


def test_the_readme_says_the_defaults_that_are_in_force() -> None:
    from airflow_claude_batch.hooks import DEFAULT_MODEL
    from airflow_claude_batch.operators import SendMessageBatchOperator

    text = README.read_text(encoding="utf-8")
    defaults: dict[str, Any] = {
        name: parameter.default
        for name, parameter in inspect.signature(SendMessageBatchOperator.__init__).parameters.items()
    }
    assert f"`{DEFAULT_MODEL}`" in text
    assert f"`max_tokens` is {defaults['max_tokens']}" in text
    assert f"{defaults['timeout'].total_seconds() / 3600:.0f} hours" in text
