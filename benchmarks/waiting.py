"""What a thousand deferred tasks cost: our trigger beside that of apache-airflow-providers-anthropic.

Each runs on one event loop in a process of its own, against the simulator in a third process; only the process with
the loop is measured. Time is real and the interval is 10 s, since a compressed one would charge the official trigger
for polls that it never makes. Needs Linux; takes about six minutes. ``make bench`` runs it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from peers import install_peers

HERE = Path(__file__).parent
LATENCY_SECONDS = 0.05
INTERVAL_SECONDS = 10.0
INTERVALS = 3
KEY = "sk-benchmark"
BODY = json.dumps(
    {
        "requests": [
            {
                "custom_id": "r0",
                "params": {
                    "model": "claude-opus-5-5",
                    "max_tokens": 16,
                    "messages": [{"role": "user", "content": "Hello"}],
                },
            }
        ]
    }
).encode()


@dataclass(frozen=True)
class Cost:
    """What waiting cost; ``per interval`` is per 10 s."""

    tasks: int
    calls: float
    cpu_seconds: float
    bytes_per_task: float
    lag_seconds: float
    turn_seconds: float
    latest_intervals: float


class Simulator:
    """The simulator in a process of its own."""

    def __init__(self, url: str) -> None:
        self.url = url

    def call(self, method: str, path: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(f"{self.url}{path}", body, method=method)
        request.add_header("authorization", f"Bearer {KEY}")
        request.add_header("anthropic-version", "2026-10-21")
        request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def create(self, count: int) -> list[str]:
        with ThreadPoolExecutor(16) as pool:
            batches = pool.map(lambda _: self.call("POST", "/v1/messages/batches", BODY), range(count))
            return [batch["id"] for batch in batches]

    def looks(self) -> int:
        calls = self.call("GET", "/_simulator/requests-log")
        return int(calls["retrieve"] + calls["list"])

    def end_all(self) -> dict[str, float]:
        """Let the batches end one after the other, as they were created, from now on; return when each will."""
        entries = self.call("GET", "/_simulator/books?detail=false")["batches"]
        created = {entry["id"]: datetime.fromisoformat(entry["created_at"]).timestamp() for entry in entries}
        pace = time.time() + 1.0 - min(created.values())
        self.call("POST", "/_simulator/pace", json.dumps({"batch_seconds": pace}).encode())
        return {batch_id: at + pace for batch_id, at in created.items()}


@contextmanager
def simulator() -> Iterator[Simulator]:
    """Start the simulator, and stop it."""
    command = [sys.executable, "-m", "airflow_claude_batch.simulator", "--port", "0"]
    command += ["--latency", str(LATENCY_SECONDS), "--batch-seconds", "80000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Simulator(process.stdout.readline().split()[-1])
        finally:
            process.terminate()


class Loop:
    """The measured process; see ``waiting_loop.py``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, count: int) -> None:
        self._tell(f"start {count}")

    def watch(self) -> None:
        self._tell("watch")

    def mark(self) -> dict[str, Any]:
        self._tell("mark")
        return json.loads(self._process.stdout.readline())

    def _tell(self, command: str) -> None:
        print(command, file=self._process.stdin, flush=True)


