"""Runs every example unchanged against the simulator, and checks its results."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from airflow_claude_batch.simulator import Simulator

FILES = {path.stem for path in Path(__file__).parents[2].joinpath("dags").glob("*.py")}

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("claude_default")]


class Example:
    """A run of one of the examples that has succeeded."""

    def __init__(self, run: Any) -> None:
        assert run.state == "success"
        self._run = run

    def returned(self, task_id: str) -> Any:
        return self._run.get_task_instance(task_id).xcom_pull(task_ids=task_id)


@pytest.fixture
def run_example(examples: dict[str, Any], run_dag: Callable[..., Any]) -> Callable[[str], Example]:
    return lambda dag_id: Example(run_dag(examples[dag_id]))


def test_every_file_is_one_scheduled_dag_of_its_name(examples: dict[str, Any]) -> None:
    assert set(examples) == FILES
    assert all(dag.schedule for dag in examples.values())


def test_every_file_has_a_test_here() -> None:
    tests = [name for name in globals() if name.startswith("test_")]

    assert [name for name in FILES if not any(test.startswith(f"test_{name}_") for test in tests)] == []


def test_quickstart_prints_the_answers_in_order(
    run_example: Callable[[str], Example], capsys: pytest.CaptureFixture[str]
) -> None:
    run_example("quickstart")

    printed = capsys.readouterr().out
    places = [printed.index(f"Simulated answer to “Why is {thing}") for thing in ("the sky", "the sea", "grass")]
    assert places == sorted(places)


def test_send_then_sense_publishes_a_translation_per_language(
    run_example: Callable[[str], Example], simulator: Simulator
) -> None:
    example = run_example("send_then_sense")

    translations = example.returned("publish")
    assert list(translations) == ["de", "fr", "ja"]
    assert "Into French" in translations["fr"]
    assert example.returned("reserve_pages") == 3
    assert simulator.calls()["create"] == 1


def test_one_task_counts_checked_objects(run_example: Callable[[str], Example]) -> None:
    topics = run_example("one_task").returned("count_topics")

    assert sum(topics.values()) == 4
    assert set(topics) <= {"billing", "delivery", "product", "other"}


def test_data_frame_joins_judgements_to_the_table(run_example: Callable[[str], Example], simulator: Simulator) -> None:
    pytest.importorskip("polars")
    table = run_example("data_frame").returned("join")

    assert sorted(row["id"] for row in table) == ["r1", "r2", "r3"]
    assert all(row["sentiment"] in ("good", "mixed", "bad") and 1 <= row["stars"] <= 5 for row in table)
    assert all(len(row["text"]) > 20 for row in table)
    assert simulator.calls()["create"] == 1


def test_mapped_sends_a_batch_per_chapter_and_binds_all_answers(
    run_example: Callable[[str], Example], simulator: Simulator
) -> None:
    book = run_example("mapped").returned("bind")

    assert [line.split(":")[0] for line in book] == [
        "tides/1", "tides/2", "winds/1", "winds/2", "winds/3", "clouds/1",
    ]  # fmt: skip
    assert sorted(batch["request_count"] for batch in simulator.books()["batches"]) == [1, 2, 3]


def test_describe_options_costs_what_was_estimated(run_example: Callable[[str], Example]) -> None:
    """The estimate counts the tokens of a sample. The cost is within its bounds, and the prompt tokens are close."""
    manifest = run_example("describe_options").returned("wait")

    estimate, usage, usd = manifest["estimate"], manifest["usage"], Decimal(manifest["cost"]["usd"])
    bounds = {name: Decimal(value) for name, value in estimate["usd"].items()}
    print(f"{manifest['request_count']} texts: estimated {bounds}, billed {usd}")
    assert estimate["requests"] == manifest["request_count"] > 200
    assert estimate["measured_requests"] == 20
    assert bounds["lower"] <= usd <= bounds["upper"]
    assert estimate["input_tokens"]["lower"] <= usage["input_tokens"] <= estimate["input_tokens"]["upper"]
    assert usage["input_tokens"] == pytest.approx(estimate["input_tokens"]["expected"], rel=0.05)


def test_describe_options_reports_every_option_before_and_after(
    run_example: Callable[[str], Example], simulator: Simulator
) -> None:
    example = run_example("describe_options")

    asked = example.returned("read_options")
    page = Path(example.returned("write_report").removeprefix("file://")).read_text()
    assert len(asked) > 200
    assert page.count("<tr><td>") == len(asked)
    assert all(f"<td>{message['key']}</td>" in page for message in asked)
    assert page.count("Simulated answer to") == len(asked)
    assert "The folder where your airflow pipelines live" in page
    assert simulator.books()["billed_requests"] == len(asked)
    assert simulator.calls()["create"] == 1
