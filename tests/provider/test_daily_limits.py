"""The budget of a day as a user meets it: settings, refusals that Airflow retries, files below results_path."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from workbench import Run, Workbench

from airflow_claude_batch._airflow import settings
from airflow_claude_batch.exceptions import ConfigurationError, DailyCostLimitError
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("claude_default")]

#: A request may cost up to $0.000016.
MESSAGES = [f"question {number}" for number in range(10)]
OPTIONS = {"messages": MESSAGES, "model": "claude-haiku-5-5", "max_tokens": 64}
SetLimit = Callable[..., None]


@pytest.fixture
def set_limits(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> SetLimit:
    """Set limits of the day, and the deployment's results_path."""
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__RESULTS_PATH", str(bench.results))

    def set_(**limits: str) -> None:
        for name, usd in limits.items():
            monkeypatch.setenv(f"AIRFLOW__CLAUDE_BATCH__{name.upper()}", usd)

    return set_


def ask(bench: Workbench, dag_id: str = "asks", **arguments: Any) -> Run:
    with bench.dag(dag_id) as dag:
        SendMessageBatchOperator(task_id="ask", **{**OPTIONS, "wait_for_completion": True, **arguments})
    return bench.run(dag)


def entries(bench: Workbench) -> list[list[str]]:
    """Return dag, submission, number, state, amount and time of each file of spending."""
    return sorted((path.stem.split("-") for path in bench.results.glob("_spending/*/*.json")), key=lambda each: each[2])


