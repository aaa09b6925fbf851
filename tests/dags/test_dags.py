"""Runs every example unchanged against the simulator, and checks its results."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import time_machine
from airflow_fixtures import KEY
from databases import Database
from waiting_world import BODY
from workbench import Workbench

from airflow_claude_batch.answers import AnswerStore
from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.exceptions import DailyCostLimitError
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.simulator import Simulator

FILES = {path.stem for path in Path(__file__).parents[2].joinpath("dags").glob("*.py")}

#: The day of all runs here.
DAY = datetime(2026, 11, 28, tzinfo=UTC)

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("claude_default")]


class Example:
    """A run of one of the examples that has succeeded."""

    def __init__(self, run: Any) -> None:
        assert run.state == "success"
        self._run = run

    def returned(self, task_id: str) -> Any:
        return self._run.get_task_instance(task_id).xcom_pull(task_ids=task_id)


@pytest.fixture
def warehouse(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """An empty database behind the connection that the examples name."""
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", sqlite_database.airflow_connection)
    return sqlite_database


@pytest.fixture
def run_example(examples: dict[str, Any], run_dag: Callable[..., Any]) -> Callable[[str], Example]:
    return lambda dag_id: Example(run_dag(examples[dag_id], logical_date=DAY))


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


def test_table_to_table_has_a_label_for_each_ticket_however_often_it_runs(
    any_database: Database, run_example: Callable[[str], Example]
) -> None:
    written = [run_example("table_to_table").returned("load")["rows_written"] for _ in range(2)]

    assert written == [4, 4]
    rows = any_database.query(
        "SELECT tickets.id, labels.title, topic, urgent, wish, usd, why_not, CAST(labels.day AS char(10))"
        " FROM example_tickets tickets JOIN example_ticket_labels labels ON labels.id = tickets.id ORDER BY tickets.id"
    )
    assert [row[:2] for row in rows] == [(1041, "Charged twice"), (1042, "Where is it?"), (1043, "Size"), (1044, None)]
    for _, _, topic, urgent, wish, usd, why_not, day in rows:
        assert topic in ("billing", "delivery", "product", "other")
        assert urgent in (True, False)
        assert wish
        assert 0 < usd < 1
        assert why_not is None
        assert day == "2026-11-28"


def test_parquet_to_parquet_gives_typed_columns(run_example: Callable[[str], Example], simulator: Simulator) -> None:
    pl = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    example = run_example("parquet_to_parquet")

    ratings = example.returned("rate_products")
    assert [rating["product"] for rating in ratings] == ["lamp", "radio"]
    assert all(1 <= rating["stars"] <= 5 for rating in ratings)
    rows = pl.read_parquet(example.returned("judge")["results_path"].removeprefix("file://"))
    assert rows["key"].to_list() == [100, 101, 200, 201]
    assert rows.schema["written_at"] == pl.Datetime
    assert rows.schema["cost_usd"] == pl.Decimal(18, 12)
    assert set(rows["output"].struct.fields) == {"sentiment", "stars", "complaint"}
    assert rows.schema["output"].fields[1].dtype == pl.Int64
    assert simulator.calls()["create"] == 1


def test_describe_options_costs_what_was_estimated(warehouse: Database, run_example: Callable[[str], Example]) -> None:
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
    warehouse: Database, run_example: Callable[[str], Example], simulator: Simulator
) -> None:
    example = run_example("describe_options")

    asked = warehouse.query("SELECT name, description FROM airflow_options")
    page = Path(example.returned("write_report").removeprefix("file://")).read_text()
    assert len(asked) > 200
    assert page.count("<tr><td>") == len(asked)
    assert all(f"<td>{name}</td>" in page for name, _ in asked)
    assert page.count("Simulated answer to") == len(asked)
    assert "The folder where your airflow pipelines live" in page
    assert simulator.books()["billed_requests"] == len(asked)
    explained = warehouse.query("SELECT name FROM airflow_options_explained WHERE explanation LIKE 'Simulated answer%'")
    assert sorted(explained) == sorted((name,) for name, _ in asked)
    assert simulator.calls()["create"] == 1


def test_files_to_table_writes_a_row_for_each_file(
    run_example: Callable[[str], Example], simulator: Simulator, warehouse: Database
) -> None:
    example = run_example("files_to_table")

    assert example.returned("load")["rows_written"] == 3
    rows = warehouse.query("SELECT file, seller, due, total, why_not FROM example_invoices ORDER BY file")
    assert [row[0] for row in rows] == ["2041.pdf", "2042.pdf", "2043.pdf"]
    assert all(seller and due.count("-") == 2 and total is not None for _, seller, due, total, _ in rows)
    assert {row[-1] for row in rows} == {None}
    manifest = example.returned("read")
    assert manifest["usage"]["input_tokens"] == pytest.approx(3 * 2500, rel=0.05)  # a page each
    assert manifest["estimate"]["input_tokens"]["upper"] < 3 * 2600
    assert simulator.books()["billed_requests"] == 3


def test_changing_table_pays_for_the_rows_that_changed(
    warehouse: Database, examples: dict[str, Any], run_dag: Callable[..., Any], simulator: Simulator, tmp_path: Path
) -> None:
    examples["changing_table"].get_task("describe").answer_store = AnswerStore(str(tmp_path))
    lines = [
        Example(run_dag(examples["changing_table"], logical_date=datetime(2026, 1, day, tzinfo=UTC))).returned(
            "say_cost"
        )
        for day in range(1, 6)
    ]

    assert [line.rpartition(",")[0] for line in lines] == [
        "2026-01-01: 20 asked, 0 reused",
        *(f"2026-01-{day:02}: 1 asked, 19 reused" for day in range(2, 6)),
    ]
    assert simulator.books()["billed_requests"] == 24


def test_batches_made_elsewhere_lands_those_that_it_is_triggered_with(
    examples: dict[str, Any], run_dag: Callable[..., Any], simulator: Simulator, simulator_url: str
) -> None:
    """That its events run it is tested on a real Airflow."""
    with ClaudeClient(ClientConfig(credentials=ApiKey(KEY), base_url=simulator_url)) as client:
        ids = [client.create_batch(BODY).id for _ in range(2)]
    dag = examples["batches_made_elsewhere"]

    without = Example(run_dag(dag, logical_date=DAY))
    assert without.returned("land") is None
    by_hand = Example(run_dag(dag, logical_date=DAY, run_conf={"batch_ids": ids}))
    assert by_hand.returned("count_outcomes") == {"succeeded": 2}
    assert sorted(by_hand.returned("land")["batch_ids"]) == sorted(ids)
    assert simulator.calls()["create"] == 2


def salesman(params: dict[str, Any], n: int) -> str | dict[str, Any]:
    """Look up the article of the question, and another one if there are no pieces of it."""
    question, last = params["messages"][0]["content"], params["messages"][-1]["content"]
    if last is question or (last[0]["content"] == "0 pieces" and len(params["messages"]) == 3):
        article = "L-100" if last is not question else re.findall(r"[LR]-\d+", question)[0]
        use = {
            "type": "tool_use",
            "id": f"toolu_{len(params['messages'])}_{n}",
            "name": "look_up_stock",
            "input": {"article": article},
        }
        return {"content": [{"type": "text", "text": "I look it up."}, use], "stop_reason": "tool_use"}
    return f"We have {last[0]['content']}."


@pytest.mark.parametrize("simulator", [{"answer": salesman}], indirect=True)
def test_tool_rounds_pays_for_each_round_once_whatever_is_run_again(
    examples: dict[str, Any], bench: Workbench, simulator: Simulator
) -> None:
    dag = examples["tool_rounds"]
    run = bench.run(dag, logical_date=DAY)

    answers = {"C-1": "We have 14 pieces.", "C-3": "We have 3 pieces.", "C-2": "We have 14 pieces."}
    assert run.xcom("collect") == answers
    assert [batch["request_count"] for batch in simulator.books()["batches"]] == [3, 3, 1]
    conversation = simulator.requests()[-1]["params"]["messages"]
    assert [message["role"] for message in conversation] == ["user", "assistant", "user", "assistant", "user"]
    for cleared in (["ask_2"], list(run.states)):
        run = run.again(dag, *cleared)
        assert run.xcom("collect") == answers
    assert simulator.books()["billed_requests"] == 7
    assert simulator.calls()["create"] == 3


def test_tool_rounds_skips_the_rounds_that_nobody_needs(run_example: Callable[[str], Example]) -> None:
    """The simulator's own answers ask for no tool."""
    answers = run_example("tool_rounds").returned("collect")

    assert list(answers) == ["C-1", "C-2", "C-3"]


