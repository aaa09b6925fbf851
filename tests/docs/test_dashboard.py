"""The example dashboard for Grafana and the mapping of the StatsD exporter: they name the metrics that are reported."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_claude_batch._airflow import metrics

DOCS = Path(__file__).resolve().parents[2] / "docs"
#: Columns of Grafana's grid.
GRID_WIDTH = 24
#: What a histogram has instead of its name.
HISTOGRAM_SUFFIXES = ("bucket", "sum", "count")


def reported() -> dict[str, str]:
    """Return the kind of each metric, by its StatsD name, from the table of the module that reports them."""
    table = dict(re.findall(r"^``(claude_batch\.\w+)``\s+(counter|timer)\s", str(metrics.__doc__), re.MULTILINE))
    assert len(table) > 10
    return {f"airflow.{name}": kind for name, kind in table.items()}


def mapped(name: str, kind: str, mappings: list[dict[str, Any]]) -> set[str]:
    """Return the names that the StatsD exporter gives to a metric: the first mapping that matches counts."""
    for mapping in mappings:
        pattern = "".join(
            r"([^.]*)" if part == "*" else re.escape(part) for part in re.split(r"(\*)", mapping["match"])
        )
        match = re.fullmatch(pattern, name)
        if match is None or mapping.get("match_metric_type", kind) != kind:
            continue
        prometheus = match.expand(re.sub(r"\$\{(\d+)\}", r"\\g<\1>", mapping["name"]))
        if kind == "timer":
            assert mapping["observer_type"] == "histogram"
            return {f"{prometheus}_{suffix}" for suffix in HISTOGRAM_SUFFIXES}
        return {prometheus}
    raise AssertionError(f"no mapping for {name}")


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DOCS / "grafana-dashboard.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """The names of each metric in Prometheus, by its StatsD name."""
    mappings = yaml.safe_load((DOCS / "statsd-mapping.yml").read_text())["mappings"]
    return {name: mapped(name, kind, mappings) for name, kind in reported().items()}


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_every_metric_of_the_dashboard_is_reported(dashboard: dict[str, Any], exported: dict[str, set[str]]) -> None:
    variables = [variable["query"] for variable in dashboard["templating"]["list"]]
    named = set(re.findall(r"airflow_claude_batch_\w+", " ".join([*expressions(dashboard), *variables])))

    assert named <= set().union(*exported.values())


def test_every_metric_that_is_reported_is_on_the_dashboard(
    dashboard: dict[str, Any], exported: dict[str, set[str]]
) -> None:
    shown = " ".join(expressions(dashboard))

    assert [name for name, names in exported.items() if not any(each in shown for each in names)] == []


def test_labels_of_the_dashboard_are_tags_of_the_metrics(dashboard: dict[str, Any]) -> None:
    shown = " ".join(expressions(dashboard))
    labels = set(re.findall(r"by \((\w+)\)", shown)) | set(re.findall(r"[{,](\w+)[!=]", shown))

    assert labels - {"le"} <= set(re.findall(r"``(\w+)``", str(metrics.__doc__)))


def test_dashboard_is_one_that_grafana_imports(dashboard: dict[str, Any]) -> None:
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= set(dashboard)
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["type"] in {"stat", "timeseries"}
        assert panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert [target["refId"] for target in panel["targets"]] == ["A", "B", "C"][: len(panel["targets"])]
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels)))
    known = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert used - {"__range", "__interval"} == known


def test_panels_do_not_overlap(dashboard: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in dashboard["panels"]]

    assert all(place["x"] + place["w"] <= GRID_WIDTH for place in places)
    for one, other in itertools.combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


@pytest.mark.parametrize(("opening", "closing"), ["()", "{}", "[]"])
def test_brackets_of_expressions_are_closed(dashboard: dict[str, Any], opening: str, closing: str) -> None:
    assert [text for text in expressions(dashboard) if text.count(opening) != text.count(closing)] == []
