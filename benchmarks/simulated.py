"""The simulator in a process of its own: what it takes is not what is measured."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.bulk import KEY


@dataclass(frozen=True)
class Simulator:
    """A running one."""

    url: str

    def call(self, method: str, path: str, body: bytes | None = None) -> Any:
        """Call the API, or the control surface."""
        request = urllib.request.Request(f"{self.url}{path}", body, method=method)
        request.add_header("authorization", f"Bearer {KEY}")
        request.add_header("anthropic-version", "2026-10-21")
        request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def books(self) -> dict[str, Any]:
        """What was created there, and what would have been billed."""
        return dict(self.call("GET", "/_simulator/books?detail=false"))


@contextmanager
def simulator(*options: str) -> Iterator[Simulator]:
    """Start one on a free port, and stop it."""
    command = [sys.executable, "-m", "airflow_claude_batch.simulator", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Simulator(process.stdout.readline().split()[-1])
        finally:
            process.terminate()
