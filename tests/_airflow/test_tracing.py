"""One span for each submission, as a collector of OpenTelemetry's gets it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from otlp_receiver import OtlpReceiver, ReceivedSpan, otlp_receiver
from workbench import Workbench

from airflow_claude_batch._airflow import compat, tracing
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.exceptions import BatchIncompleteError
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor

NOW = datetime(2026, 11, 23, tzinfo=UTC)
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
USAGE = {
    "input_tokens": 70,
    "output_tokens": 30,
    "cache_read_input_tokens": 900,
    "cache_creation_input_tokens": 1_000,
    "cache_creation": {"ephemeral_5m_input_tokens": 1_000},
}


@dataclass
class Task:
    """A task instance as a worker has it."""

    dag_id: str = "label_tickets"
    run_id: str = "scheduled__2026-11-23"
    task_id: str = "label"
    map_index: int | None = 3
    try_number: int = 2
    context_carrier: Any = field(default_factory=lambda: {"traceparent": f"00-{TRACE}-{PARENT}-01"})


def manifest(**changes: Any) -> Manifest:
    part = {"counts": {"succeeded": 3, "errored": 1}, "usage": USAGE, "usd": "0.0125"}
    ended = Manifest(
        submission_id="0123456789abcdef",
        status="ended",
        batch_ids=["msgbatch_1", "msgbatch_2"],
        request_count=4,
        counts={"succeeded": 3, "errored": 1, "expired": 0},
        results_path="/results/results.jsonl",
        stop_reasons={"end_turn": 2, "max_tokens": 1},
        by_model={"claude-haiku-5-5": part},
        cost={"usd": "0.0125", "estimated_usd": "0.02"},
        estimate={"max_tokens": {"least": 1024, "most": 1024}, "models": {"claude-haiku-5-5": {}}},
        created_at=NOW,
        ended_at=NOW + timedelta(minutes=7, microseconds=1),
    )
    return replace(ended, **changes)


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture
def provider(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> TracerProvider:
    """A provider that sends each span to the receiver at once, as Airflow's for tasks do."""
    receiver.spans.clear()
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{receiver.port}/v1/traces")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "tracer_provider", lambda: provider)
    return provider


@pytest.fixture
def span(provider: TracerProvider, receiver: OtlpReceiver) -> ReceivedSpan:
    tracing.trace_submission(manifest(), Task())
    (received,) = receiver.spans
    return received


def test_span_has_the_attributes_of_the_conventions_for_generative_ai(span: ReceivedSpan) -> None:
    assert span.name == "chat claude-haiku-5-5"
    assert span.kind == 3, "a client's span"
    assert {name: value for name, value in span.attributes.items() if name.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-haiku-5-5",
        "gen_ai.response.model": "claude-haiku-5-5",
        "gen_ai.request.max_tokens": 1024,
        "gen_ai.response.finish_reasons": ["end_turn", "max_tokens"],
        "gen_ai.usage.input_tokens": 1_970,
        "gen_ai.usage.output_tokens": 30,
        "gen_ai.usage.cache_read.input_tokens": 900,
        "gen_ai.usage.cache_creation.input_tokens": 1_000,
    }


def test_span_has_cost_batches_and_rows_and_the_names_of_the_task(span: ReceivedSpan) -> None:
    assert {name: value for name, value in span.attributes.items() if not name.startswith("gen_ai.")} == {
        "claude_batch.submission_id": "0123456789abcdef",
        "claude_batch.models": ["claude-haiku-5-5"],
        "claude_batch.batch_count": 2,
        "claude_batch.batch_ids": ["msgbatch_1", "msgbatch_2"],
        "claude_batch.request_count": 4,
        "claude_batch.rows.succeeded": 3,
        "claude_batch.rows.errored": 1,
        "claude_batch.rows.expired": 0,
        "claude_batch.cost.usd": 0.0125,
        "claude_batch.cost.estimated_usd": 0.02,
        "airflow.dag_id": "label_tickets",
        "airflow.task_id": "label",
        "airflow.dag_run.run_id": "scheduled__2026-11-23",
        "airflow.task_instance.try_number": 2,
        "airflow.task_instance.map_index": 3,
    }


def test_span_lasts_from_the_first_batch_to_the_end_of_the_last(span: ReceivedSpan) -> None:
    assert span.started_ns == 1_795_392_000_000_000_000
    assert span.ended_ns - span.started_ns == 420_000_001_000


def test_span_continues_the_trace_of_the_task_instance(span: ReceivedSpan) -> None:
    assert (span.trace_id, span.parent_id, span.status) == (TRACE, PARENT, 0)


@pytest.mark.parametrize("carrier", [None, {}, {"traceparent": "broken"}, {"other": "0"}, "text", 7])
def test_task_without_a_trace_begins_one(provider: TracerProvider, receiver: OtlpReceiver, carrier: Any) -> None:
    tracing.trace_submission(manifest(), Task(context_carrier=carrier))

    (received,) = receiver.spans
    assert received.parent_id == ""


def test_run_that_is_not_sampled_has_no_span(provider: TracerProvider, receiver: OtlpReceiver) -> None:
    tracing.trace_submission(manifest(), Task(context_carrier={"traceparent": f"00-{TRACE}-{PARENT}-00"}))

    assert receiver.spans == []


def test_several_models_are_listed_and_none_is_the_requested_one(
    provider: TracerProvider, receiver: OtlpReceiver
) -> None:
    part = {"counts": {"succeeded": 1}, "usage": {"input_tokens": 1, "output_tokens": 2}, "usd": None}
    tracing.trace_submission(
        manifest(by_model={"b": part, "a": part}, estimate=None, cost={"usd": None}), Task(map_index=None)
    )

    (received,) = receiver.spans
    assert received.name == "chat"
    assert received.attributes["claude_batch.models"] == ["a", "b"]
    assert received.attributes["gen_ai.usage.output_tokens"] == 4
    assert received.attributes["airflow.task_instance.map_index"] == -1
    assert not {"gen_ai.request.model", "claude_batch.cost.usd"} & set(received.attributes)


