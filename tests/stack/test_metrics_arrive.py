"""Metrics that a StatsD server receives from a real worker and a real triggerer."""

from __future__ import annotations

import re
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow_stack import running_stack

from demo.airflow_api import wait_for

pytestmark = pytest.mark.stack

#: name, tags as InfluxDB's StatsD writes them, value, kind
LINE = re.compile(r"airflow\.claude_batch\.(\w+)((?:,\w+=[\w.-]+)*):([\d.]+)\|(c|ms)")


class StatsdListener:
    """Receives metrics on its own port, and adds them up."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.received: Counter[str] = Counter()
        self.invalid: list[str] = []

    @property
    def port(self) -> int:
        port: int = self.socket.getsockname()[1]
        return port

    def listen(self) -> Counter[str]:
        while True:
            try:
                datagram = self.socket.recv(65_536).decode()
            except BlockingIOError:
                return self.received
            for line in datagram.split("\n"):
                self._add(line)

    def _add(self, line: str) -> None:
        if match := LINE.fullmatch(line):
            name, tags, value, kind = match.groups()
            self.received[name + tags] += int(float(value)) if kind == "c" else 1
        elif "claude_batch" in line:
            self.invalid.append(line)


@pytest.fixture
def statsd() -> Iterator[StatsdListener]:
    listener = StatsdListener()
    yield listener
    listener.socket.close()


def test_metrics_of_workers_and_of_the_triggerer_arrive(tmp_path: Path, statsd: StatsdListener) -> None:
    settings = {
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(statsd.port),
        "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
    }
    with running_stack(tmp_path, Path(sys.prefix), **settings) as stack:
        run_id = stack.trigger()
        stack.wait_for_task(run_id, "wait", "deferred")
        stack.simulator.inject(do="status", on="retrieve", status=500, times=2)
        wait_for(
            lambda: statsd.listen()["poll_errors,error=ServerError"] == 2, seconds=120, what="the failed polls' metric"
        )
        stack.simulator.pace(0)
        rows = stack.wait_for_success(run_id)
        received = statsd.listen()

    model = rows[0].model
    assert received[f"requests,model={model}"] == received[f"rows,outcome=succeeded,model={model}"] == len(rows) > 200
    assert received["submissions,status=in_progress"] == received["submissions,status=ended"] == 1
    assert received[f"tokens,kind=output,model={model}"] == sum(row.usage["output_tokens"] for row in rows if row.usage)
    assert received[f"cost_microusd,model={model}"] > 0
    assert received["queue_time"] == received["turnaround"] == 1
    assert statsd.invalid == []
