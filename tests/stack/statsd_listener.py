"""A StatsD server that adds up the metrics of this package."""

from __future__ import annotations

import re
import socket
from collections import Counter

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

    @property
    def settings(self) -> dict[str, str]:
        """Airflow's settings that send its metrics here."""
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self.port),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        }

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
