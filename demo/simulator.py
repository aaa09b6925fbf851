"""The bundled simulator of the API, in a process of its own."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from demo.airflow_api import wait_for
from demo.errors import DemoError
from demo.loopback import LOOPBACK
from demo.processes import ChildProcess

KEY = "sk-ant-simulated"
START_SECONDS = 240
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


@dataclass(frozen=True, slots=True)
class SimulatorProcess:
    """A running simulator and its control endpoints."""

    process: ChildProcess
    url: str

    @classmethod
    def start(
        cls,
        home: Path,
        *,
        batch_seconds: float,
        name: str = "simulator",
        program: Sequence[str] = ("-m", "airflow_claude_batch.simulator"),
    ) -> SimulatorProcess:
        """Start a simulator on a free port.

        :param program: the program that Python runs. It takes the simulator's options.
        :raises DemoError: when it did not start. The message contains the end of its output.
        """
        log = home / "logs" / f"{name}.log"
        log.unlink(missing_ok=True)
        command = [sys.executable, *program, "--port", "0", "--batch-seconds", str(batch_seconds)]
        process = ChildProcess.start(name, command, env=os.environ, cwd=home, log_path=log)

        def address() -> str | None:
            if process.exit_code is not None:
                raise DemoError(f"The simulator stopped unexpectedly. The end of {log}:\n{process.tail()}")
            found = ADDRESS.search(log.read_text())
            return found.group() if found else None

        return cls(process, wait_for(address, seconds=START_SECONDS, what="the simulator to listen"))

    def books(self, *, detail: bool = False) -> dict[str, Any]:
        """Return what was created and what the API would have billed. ``detail`` includes every request."""
        return dict(self._control("GET", f"books?detail={str(detail).lower()}"))

    def outage(self, kind: str, seconds: float) -> None:
        """Let every call fail for some seconds: ``refuse``, ``hang``, ``html`` or ``status:529``."""
        self._control("POST", "outage", {"kind": kind, "seconds": seconds})

    def canceled_batch_ids(self) -> list[str]:
        """List the batches with a cancel call, of the newest 1,000."""
        headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
        address = f"{self.url}/v1/messages/batches?limit=1000"
        page = httpx.get(address, headers=headers, timeout=120, **LOOPBACK).raise_for_status().json()
        return [batch["id"] for batch in page["data"] if batch["cancel_initiated_at"]]

    def pace(self, batch_seconds: float) -> None:
        """Change how long batches take, including batches in progress."""
        self._control("POST", "pace", {"batch_seconds": batch_seconds})

    def end(self, batch_id: str) -> None:
        """End one batch now, with every request answered."""
        self._control("POST", f"batches/{batch_id}/end")

    def inject(self, **fault: Any) -> None:
        """Inject a fault (see `airflow_claude_batch.simulator.Fault`)."""
        self._control("POST", "faults", fault)

    def _control(self, method: str, action: str, body: dict[str, Any] | None = None) -> Any:
        address = f"{self.url}/_simulator/{action}"
        response = httpx.request(method, address, json=body, timeout=120, **LOOPBACK)
        return response.raise_for_status().json()
