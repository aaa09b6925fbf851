"""The bundled simulator of the API, started as a process of its own."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from demo.airflow_api import wait_for
from demo.errors import DemoError
from demo.processes import ChildProcess

KEY = "sk-ant-simulated"
BATCH_SECONDS = 20  # long enough to see the deferral
START_SECONDS = 60
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


def start_simulator(home: Path) -> tuple[ChildProcess, str]:
    """Start it on a free port; answers the process and the base URL that it listens on.

    :raises DemoError: it did not come up; shows the end of its output.
    """
    log = home / "logs" / "simulator.log"
    log.unlink(missing_ok=True)
    command = [sys.executable, "-m", "airflow_claude_batch.simulator", "--port", "0"]
    child = ChildProcess.start("simulator", command, env=os.environ, cwd=home, log_path=log)

    def address() -> str | None:
        if child.exit_code is not None:
            raise DemoError(f"The simulator ended by itself. The end of {log}:\n{child.tail()}")
        found = ADDRESS.search(log.read_text())
        return found.group() if found else None

    return child, wait_for(address, seconds=START_SECONDS, what="the simulator to listen")
