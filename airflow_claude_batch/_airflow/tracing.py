"""Report each submission as one span to OpenTelemetry, if Airflow's tracing is on (``[traces] otel_on``).

The span follows OpenTelemetry's conventions for calls of generative AI, as of 2026-11: a client span named ``chat``
and the model, from the creation of the first message batch to the end of the last. It is in the trace of the task
instance, below the span that Airflow makes of the whole task instance, because several processes may have worked for
it. No attribute has a prompt, an answer or a key of a request.

Without tracing nothing of OpenTelemetry is imported. An error of it fails no task, and a slow collector holds none.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from airflow_claude_batch._airflow.compat import tracer_provider

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from airflow_claude_batch._airflow.compat import TaskInstance
    from airflow_claude_batch.batch.land.manifest import Manifest

log = logging.getLogger(__name__)

#: Before Airflow 3.2 a span is sent while the task waits. A collector that does not answer may not hold it longer.
MAX_SECONDS: Final = 5.0
#: How many ids of message batches a span lists. A submission has one for each 100,000 requests.
MAX_LISTED_BATCHES: Final = 50
#: The largest number of OpenTelemetry's protocol, and the most letters of a text: model names come from answers.
_MAX_INT: Final = 2**63 - 1
_MAX_LETTERS: Final = 200
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Attribute = str | int | float | list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanValues:
    """What a span is made of.

    :param started_ns: nanoseconds since 1970, as OpenTelemetry counts.
    :param error_type: class of the error with which the submission failed, None if it did not.
    """

    name: str
    started_ns: int
    ended_ns: int
    attributes: Mapping[str, Attribute]
    error_type: str | None


def trace_submission(manifest: Manifest, ti: TaskInstance, failure: Exception | None = None) -> None:
    """Report a submission that has ended, and was not reported before. One that called no model has no span.

    :param failure: the error with which it failed.
    """
    try:
        values = span_values(manifest, ti, failure)
        provider = tracer_provider() if values is not None else None
        if values is None or provider is None:
            return
        carrier = getattr(ti, "context_carrier", None)
        parent = carrier if isinstance(carrier, Mapping) else {}
        # A thread: the exporter of Airflow 3.0 and 3.1 sends at once, and repeats what failed for a minute.
        thread = threading.Thread(target=_report, args=(provider, parent, values), daemon=True)
        thread.start()
        thread.join(MAX_SECONDS)
    except Exception:  # any exporter may raise anything, and tracing must never fail a task
        log.debug("The submission could not be traced.", exc_info=True)


def span_values(manifest: Manifest, ti: TaskInstance, failure: Exception | None = None) -> SpanValues | None:
    """Return the values of a submission's span. None if it has not ended, or if nothing was sent for it."""
    if manifest.status != "ended" or manifest.created_at is None or manifest.ended_at is None:
        return None
    error_type = None if failure is None else type(failure).__name__
    models = _models(manifest)
    attributes = {**dict(_gen_ai(manifest, models)), **dict(_batches(manifest, models)), **_task(ti)}
    if error_type is not None:
        attributes["error.type"] = error_type
    return SpanValues(
        name=f"chat {_text(models[0])}" if len(models) == 1 else "chat",
        started_ns=_nanoseconds(manifest.created_at),
        ended_ns=_nanoseconds(max(manifest.ended_at, manifest.created_at)),
        attributes={name: _storable(value) for name, value in attributes.items()},
        error_type=error_type,
    )


def _models(manifest: Manifest) -> list[str]:
    """Return the models that were asked for, as far as the estimate tells, else those that answered."""
    asked = (manifest.estimate or {}).get("models")
    return sorted(asked if isinstance(asked, dict) and asked else manifest.by_model)


def _gen_ai(manifest: Manifest, models: list[str]) -> Iterator[tuple[str, Attribute]]:
    yield "gen_ai.operation.name", "chat"
    yield "gen_ai.provider.name", "anthropic"
    if len(models) == 1:
        yield "gen_ai.request.model", models[0]
    if len(manifest.by_model) == 1:
        yield "gen_ai.response.model", next(iter(manifest.by_model))
    limit = (manifest.estimate or {}).get("max_tokens")
    if isinstance(limit, dict) and limit.get("least") == limit.get("most") is not None:
        yield "gen_ai.request.max_tokens", limit["most"]
    if manifest.stop_reasons:
        yield "gen_ai.response.finish_reasons", sorted(manifest.stop_reasons)
    read, written = (_tokens(manifest, f"cache_{kind}_input_tokens") for kind in ("read", "creation"))
    # The conventions count cached tokens in, and Anthropic's API does not.
    yield "gen_ai.usage.input_tokens", _tokens(manifest, "input_tokens") + read + written
    yield "gen_ai.usage.output_tokens", _tokens(manifest, "output_tokens")
    yield "gen_ai.usage.cache_read.input_tokens", read
    yield "gen_ai.usage.cache_creation.input_tokens", written


def _batches(manifest: Manifest, models: list[str]) -> Iterator[tuple[str, Attribute]]:
    yield "claude_batch.submission_id", manifest.submission_id
    yield "claude_batch.models", models
    yield "claude_batch.batch_count", len(manifest.batch_ids)
    yield "claude_batch.batch_ids", manifest.batch_ids[:MAX_LISTED_BATCHES]
    yield "claude_batch.request_count", manifest.request_count
    for status, count in manifest.counts.items():
        yield f"claude_batch.rows.{status}", count
    if manifest.reused:
        yield "claude_batch.reused_answers", manifest.reused["requests"]
    if manifest.direct:
        yield "claude_batch.direct_answers", manifest.direct["answers"]
    for name in ("usd", "estimated_usd"):
        if (amount := (manifest.cost or {}).get(name)) is not None:
            yield f"claude_batch.cost.{name}", float(amount)


def _task(ti: TaskInstance) -> dict[str, Attribute]:
    """Return the attributes that Airflow gives to its own spans."""
    return {
        "airflow.dag_id": ti.dag_id,
        "airflow.task_id": ti.task_id,
        "airflow.dag_run.run_id": ti.run_id,
        "airflow.task_instance.try_number": ti.try_number,
        "airflow.task_instance.map_index": -1 if ti.map_index is None else ti.map_index,
    }


def _tokens(manifest: Manifest, kind: str) -> int:
    counts = (part["usage"].get(kind) for part in manifest.by_model.values())
    return sum(count for count in counts if isinstance(count, int))


def _storable(value: Attribute) -> Attribute:
    """Return a value that every exporter takes. One that fails would take the spans of others with it."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return [_text(each) for each in value]
    return min(value, _MAX_INT) if isinstance(value, int) else value


def _text(value: str) -> str:
    return value[:_MAX_LETTERS].encode(errors="replace").decode()


def _nanoseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1) * 1000


def _report(provider: TracerProvider, parent: Mapping[str, str], values: SpanValues) -> None:
    try:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        span = provider.get_tracer("airflow_claude_batch").start_span(
            values.name,
            context=TraceContextTextMapPropagator().extract(parent),
            kind=trace.SpanKind.CLIENT,
            attributes=values.attributes,
            start_time=values.started_ns,
        )
        if values.error_type is not None:
            span.set_status(trace.Status(trace.StatusCode.ERROR))
        span.end(end_time=values.ended_ns)
    except Exception:
        log.debug("The submission could not be traced.", exc_info=True)