@contextmanager
def loop(role: str, python: Path, url: str, batch_ids: list[str]) -> Iterator[Loop]:
    """Start a measured process, and stop it."""
    connection = json.dumps({"conn_type": "anthropic", "password": KEY, "host": url})
    with tempfile.TemporaryDirectory() as home:
        ids = Path(home, "ids.json")
        ids.write_text(json.dumps(batch_ids))
        environment = os.environ | {
            "AIRFLOW_HOME": home,
            "AIRFLOW_CONN_ANTHROPIC_DEFAULT": connection,
            "AIRFLOW_CONN_CLAUDE_DEFAULT": connection,
        }
        command = [str(python), str(HERE / "waiting_loop.py"), role, str(INTERVAL_SECONDS), str(ids)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
            try:
                yield Loop(process)
            finally:
                process.terminate()


def measure(role: str, python: Path, tasks: int) -> Cost:
    """Run one role from the first look to the last event."""
    with simulator() as server:
        print(f"{role}: {tasks} tasks ...", file=sys.stderr, flush=True)
        batch_ids = server.create(tasks)
        with loop(role, python, server.url, batch_ids) as running:
            running.start(1)
            wait_until(lambda: server.looks() > 0)
            time.sleep(2)
            alone = running.mark()
            running.start(tasks - 1)
            settle(role, server, tasks)
            begin, looks = running.mark(), server.looks()
            time.sleep(INTERVALS * INTERVAL_SECONDS)
            end, more_looks = running.mark(), server.looks()
            running.watch()
            time.sleep(INTERVALS * INTERVAL_SECONDS)
            lagged = running.mark()
            ends = server.end_all()
            time.sleep(max(ends.values()) - time.time())
            last = wait_until(lambda: (mark := running.mark())["waiting"] == 0 and mark, pause=1.0)
    late = max(last["fired"][batch_id] - at for batch_id, at in ends.items())
    return Cost(
        tasks,
        calls=(more_looks - looks) / INTERVALS,
        cpu_seconds=(end["cpu"] - begin["cpu"]) / INTERVALS,
        bytes_per_task=(end["rss"] - alone["rss"]) / (tasks - 1),
        lag_seconds=lagged["lag"],
        turn_seconds=lagged["turn"],
        latest_intervals=late / INTERVAL_SECONDS,
    )


def settle(role: str, server: Simulator, tasks: int) -> None:
    """Wait until every trigger has made its client and its first polls are over."""
    if role == "official":
        wait_until(lambda: server.looks() > 2 * tasks, pause=1.0)
    else:
        time.sleep(2 * INTERVAL_SECONDS)


def wait_until(come_true: Any, *, pause: float = 0.1, seconds: float = 900.0) -> Any:
    """Return the first true value."""
    until = time.monotonic() + seconds
    while not (value := come_true()):
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(pause)
    return value


ROWS = (
    ("API calls per interval", "calls", 1, "{:.1f}"),
    ("CPU per interval, ms", "cpu_seconds", 1000, "{:.1f}"),
    ("memory per waiting task, KB", "bytes_per_task", 1 / 1024, "{:.1f}"),
    ("worst loop lag, ms", "lag_seconds", 1000, "{:.1f}"),
    ("longest turn of the loop, CPU ms", "turn_seconds", 1000, "{:.1f}"),
    ("latest fire, intervals after its end", "latest_intervals", 1, "{:.2f}"),
)


def report(costs: dict[str, Cost]) -> None:
    """Print a column for each run."""
    print(f"Interval {INTERVAL_SECONDS:.0f} s, latency {LATENCY_SECONDS * 1000:.0f} ms, {os.cpu_count()} cores")
    print(f"{'':38}" + "".join(f"{name:>18}" for name in costs))
    for title, field, factor, form in ROWS:
        figures = [form.format(getattr(cost, field) * factor) for cost in costs.values()]
        print(f"{title:38}" + "".join(f"{figure:>18}" for figure in figures))


def ratios(one: Cost, other: Cost) -> None:
    """Print how many times more the official trigger takes."""
    for title, field, _, _ in ROWS[:3]:
        print(f"{title.split(',')[0]}: official / ours = {getattr(other, field) / getattr(one, field):.0f}")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--many", type=int, default=10_000, help="a second run of ours; 0 for none")
    parser.add_argument("--ours-only", action="store_true")
    options = parser.parse_args()
    costs = {f"ours, {options.tasks}": measure("ours", Path(sys.executable), options.tasks)}
    if options.many:
        costs[f"ours, {options.many}"] = measure("ours", Path(sys.executable), options.many)
    if not options.ours_only:
        costs[f"official, {options.tasks}"] = measure("official", install_peers(), options.tasks)
    report(costs)
    if not options.ours_only:
        ratios(costs[f"ours, {options.tasks}"], costs[f"official, {options.tasks}"])


if __name__ == "__main__":
    main()
