"""Starts the simulator in a process of its own, which is not measured."""

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
    """A running simulator."""

    url: str

    def call(self, method: str, path: str, body: bytes | None = None) -> Any:
        """Call the API or the simulator's control endpoints, and decode the response."""
        request = urllib.request.Request(f"{self.url}{path}", body, method=method)
        request.add_header("authorization", f"Bearer {KEY}")
        request.add_header("anthropic-version", "2026-10-21")
        request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.load(response)

    def books(self) -> dict[str, Any]:
        """Return what was created, and what the API would have billed."""
        return dict(self.call("GET", "/_simulator/books?detail=false"))


@contextmanager
def simulator(*options: str) -> Iterator[Simulator]:
    """Run a simulator on a free port until the end of the block."""
    command = [sys.executable, "-m", "airflow_claude_batch.simulator", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Simulator(process.stdout.readline().split()[-1])
        finally:
            process.terminate()
