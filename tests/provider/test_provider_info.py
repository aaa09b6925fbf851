from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION, conf
from airflow_claude_batch.hooks import ClaudeHook
from airflow_claude_batch.provider_info import CONNECTION_FIELDS, get_provider_info

PACKAGE = "airflow-claude-batch"


def airflow_cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    from airflow.cli.cli_parser import get_parser

    parsed = get_parser().parse_args([*arguments, "--output", "json"])
    parsed.func(parsed)
    return json.loads(capsys.readouterr().out)


def fresh_interpreter(code: str) -> Any:
    """Run Python with nothing imported yet; gives what the last line it prints holds as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    return json.loads(done.stdout.splitlines()[-1])


# ------------------------------------------------------------------ what it says


def test_provider_info_obeys_airflows_schema() -> None:
    schema = json.loads((files("airflow") / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_entry_point_leads_to_the_package_of_its_own_name() -> None:
    (found,) = (
        each for each in entry_points(group="apache_airflow_provider") if each.dist and each.dist.name == PACKAGE
    )
    assert found.load()()["package-name"] == PACKAGE


@pytest.mark.parametrize("kind", ["hooks", "operators", "sensors", "triggers"])
def test_every_module_it_names_exists(kind: str) -> None:
    for integration in get_provider_info()[kind]:
        for module in integration["python-modules"]:
            importlib.import_module(module)


def test_module_of_the_transfer_exists() -> None:
    (transfer,) = get_provider_info()["transfers"]
    assert importlib.import_module(transfer["python-module"]).RowsToSqlOperator


def test_connection_type_agrees_with_the_hook() -> None:
    (connection_type,) = get_provider_info()["connection-types"]
    assert connection_type["connection-type"] == ClaudeHook.conn_type
    assert connection_type["hook-name"] == ClaudeHook.hook_name
    assert connection_type["hook-class-name"] == f"{ClaudeHook.__module__}.{ClaudeHook.__qualname__}"


def test_every_connection_field_is_labelled_explained_and_optional() -> None:
    for name, described in CONNECTION_FIELDS.items():
        assert described["label"], name
        assert described["description"].endswith((".", "…", "}")), name
        assert "null" in described["schema"]["type"], name


def test_provider_info_imports_nothing_heavy() -> None:
    new = fresh_interpreter(
        "import __future__, json, sys, typing; old = set(sys.modules)\n"
        "from airflow_claude_batch.provider_info import get_provider_info; get_provider_info()\n"
        "print(json.dumps(sorted(set(sys.modules) - old)))"
    )
    assert new == ["airflow_claude_batch", "airflow_claude_batch.provider_info"]


# ------------------------------------------------------------------ what Airflow makes of it


@pytest.mark.airflow
def test_airflow_lists_the_provider(capsys: pytest.CaptureFixture[str]) -> None:
    assert PACKAGE in [row["package_name"] for row in airflow_cli(capsys, "providers", "list")]


@pytest.mark.airflow
def test_airflow_gives_the_provider_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = airflow_cli(capsys, "providers", "get", PACKAGE, "--full")
    assert shown["name"] == "Claude Batch"
    assert set(shown["config"]["claude_batch"]["options"]) == {
        "results_path",
        "results_mode",
        "answer_store",
        "allow_connection_token_files",
        "require_shared_results",
        "poll_interval",
        "lost_create_grace",
        "max_batch_bytes",
        "max_batch_requests",
        "max_inline_bytes",
        "max_cost_per_submission",
        "max_cost_per_day",
        "max_cost_per_dag_per_day",
        "prices_path",
        "prices",
    }


@pytest.mark.airflow
def test_airflow_lists_the_hook_and_can_load_it(capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = (row for row in airflow_cli(capsys, "providers", "hooks") if row["connection_type"] == "claude")
    assert shown["class"] == "airflow_claude_batch.hooks.ClaudeHook"
    assert shown["conn_id_attribute_name"] == "claude_conn_id"
    assert shown["hook_name"] == "Claude"


@pytest.mark.skipif(AIRFLOW_VERSION < (3, 2), reason="Airflow 3.0 and 3.1 know no defaults of providers here")
def test_airflow_knows_the_defaults_of_our_settings() -> None:
    assert conf.getfloat("claude_batch", "poll_interval") == 60.0
    assert conf.getint("claude_batch", "max_inline_bytes") == 48 * 1024


@pytest.mark.airflow
def test_form_in_airflows_ui_has_every_field_and_masks_the_secret_ones() -> None:
    if AIRFLOW_VERSION < (3, 1):
        pytest.importorskip("wtforms", reason="without it, Airflow 3.0 draws no form of any provider")
    form = fresh_interpreter(
        "from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService\n"
        "(ours,) = (each for each in HookMetaService.hook_meta_data() if each.connection_type == 'claude')\n"
        "print(ours.model_dump_json())"
    )

    standard, extra = form["standard_fields"], form["extra_fields"]
    assert standard["password"]["title"] == "API key"
    assert standard["host"]["placeholder"] == "https://api.anthropic.com"
    assert {name for name, field in standard.items() if field and field["hidden"]} == {"url_schema", "port", "login"}
    assert list(extra) == list(CONNECTION_FIELDS)
    assert {name for name, field in extra.items() if field["schema"].get("format") == "password"} == {
        "auth_token",
        "identity_token",
        "keyfile_dict",
    }
    assert extra["auth"]["schema"]["enum"] == ["bearer", "x-api-key"]
    assert extra["verify"]["value"] is True
