"""Shared by the bulk benchmarks: an API that only moves bytes, and the start of measured processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROLE = Path(__file__).with_name("bulk_role.py")
KEY = "sk-benchmark"
BATCHES = "/v1/messages/batches"


@dataclass(frozen=True)
class Cost:
    """The measured cost of a role: CPU seconds by step, peak memory in bytes, and elapsed seconds.

    The peak is counted above the memory of the interpreter with its imports.

    :param counts: what the steps of the role counted.
    """

    cpu: Mapping[str, float]
    memory: int
    seconds: float
    counts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cpu_seconds(self) -> float:
        return sum(self.cpu.values())

    @property
    def megabytes(self) -> float:
        return self.memory / 2**20


def middle(costs: Sequence[Cost]) -> Cost:
    """Return the run with the median CPU. The first of several runs also pays for warming up the system."""
    return sorted(costs, key=lambda cost: cost.cpu_seconds)[len(costs) // 2]


class LoopbackAPI(ThreadingHTTPServer):
    """Sends files as results and writes the bodies it receives to a file. Runs outside of the measured process.

    :param results: the files of result lines, by batch id.
    :param received: the file for the body of a create call.
    """

    daemon_threads = True

    def __init__(self, results: Mapping[str, tuple[Path, int]], received: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.results = results
        self.received = received
        self.url = f"http://127.0.0.1:{self.server_port}"

    def batch(self, batch_id: str, status: str, count: int) -> dict[str, Any]:
        """Describe a message batch as the API does."""
        return {
            "id": batch_id,
            "type": "message_batch",
            "processing_status": status,
            "request_counts": {"processing": 0, "succeeded": count, "errored": 0, "canceled": 0, "expired": 0},
            "created_at": "2026-10-08T00:00:00Z",
            "expires_at": "2026-10-09T00:00:00Z",
            "ended_at": None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"{self.url}{BATCHES}/{batch_id}/results",
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LoopbackAPI

    def do_GET(self) -> None:
        batch_id = self.path.removeprefix(f"{BATCHES}/").split("/")[0]
        path, count = self.server.results[batch_id]
        if self.path.endswith("/results"):
            self._head(path.stat().st_size, "application/x-jsonl")
            with path.open("rb") as file:
                self.connection.sendfile(file)
        else:
            self._answer(self.server.batch(batch_id, "ended", count))

    def do_POST(self) -> None:
        left = int(self.headers["content-length"])
        with Path(self.server.received if self.path == BATCHES else os.devnull).open("wb") as file:
            while left:
                left -= file.write(self.rfile.read(min(left, 1 << 18)))
        token_count = {"input_tokens": 400}
        self._answer(self.server.batch("msgbatch_new", "in_progress", 0) if self.path == BATCHES else token_count)

    def _answer(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self._head(len(body), "application/json")
        self.wfile.write(body)

    def _head(self, length: int, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(length))
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Write no access log."""


@contextmanager
def serving(api: LoopbackAPI) -> Iterator[LoopbackAPI]:
    """Serve calls in threads of this process, which is not measured."""
    thread = threading.Thread(target=api.serve_forever)
    thread.start()
    try:
        yield api
    finally:
        api.shutdown()
        thread.join()
        api.server_close()


def run(role: str, python: str | Path, home: Path, url: str, **options: Any) -> Cost:
    """Run a role of ``bulk_role.py`` against the API at ``url``, in a process of its own."""
    return _measure([str(python), str(ROLE)], role, home, url, options)


def run_submission(role: str, home: Path, url: str, **options: Any) -> Cost:
    """Run a role of ``submission_role.py``, which needs this package's environment."""
    return _measure(own_module("submission_role"), role, home, url, options)


def run_rows(role: str, home: Path, url: str = "", **options: Any) -> Cost:
    """Run a role of ``rows_role.py``, which needs this package's environment, and most of them a database."""
    return _measure(own_module("rows_role"), role, home, url, options)


def run_answers(role: str, home: Path, **options: Any) -> Cost:
    """Run a role of ``answers_role.py``, which needs this package's environment."""
    return _measure(own_module("answers_role"), role, home, "", options)


def run_large_results(role: str, home: Path, **options: Any) -> Cost:
    """Run a role of ``large_results_role.py``, which needs this package's environment."""
    return _measure(own_module("large_results_role"), role, home, "", options)


def own_module(name: str) -> list[str]:
    """Return the command that runs a module of this folder. An installed wheel comes before the checkout's package."""
    root = str(Path(__file__).parents[1])
    program = f"import sys; sys.path.append({root!r}); from benchmarks.{name} import main; main()"
    return [sys.executable, "-P", "-c", program]


def _measure(command: list[str], role: str, home: Path, url: str, options: Mapping[str, Any]) -> Cost:
    connection = json.dumps({"conn_type": "anthropic", "password": KEY, "host": url})
    environment = os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CONN_ANTHROPIC_DEFAULT": connection,
        "AIRFLOW_CONN_CLAUDE_DEFAULT": connection,
        "NO_PROXY": "127.0.0.1",
    }
    arguments = [role, json.dumps({"url": url, **options})]
    done = subprocess.run([*command, *arguments], env=environment, stdout=subprocess.PIPE, check=True)
    return Cost(**json.loads(done.stdout))
