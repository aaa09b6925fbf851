"""The price before and the bill after, as a user meets them: in the log, in errors, in the manifest."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from workbench import Run, Workbench

from airflow_claude_batch._airflow import metrics
from airflow_claude_batch._airflow.settings import price_table
from airflow_claude_batch._airflow.task_history import TaskHistory
from airflow_claude_batch.exceptions import ConfigurationError
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.report import main
from airflow_claude_batch.sensors import MessageBatchSensor
from airflow_claude_batch.simulator import Fault

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("claude_default")]

MESSAGES = [
    {"prompt": "Why is the sky blue?", "model": "claude-haiku-5-5"},
    {"prompt": "Why is the sea salty?", "model": "claude-opus-5-5"},
]


def ask(bench: Workbench, **arguments: Any) -> Run:
    with bench.dag("costs") as dag:
        SendMessageBatchOperator(
            task_id="ask", **{"messages": MESSAGES, "wait_for_completion": True, "max_tokens": 100, **arguments}
        )
    return bench.run(dag)


def logged(caplog: pytest.LogCaptureFixture, begins: str) -> list[str]:
    """Return the lines of the one log message that starts with a text."""
    (message,) = (record.getMessage() for record in caplog.records if record.getMessage().startswith(begins))
    lines: list[str] = message.splitlines()
    return lines


def prices(monkeypatch: pytest.MonkeyPatch, path: Path, text: str) -> str:
    file = path / "prices.json"
    file.write_text(text)
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__PRICES_PATH", str(file))
    return str(file)


def test_log_has_the_estimate_and_the_bill_as_tables(bench: Workbench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    manifest = ask(bench).xcom("ask")

    estimate = logged(caplog, "Estimated cost of the requests to send:")
    assert estimate[1].split() == ["lower", "expected", "upper"]
    bill = logged(caplog, "Bill:")
    assert [line.split("  ")[0] for line in bill[2:]] == [
        "claude-haiku-5-5",
        "claude-opus-5-5",
        "all",
        "estimated before sending",
        "without the batch discount",
        "without the prompt cache",
    ]
    assert len({len(line) for line in estimate[1:5]}) == len({len(line) for line in bill[1:]}) == 1  # columns
    columns = {line[:28].strip(): line[28:].split() for line in bill[2:]}
    assert columns["all"][0] == "2"
    assert float(columns["all"][-1]) == pytest.approx(float(manifest["cost"]["usd"]), abs=5e-7)
    assert float(columns["without the batch discount"][-1]) == pytest.approx(2 * float(columns["all"][-1]), abs=2e-6)


def test_sensor_logs_the_bill(bench: Workbench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with bench.dag("two_tasks") as dag:
        send = SendMessageBatchOperator(task_id="send", messages=MESSAGES)
        MessageBatchSensor(task_id="wait", batch=send.output, deferrable=True)

    manifest = bench.run(dag).xcom("wait")

    assert logged(caplog, "Bill:")[2].startswith("claude-haiku-5-5")
    assert manifest["cost"]["estimated_usd"] is not None
    root = Path(manifest["results_path"]).parents[3]
    assert TaskHistory(str(root), SimpleNamespace(dag_id=dag.dag_id, run_id="", task_id="wait", map_index=-1)).usual


def test_estimate_is_by_length_when_count_tokens_fails(
    bench: Workbench, simulator: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    simulator.inject(Fault(do="status", on="count_tokens", status=429, retry_after=30, times=None))

    run = ask(bench)

    assert run.states == {"ask": "success"}
    assert run.xcom("ask")["estimate"]["measured_requests"] == 0
    assert any("Counting stopped early: RateLimitError" in line for line in logged(caplog, "Estimated cost"))
    assert simulator.books()["calls"]["count_tokens"] <= 2


@pytest.mark.parametrize("models", [["claude-novella-7"], ["claude-novella-7", "claude-haiku-5-5"]])
@pytest.mark.parametrize(
    "simulator", [{"answer": lambda params, n: {"content": "yes", "model": params["system"]}}], indirect=True
)
def test_model_without_a_price_is_counted_and_named(
    models: list[str], bench: Workbench, caplog: pytest.LogCaptureFixture
) -> None:
    """Another model in the same bill keeps its price."""
    messages = [{"prompt": "Why?", "model": "claude-haiku-5-5", "system": model} for model in models]

    run = ask(bench, messages=messages)

    manifest = run.xcom("ask")
    assert run.states == {"ask": "success"}
    assert manifest["cost"]["usd"] is None
    assert manifest["cost"]["unpriced_models"] == ["claude-novella-7"]
    assert manifest["by_model"]["claude-novella-7"]["usd"] is None
    assert manifest["by_model"]["claude-novella-7"]["usage"]["input_tokens"] > 0
    assert all(manifest["by_model"][model]["usd"] is not None for model in models[1:])
    assert manifest["responses"][0]["cost_usd"] is None
    assert "No price is known for claude-novella-7" in caplog.text


# ---------------------------------------------------------------- what is refused before anything is sent


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"models": {"claude-opus-5-5": {"rates": {"inptu": "4"}}}}', "'claude-opus-5-5': .*`inptu`"),
        ('{"currency": "EUR"}', "'the top level': Invalid enum value 'EUR'"),
        ('{"models": {"claude-opus-5-5": {"rates": {"input": "-4"}}}}', "'claude-opus-5-5': .*from 0 to"),
        ('{"models": {', "cannot be read: Expecting property name.*line 1 column 13"),
    ],
    ids=["typo", "currency", "negative", "no JSON"],
)
def test_invalid_prices_file_is_named_with_its_entry(
    text: str, says: str, bench: Workbench, simulator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = prices(monkeypatch, tmp_path, text)

    run = ask(bench)

    assert run.states == {"ask": "failed"}
    assert path in run.error("ask")
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(run.error("ask"))
    assert simulator.books()["batches"] == []


def test_prices_file_changes_the_bill(bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ask(bench).xcom("ask")["by_model"]
    rates = {"input": 8, "output": "40", "cache_write_5m": 10, "cache_write_1h": 16, "cache_read": 0.4}
    prices(monkeypatch, tmp_path, json.dumps({"models": {"claude-opus-5-5": {"rates": rates}}}))

    after = ask(bench).xcom("ask")["by_model"]

    assert float(after["claude-opus-5-5"]["usd"]) == pytest.approx(2 * float(before["claude-opus-5-5"]["usd"]))
    assert after["claude-haiku-5-5"] == before["claude-haiku-5-5"]


def test_prices_setting_overrides_the_prices_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"input": "8", "output": "40", "cache_write_5m": "10", "cache_write_1h": "16", "cache_read": "0.4"}
    prices(monkeypatch, tmp_path, json.dumps({"models": {"claude-novella-7": {"rates": rates}}}))
    setting = {"models": {"claude-novella-7": {"rates": {"input": "9"}}}}
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__PRICES", json.dumps(setting))

    entry = price_table().lookup("claude-novella-7")

    assert entry is not None
    assert entry.rates is not None
    assert (str(entry.rates.input), str(entry.rates.output)) == ("9", "40")


@pytest.mark.parametrize("text", ["[1]", '{"models": {"claude-opus-5-5": {"rates": {"inptu": 1}}}}', "{", '"x"'])
def test_invalid_prices_setting_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__PRICES", text)

    with pytest.raises(ConfigurationError, match=r"^\[claude_batch\] prices(:| cannot be read)"):
        price_table()


# ---------------------------------------------------------------- the API's catalogue of models


def test_model_catalogue_is_queried_once_per_model(bench: Workbench, simulator: Any) -> None:
    assert ask(bench).states == {"ask": "success"}

    assert simulator.books()["calls"]["models"] == 2


def test_model_catalogue_that_fails_stops_nothing(bench: Workbench, simulator: Any) -> None:
    simulator.inject(Fault(do="status", on="models", status=403, times=None))

    assert ask(bench).states == {"ask": "success"}
    assert simulator.books()["calls"]["models"] == 1


def test_dry_run_logs_that_nothing_was_sent(bench: Workbench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    ask(bench, dry_run=True)

    assert logged(caplog, "dry_run=True") == ["dry_run=True: nothing was sent."]


def test_dry_run_refuses_a_retired_model(bench: Workbench) -> None:
    run = ask(bench, messages=[*MESSAGES, {"prompt": "a", "model": "claude-3-haiku-20240307"}], dry_run=True)

    assert "messages[2]: claude-3-haiku-20240307 was retired" in run.error("ask")
    assert "Use claude-haiku-4-5-20251001, which replaces it." in run.error("ask")


def test_deployment_cost_limit_is_named_by_its_setting(
    bench: Workbench, simulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__MAX_COST_PER_SUBMISSION", "0.0001")

    run = ask(bench, max_cost=5)

    assert run.states == {"ask": "failed"}
    assert ", above [claude_batch] max_cost_per_submission, $0.000100.\nNothing was sent." in run.error("ask")
    assert simulator.books()["batches"] == []


@pytest.mark.parametrize("value", ["-1", "much"])
def test_deployment_cost_limit_that_is_not_an_amount_is_refused(
    value: str, bench: Workbench, simulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__MAX_COST_PER_SUBMISSION", value)

    run = ask(bench)

    assert f"max_cost_per_submission must be an amount of US dollars such as 12.50, not {value!r}" in run.error("ask")
    assert simulator.books()["batches"] == []


ADVISED = {
    "content": "yes",
    "usage": {
        "input_tokens": 10,
        "output_tokens": 2,
        "iterations": [
            {"type": "message", "input_tokens": 10, "output_tokens": 2},
            {"type": "compaction", "input_tokens": 90_000, "output_tokens": 100},
            {"type": "advisor_message", "model": "claude-opus-5", "input_tokens": 1_000, "output_tokens": 200},
        ],
    },
}
UNKNOWN = {"content": "yes", "usage": {"input_tokens": 10, "output_tokens": 2, "iterations": [{"type": "reflection"}]}}


@pytest.mark.parametrize("simulator", [{"answer": lambda params, n: ADVISED}], indirect=True)
def test_compaction_and_advisor_are_in_rows_bill_metrics_and_report(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: dict[tuple[str, ...], int] = {}

    class Stats:
        @staticmethod
        def incr(name: str, count: int = 1, *, tags: dict[str, str] | None = None) -> None:
            counted[name, *(tags or {}).values()] = count

        timing = incr

    monkeypatch.setattr(metrics, "Stats", Stats)

    manifest = ask(bench, messages=["Why?"], model="claude-haiku-5-5").xcom("ask")

    by_haiku, by_opus = "0.004526", "0.005"  # 90,010 of 0.05 and 102 of 0.25; 1,000 of 2.50 and 200 of 12.50
    assert manifest["responses"][0]["cost_usd"] == manifest["cost"]["usd"] == "0.009526"
    assert manifest["responses"][0]["usage"]["iterations"] == ADVISED["usage"]["iterations"]  # type: ignore[index]
    assert manifest["usage"]["input_tokens"] == 91_010
    assert manifest["by_model"]["claude-opus-5"]["counts"] == {}
    assert (by_haiku, by_opus) == tuple(
        manifest["by_model"][name]["usd"] for name in ("claude-haiku-5-5", "claude-opus-5")
    )
    assert counted["claude_batch.cost_microusd", "claude-opus-5"] == 5_000
    assert counted["claude_batch.tokens", "input", "claude-opus-5"] == 1_000
    assert counted["claude_batch.rows", "succeeded", "claude-haiku-5-5"] == 1
    page = tmp_path / "page.html"
    main([str(Path(manifest["results_path"]).parent), "-o", str(page)])
    assert '<td>claude-opus-5</td><td class="n less">0</td><td class="n">1,000</td>' in page.read_text()


@pytest.mark.parametrize("simulator", [{"answer": lambda params, n: UNKNOWN}], indirect=True)
def test_iteration_of_an_unknown_type_makes_the_cost_unknown(
    bench: Workbench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = ask(bench, messages=["Why?"], model="claude-haiku-5-5")

    manifest = run.xcom("ask")
    assert run.states == {"ask": "success"}
    assert [manifest["responses"][0][name] for name in ("status", "text", "cost_usd")] == ["succeeded", "yes", None]
    assert manifest["cost"]["usd"] is None
    assert manifest["cost"]["unknown_answers"] == 1
    assert "The usage of 1 answer is in a form that this release does not know" in caplog.text
    assert "No price is known" not in caplog.text
    page = tmp_path / "page.html"
    main([str(Path(manifest["results_path"]).parent), "-o", str(page)])
    assert "Answers whose usage is in a form that this release does not know: 1." in page.read_text()
    assert "No price is known" not in page.read_text()
    assert "<b>≥ $0.00" in page.read_text()
