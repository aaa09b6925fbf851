"""A collector of OpenTelemetry's traces: an HTTP server on loopback that keeps every span that it is sent."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class ReceivedSpan:
    """One span. Ids are hexadecimal, times are nanoseconds since 1970."""

    scope: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    started_ns: int
    ended_ns: int
    status: int
    attributes: dict[str, Any]


@dataclass
class OtlpReceiver:
    """Keeps the spans of all exporters."""

    port: int
    spans: list[ReceivedSpan] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, str]:
        """Airflow's settings that send its traces here: those of 3.2 and newer, and those of 3.0 and 3.1."""
        return {
            "AIRFLOW__TRACES__OTEL_ON": "True",
            "AIRFLOW__TRACES__OTEL_HOST": "127.0.0.1",
            "AIRFLOW__TRACES__OTEL_PORT": str(self.port),
            "OTEL_TRACES_EXPORTER": "otlp_proto_http",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{self.port}/v1/traces",
        }

    def of_run(self, run_id: str) -> list[ReceivedSpan]:
        """Return the spans that this package has made in a run of a DAG."""
        return [
            span
            for span in self.spans
            if span.scope == "airflow_claude_batch" and span.attributes["airflow.dag_run.run_id"] == run_id
        ]

    def add(self, body: bytes) -> None:
        """Keep the spans of an export request."""
        request = ExportTraceServiceRequest.FromString(body)
        for scope in (each for resource in request.resource_spans for each in resource.scope_spans):
            self.spans.extend(_received(scope.scope.name, span) for span in scope.spans)


def _received(scope: str, span: Any) -> ReceivedSpan:
    return ReceivedSpan(
        scope=scope,
        name=span.name,
        kind=span.kind,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        started_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        status=span.status.code,
        attributes={each.key: _value(each.value) for each in span.attributes},
    )


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """Run a receiver for the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    receiver = _Handler.receivers[server.server_port] = OtlpReceiver(server.server_port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        del _Handler.receivers[server.server_port]


class _Handler(BaseHTTPRequestHandler):
    receivers: dict[int, OtlpReceiver] = {}  # noqa: RUF012  # by port: the server makes the handlers itself

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.receivers[self.server.server_address[1]].add(body)
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Write nothing."""