def judge_of_the_test(params: dict[str, Any], n: int) -> str | None:
    """Both judges find one answer poor, and one of them another."""
    prompt = params["messages"][-1]["content"]
    if "<question>" not in str(prompt):
        return None
    is_strict = params["model"] == "claude-opus-5-5"
    is_poor = "rust" in str(prompt) or (is_strict and "twinkle" in str(prompt))
    return json.dumps({"reason": "It says why.", "verdict": "poor" if is_poor else "good"})


@pytest.mark.parametrize("simulator", [{"answer": judge_of_the_test}], indirect=True)
def test_judge_reports_how_often_the_judges_agree(
    run_example: Callable[[str], Example], simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    example = run_example("judge")

    assert example.returned("report") == {"judged": 6, "agreement": pytest.approx(5 / 6), "differ": ["stars"]}
    said = capsys.readouterr().out
    assert "claude-opus-5-5 {'good': 4, 'poor': 2}" in said
    assert "claude-sonnet-5-5 {'good': 5, 'poor': 1}" in said
    assert "The judges agree on 5 of 6 answers. Read: stars" in said
    verdicts = list(read_rows(example.returned("judge")))
    assert [row.key["judge"] for row in verdicts[:2]] == ["claude-opus-5-5", "claude-sonnet-5-5"]
    assert {row.model for row in verdicts} == {"claude-opus-5-5", "claude-sonnet-5-5"}
    assert simulator.books()["billed_requests"] == 6 + 12


def test_backfill_budget_goes_on_when_the_next_day_has_room(
    examples: dict[str, Any], bench: Workbench, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = examples["backfill_budget"]
    task = dag.get_task("summarize")
    assert task.retries * task.retry_delay >= timedelta(days=3)
    monkeypatch.setattr(task, "retries", 0)  # the tries follow at once here
    days = iter(datetime(2026, 10, day, tzinfo=UTC) for day in range(1, 32))
    first = bench.run(dag, logical_date=next(days)).xcom("summarize")
    most, billed = Decimal(first["estimate"]["usd"]["upper"]), Decimal(first["cost"]["usd"])
    # Room for what a day may cost. Beside what one has cost, there is none.
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__MAX_COST_PER_DAY", str(most + billed / 2))

    second, third = (bench.run(dag, logical_date=next(days)) for _ in range(2))
    assert (second.states["summarize"], third.states["summarize"]) == ("success", "failed")
    assert isinstance(bench.errors["summarize"][-1], DailyCostLimitError)
    assert simulator.books()["billed_requests"] == 6

    assert third.again(dag, "summarize").states["summarize"] == "failed"  # still the same day
    with time_machine.travel(datetime.now(UTC) + timedelta(days=1)):
        third = third.again(dag, "summarize", "publish")
    assert third.states == {"read_reviews": "success", "summarize": "success", "publish": "success"}
    assert third.xcom("publish") == 3
    assert simulator.books()["billed_requests"] == 9