def test_operator_reserves_and_notes_what_was_billed(
    bench: Workbench, set_limits: SetLimit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_limits(max_cost_per_day="0.0003")

    manifest = ask(bench).xcom("ask")

    reserved, billed = entries(bench)
    assert [reserved[3], billed[3]] == ["open", "billed"]
    assert reserved[1] == billed[1] == manifest["submission_id"]
    assert Decimal(billed[4]) - Decimal(manifest["cost"]["usd"]) * 1_000_000 < 1
    assert int(reserved[4]) > int(billed[4])
    (written, _) = (
        json.loads(path.read_text()) for path in sorted(bench.results.glob("_spending/*/*.json"), reverse=True)
    )
    assert written["dag_id"] == "asks"
    assert written["task_id"] == "ask"


def test_sensor_notes_what_was_billed(bench: Workbench, set_limits: SetLimit, tmp_path: Path) -> None:
    """Both tasks have a results_path of their own: there is one budget."""
    set_limits(max_cost_per_day="0.0003")
    own = {"results_path": str(tmp_path / "own")}
    with bench.dag("two_tasks") as dag:
        send = SendMessageBatchOperator(task_id="send", **OPTIONS, **own)
        MessageBatchSensor(task_id="wait", batch=send.output, deferrable=True, **own)

    run = bench.run(dag)

    assert run.xcom("send")["for_sensor"]["reservation"].endswith("/1")
    assert [entry[3] for entry in entries(bench)] == ["open", "billed"]
    assert Decimal(entries(bench)[1][4]) - Decimal(run.xcom("wait")["cost"]["usd"]) * 1_000_000 < 1


def test_submission_without_room_is_refused_so_that_airflow_retries_it(
    bench: Workbench, set_limits: SetLimit, simulator: Any
) -> None:
    set_limits(max_cost_per_day="0.0003")
    ask(bench, "first", wait_for_completion=False)  # nobody lands it, so it stays open

    run = ask(bench, "second")

    assert run.states == {"ask": "failed"}
    assert isinstance(bench.errors["ask"][-1], DailyCostLimitError)
    assert "but [claude_batch] max_cost_per_day has $0.0001" in run.error("ask")
    assert "It frees up at 00:00 UTC, in " in run.error("ask")
    assert len(simulator.books()["batches"]) == 1


def test_limit_of_a_dag_leaves_room_for_others(bench: Workbench, set_limits: SetLimit) -> None:
    set_limits(max_cost_per_dag_per_day="0.0003")
    ask(bench, "first", wait_for_completion=False)

    assert ask(bench, "second").states == {"ask": "success"}
    assert "max_cost_per_dag_per_day has" in ask(bench, "first").error("ask")


def test_mapped_tasks_share_the_budget(bench: Workbench, set_limits: SetLimit, simulator: Any) -> None:
    set_limits(max_cost_per_day="0.0004")
    with bench.dag("mapped") as dag:
        options = {name: value for name, value in OPTIONS.items() if name != "messages"}
        SendMessageBatchOperator.partial(task_id="ask", **options).expand(messages=[MESSAGES] * 4)

    run = bench.run(dag)

    assert sorted(run.states.values()) == ["failed", "failed", "success", "success"]
    assert len(simulator.books()["batches"]) == 2


def test_submission_above_the_limit_alone_fails_for_good(bench: Workbench, set_limits: SetLimit) -> None:
    set_limits(max_cost_per_day="0.0001")

    run = ask(bench)

    assert "above [claude_batch] max_cost_per_day, $0.000100.\nNothing was sent." in run.error("ask")
    assert type(bench.errors["ask"][-1]).__name__ == "AirflowFailException"
    assert entries(bench) == []


def test_dry_run_checks_and_reserves_nothing(bench: Workbench, set_limits: SetLimit) -> None:
    set_limits(max_cost_per_day="0.0003")
    assert ask(bench, "dry", dry_run=True).states == {"ask": "success"}
    assert entries(bench) == []
    ask(bench, "first", wait_for_completion=False)

    assert ask(bench, "dry", dry_run=True).states == {"ask": "failed"}
    assert isinstance(bench.errors["ask"][-1], DailyCostLimitError)


def test_clear_that_starts_anew_adds_its_cost(bench: Workbench, set_limits: SetLimit, simulator: Any) -> None:
    set_limits(max_cost_per_day="0.0005")
    first = ask(bench, reuse_answers=False)
    with bench.dag("asks") as dag:
        SendMessageBatchOperator(task_id="ask", **OPTIONS, wait_for_completion=True, reuse_answers=False)

    assert first.again(dag, "ask").states == {"ask": "success"}

    assert simulator.books()["billed_requests"] == 20
    once, twice = (int(entry[4]) for entry in entries(bench) if entry[3] == "billed")
    assert abs(twice - 2 * once) <= 1


def test_nothing_is_written_without_a_limit(bench: Workbench, set_limits: SetLimit) -> None:
    set_limits()

    assert ask(bench).states == {"ask": "success"}

    assert not (bench.results / "_spending").exists()


def test_nothing_is_sent_if_the_budget_cannot_be_written(
    bench: Workbench, set_limits: SetLimit, simulator: Any
) -> None:
    set_limits(max_cost_per_day="1")
    bench.results.mkdir()
    (bench.results / "_spending").write_text("a file")

    run = ask(bench)

    assert "max_cost_per_day cannot be checked" in run.error("ask")
    assert isinstance(bench.errors["ask"][-1], DailyCostLimitError)
    assert simulator.books()["batches"] == []


def test_budget_that_each_machine_would_keep_for_itself_is_refused(
    bench: Workbench, set_limits: SetLimit, simulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_limits(max_cost_per_day="1")
    monkeypatch.delenv("AIRFLOW__CLAUDE_BATCH__RESULTS_PATH")
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")

    run = ask(bench)

    assert "max_cost_per_day needs a [claude_batch] results_path that all workers share" in run.error("ask")
    assert isinstance(bench.errors["ask"][-1], ConfigurationError)
    assert simulator.books()["batches"] == []


@pytest.mark.parametrize("name", ["max_cost_per_day", "max_cost_per_dag_per_day"])
def test_limit_that_is_not_an_amount_is_refused(name: str, set_limits: SetLimit) -> None:
    set_limits(**{name: "much"})

    with pytest.raises(ConfigurationError, match=rf"\[claude_batch\] {name} must be an amount of US dollars"):
        getattr(settings, name)()
