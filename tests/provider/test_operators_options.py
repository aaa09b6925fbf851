"""Options that save money or protect: canary, prompt cache, deduplication, deleted batches."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow_fixtures import KEY
from workbench import Workbench

from airflow_claude_batch._airflow import settings
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.exceptions import ConfigurationError
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor

pytestmark = pytest.mark.airflow

MODEL = "claude-haiku-5-5"
LONG, SHORT = "Answer by these rules. " * 500, "Be brief."


def refused(custom_id: str, params: dict[str, Any], attempt: int) -> str | None:
    """Refuse every request that asks for thinking."""
    return "errored:invalid_request_error:no thinking here" if "thinking" in params else None


def ask(task_id: str = "ask", **arguments: Any) -> SendMessageBatchOperator:
    arguments.setdefault("messages", [f"question {number}" for number in range(20)])
    return SendMessageBatchOperator(task_id=task_id, model=MODEL, **arguments)


def sizes(simulator: Any) -> list[int]:
    return [batch["request_count"] for batch in simulator.books()["batches"]]


@pytest.mark.parametrize("simulator", [{"outcome": refused}], indirect=True, ids=["scripted"])
@pytest.mark.parametrize("wait", [True, False], ids=["one task", "two tasks"])
def test_refused_canary_is_the_only_request_that_is_sent(
    wait: bool, bench: Workbench, claude_default: str, simulator: Any
) -> None:
    thinking = {"thinking": {"type": "adaptive"}}
    with bench.dag("canary") as dag:
        ask(canary=True, request_params=thinking, wait_for_completion=wait, deferrable=True, retries=2)
    run = bench.run(dag)

    assert run.states == {"ask": "failed"}
    assert "The request that was sent first (canary=True) was refused" in run.error("ask")
    assert "no thinking here" in run.error("ask")
    assert run.tries("ask") == 1
    assert sizes(simulator) == [1]


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])
def test_warm_cache_writes_the_cache_with_one_request_and_others_read_it(
    deferrable: bool,
    bench: Workbench,
    claude_default: str,
    simulator: Any,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with bench.dag("cache") as dag:
        ask("long", system=LONG, cache_system=True, warm_cache=True, wait_for_completion=True, deferrable=deferrable)
    usage = bench.run(dag).xcom("long")["usage"]

    assert sizes(simulator) == [1, 19]
    assert usage["cache_read_input_tokens"] == 19 * usage["ephemeral_1h_input_tokens"] > 19 * 1000
    assert "prompt cache was neither" not in "".join((caplog.text, *capsys.readouterr()))


def test_prefix_too_short_for_the_cache_is_logged_when_landing(
    bench: Workbench, claude_default: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with bench.dag("short") as dag:
        send = ask("send", system=SHORT, cache_system=True, deferrable=True)
        MessageBatchSensor(task_id="wait", batch=send.output, deferrable=True)
    usage = bench.run(dag).xcom("wait")["usage"]

    assert usage["cache_read_input_tokens"] == usage["cache_creation_input_tokens"] == 0
    logs = "".join((caplog.text, *capsys.readouterr()))
    assert "No answer wrote or read the prompt cache" in logs
    assert "shorter than the model's minimum" in logs


def test_identical_requests_are_sent_once_and_have_a_row_each(
    bench: Workbench, claude_default: str, simulator: Any
) -> None:
    messages = [{"key": f"k{number}", "prompt": f"question {number % 3}"} for number in range(12)]
    with bench.dag("identical") as dag:
        send = ask("send", messages=messages, deduplicate=True, deferrable=True)
        MessageBatchSensor(task_id="wait", batch=send.output, deferrable=True)
    manifest = bench.run(dag).xcom("wait")

    rows = list(read_rows(manifest))
    assert [row.key for row in rows] == [message["key"] for message in messages]
    assert all(f"question {row.index % 3}”" in str(row.text) for row in rows)
    assert manifest["counts"]["succeeded"] == sum(manifest["stop_reasons"].values()) == 12
    assert simulator.books()["billed_requests"] == 3


def test_clear_after_deleting_batches_pays_for_nothing(bench: Workbench, claude_default: str, simulator: Any) -> None:
    def dag() -> Any:
        with bench.dag("deleted") as dag:
            ask(delete_batches=True, wait_for_completion=True, deferrable=True)
        return dag

    run = bench.run(dag())
    assert [batch["deleted"] for batch in simulator.books()["batches"]] == [True]
    run = run.again(dag(), "ask")

    assert run.states == {"ask": "success"}
    assert [row.status for row in read_rows(run.xcom("ask"))] == ["succeeded"] * 20
    assert sizes(simulator) == [20]


@pytest.mark.parametrize(
    ("options", "extra", "expected"),
    [
        pytest.param({"max_batch_requests": "4"}, {"max_batch_requests": "5"}, [4, 4, 2], id="requests"),
        pytest.param({"max_batch_bytes": "9000"}, {"max_batch_bytes": 4096}, [3, 3, 3, 1], id="bytes"),
    ],
)
def test_batches_keep_within_the_lowest_limit_of_a_gateway(
    options: dict[str, str],
    extra: dict[str, Any],
    expected: list[int],
    bench: Workbench,
    claude_default: str,
    simulator_url: str,
    simulator: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in options.items():
        monkeypatch.setenv(f"AIRFLOW__CLAUDE_BATCH__{name.upper()}", value)
    fields = {"conn_type": "claude", "password": KEY, "host": simulator_url, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_CLAUDE_DEFAULT", json.dumps(fields))
    with bench.dag("limited") as dag:
        ask(messages=["x" * 1000] * 10, deferrable=False, poll_interval=0.2)
    run = bench.run(dag)

    assert run.states == {"ask": "success"}
    assert sizes(simulator) == expected


CONFIG = ClientConfig(credentials=ApiKey("sk-test"), max_batch_requests=50)


@pytest.mark.parametrize(
    ("option", "expected"),
    [(None, (250_000_000, 50)), ("", (250_000_000, 50)), ("4096", (4096, 50)), ("300000000", (250_000_000, 50))],
)
def test_lowest_limit_of_a_batch_wins(
    option: str | None, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if option is not None:
        monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__MAX_BATCH_BYTES", option)
    assert settings.batch_limits(CONFIG) == expected


@pytest.mark.parametrize("value", ["many", "0", "-1", "1.5", "100"])
def test_limit_of_a_batch_that_is_no_number_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__MAX_BATCH_BYTES", value)
    with pytest.raises(ConfigurationError, match=r"\[claude_batch\] max_batch_bytes is"):
        settings.batch_limits(CONFIG)


def test_rows_without_a_key_are_sent_with_a_warning(
    bench: Workbench, claude_default: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"id": 7, "text": "a"}, {"id": 8, "text": "b"}]
    with bench.dag("positions") as dag:
        for key in (None, "id"):
            options = {"rows": rows, "prompt": "{text}", "key": key, "wait_for_completion": True}
            SendMessageBatchOperator(task_id=f"by_{key}", **options)
    run = bench.run(dag)

    assert [row.key for row in read_rows(run.xcom("by_None"))] == [0, 1]
    assert [row.key for row in read_rows(run.xcom("by_id"))] == [7, 8]
    logs = (caplog.text, *capsys.readouterr())  # Airflow 3.0 writes to several of them
    assert max(log.count("No key is given, so the key of each row is its position") for log in logs) == 1
