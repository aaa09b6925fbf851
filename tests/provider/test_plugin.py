"""The plugin that Airflow loads in each of its processes."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

MEASURE = """
import json, sys, time
import airflow.plugins_manager
old, begun = set(sys.modules), time.process_time()
from airflow_claude_batch.plugin import ClaudeBatchPlugin
plugin = ClaudeBatchPlugin()
cpu = time.process_time() - begun
print(json.dumps({"cpu": cpu, "new": sorted(set(sys.modules) - old), "views": plugin.external_views}))
"""


def test_a_process_that_loads_the_plugin_imports_no_page() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", MEASURE], capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout.splitlines()[-1])
    assert set(measured["new"]) - {"airflow_claude_batch"} == {"airflow_claude_batch.plugin"}
    assert measured["cpu"] < 0.02
    (view,) = measured["views"]
    assert (view["category"], view["destination"], view["href"]) == ("browse", "nav", "claude-batch/")


def test_airflow_finds_the_plugin_by_its_entry_point() -> None:
    from importlib.metadata import entry_points

    from airflow_claude_batch.plugin import ClaudeBatchPlugin

    (found,) = [each for each in entry_points(group="airflow.plugins") if each.value.startswith("airflow_claude_batch")]
    assert found.load() is ClaudeBatchPlugin


def test_pages_that_cannot_be_imported_do_not_stop_the_api_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from airflow_claude_batch.plugin import ClaudeBatchPlugin

    monkeypatch.setitem(sys.modules, "airflow_claude_batch.web.app", None)
    with caplog.at_level(logging.ERROR):
        assert ClaudeBatchPlugin().fastapi_apps == []
    assert "cannot be shown" in caplog.text


def test_nothing_of_flask_is_asked_for() -> None:
    """``appbuilder_menu_items`` stops an api-server without the FAB provider."""
    from airflow_claude_batch.plugin import ClaudeBatchPlugin

    plugin = ClaudeBatchPlugin()
    assert [*plugin.appbuilder_menu_items, *plugin.appbuilder_views, *plugin.flask_blueprints] == []