def test_failed_submission_has_the_class_of_its_error_and_no_message(
    provider: TracerProvider, receiver: OtlpReceiver
) -> None:
    tracing.trace_submission(manifest(), Task(), BatchIncompleteError("a prompt"))

    (received,) = receiver.spans
    assert (received.status, received.attributes["error.type"]) == (2, "BatchIncompleteError")
    assert "a prompt" not in str(received)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"status": "in_progress"}, id="in progress"),
        pytest.param({"status": "dry_run", "created_at": None}, id="dry run"),
        pytest.param({"created_at": None, "batch_ids": []}, id="all answers reused"),
    ],
)
def test_submission_that_has_not_called_a_model_to_the_end_has_no_span(
    provider: TracerProvider, receiver: OtlpReceiver, changes: dict[str, Any]
) -> None:
    tracing.trace_submission(manifest(**changes), Task())

    assert receiver.spans == []


def test_strange_values_reach_the_collector_in_a_form_that_it_takes(
    provider: TracerProvider, receiver: OtlpReceiver
) -> None:
    part = {"counts": {}, "usage": {"output_tokens": 10**30, "input_tokens": "7"}, "usd": None}
    strange = manifest(
        by_model={"\ud800" + "m" * 999: part}, estimate={"models": [], "max_tokens": 7}, batch_ids=["b"] * 99,
        ended_at=NOW - timedelta(hours=1), cost=None, reused={"requests": 3},
    )  # fmt: skip

    tracing.trace_submission(strange, Task())

    (received,) = receiver.spans
    assert received.name == "chat ?" + "m" * 199
    assert received.started_ns == received.ended_ns
    assert received.attributes["gen_ai.usage.output_tokens"] == 2**63 - 1
    assert received.attributes["gen_ai.usage.input_tokens"] == 0
    assert len(received.attributes["claude_batch.batch_ids"]) == 50
    assert received.attributes["claude_batch.reused_answers"] == 3


class BrokenProcessor(SpanProcessor):
    """An exporter that is configured badly."""

    def on_end(self, span: Any) -> None:
        raise RuntimeError("no collector")


class SlowProcessor(SpanProcessor):
    """An exporter whose collector does not answer."""

    def __init__(self) -> None:
        self.answer = threading.Event()

    def on_end(self, span: Any) -> None:
        self.answer.wait(60)


def test_broken_exporter_fails_nothing(provider: TracerProvider) -> None:
    provider.add_span_processor(BrokenProcessor())

    tracing.trace_submission(manifest(), Task())


def test_provider_that_cannot_be_made_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ImportError("no module named opentelemetry")

    monkeypatch.setattr(tracing, "tracer_provider", broken)

    tracing.trace_submission(manifest(), Task())


def test_collector_that_does_not_answer_holds_no_task(
    provider: TracerProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowProcessor()
    provider.add_span_processor(slow)
    monkeypatch.setattr(tracing, "MAX_SECONDS", 0.01)

    tracing.trace_submission(manifest(), Task())

    slow.answer.set()


# ---------------------------------------------------------------- from tasks, with Airflow's settings


@pytest.mark.airflow
def test_each_submission_is_one_span_whichever_attempts_worked_for_it(
    bench: Workbench, claude_default: str, provider: TracerProvider, receiver: OtlpReceiver
) -> None:
    with bench.dag("traced") as dag:
        send = SendMessageBatchOperator(task_id="send", messages=["a secret prompt", "b"], model="claude-haiku-5-5")
        MessageBatchSensor(task_id="wait", batch=send.output, deferrable=True, poll_interval=0.1)
        SendMessageBatchOperator(task_id="ask", messages=["c"], wait_for_completion=True, deferrable=True)
    run = bench.run(dag)
    run.again(dag, "ask")

    spans = {span.attributes["airflow.task_id"]: span.attributes for span in receiver.spans}
    assert len(receiver.spans) == 2, "the operator that only sends has none, and a clear adds none"
    assert spans["wait"]["claude_batch.rows.succeeded"] == 2
    assert spans["wait"]["claude_batch.cost.usd"] > 0
    assert spans["ask"]["gen_ai.usage.output_tokens"] > 0
    assert "a secret prompt" not in str(receiver.spans)


def expiring(custom_id: str, params: Any, attempt: int) -> str:
    return "expired"


@pytest.mark.airflow
@pytest.mark.parametrize("simulator", [{"outcome": expiring}], indirect=True, ids=["expiring"])
def test_failed_submission_is_a_span_with_an_error(
    bench: Workbench, claude_default: str, simulator: Any, provider: TracerProvider, receiver: OtlpReceiver
) -> None:
    with bench.dag("traced_failure") as dag:
        SendMessageBatchOperator(task_id="ask", messages=["a"], wait_for_completion=True, repair_rounds=0)
    bench.run(dag)

    (received,) = receiver.spans
    assert received.attributes["error.type"] == "BatchIncompleteError"


@pytest.mark.airflow
def test_nothing_of_opentelemetry_is_asked_for_while_tracing_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.setitem(sys.modules, "airflow.traces", None)

    assert compat.tracer_provider() is None


@pytest.mark.airflow
def test_settings_of_airflow_turn_tracing_on(monkeypatch: pytest.MonkeyPatch, receiver: OtlpReceiver) -> None:
    for name, value in receiver.settings.items():
        monkeypatch.setenv(name, value)

    provider = compat.tracer_provider()

    assert isinstance(provider, trace.TracerProvider)
