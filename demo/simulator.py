"""The bundled simulator of the API, as a process of its own."""

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
from demo.processes import ChildProcess

KEY = "sk-ant-simulated"
START_SECONDS = 60
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


@dataclass(frozen=True, slots=True)
class SimulatorProcess:
    """A running simulator and its control surface."""

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
        """Start one on a free port.

        :param program: what Python is to run; it takes the simulator's options.
        :raises DemoError: it did not come up; shows the end of its output.
        """
        log = home / "logs" / f"{name}.log"
        log.unlink(missing_ok=True)
        command = [sys.executable, *program, "--port", "0", "--batch-seconds", str(batch_seconds)]
        process = ChildProcess.start(name, command, env=os.environ, cwd=home, log_path=log)

        def address() -> str | None:
            if process.exit_code is not None:
                raise DemoError(f"The simulator ended by itself. The end of {log}:\n{process.tail()}")
            found = ADDRESS.search(log.read_text())
            return found.group() if found else None

        return cls(process, wait_for(address, seconds=START_SECONDS, what="the simulator to listen"))

    def books(self, *, detail: bool = False) -> dict[str, Any]:
        """What was created there, and what would have been billed; with every request if ``detail``."""
        return dict(self._control("GET", f"books?detail={str(detail).lower()}"))

    def outage(self, kind: str, seconds: float) -> None:
        """Be out of order for a while: ``refuse``, ``hang``, ``html`` or ``status:529``."""
        self._control("POST", "outage", {"kind": kind, "seconds": seconds})

    def canceled_batch_ids(self) -> list[str]:
        """The batches that somebody asked to cancel, as the API lists them; newest 1,000."""
        headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
        address = f"{self.url}/v1/messages/batches?limit=1000"
        answer = httpx.get(address, headers=headers, timeout=30, trust_env=False).raise_for_status().json()
        return [batch["id"] for batch in answer["data"] if batch["cancel_initiated_at"]]

    def pace(self, batch_seconds: float) -> None:
        """Change how long batches take, those under way included."""
        self._control("POST", "pace", {"batch_seconds": batch_seconds})

    def end(self, batch_id: str) -> None:
        """Have one batch end now, with every request answered."""
        self._control("POST", f"batches/{batch_id}/end")

    def inject(self, **fault: Any) -> None:
        """Have something go wrong on a coming call."""
        self._control("POST", "faults", fault)

    def _control(self, method: str, lever: str, body: dict[str, Any] | None = None) -> Any:
        address = f"{self.url}/_simulator/{lever}"
        response = httpx.request(method, address, json=body, timeout=120, trust_env=False)
        return response.raise_for_status().json()
