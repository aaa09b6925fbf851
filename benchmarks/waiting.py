"""Measure what a thousand deferred tasks cost: our trigger beside those of Apache's two providers.

Each runs on one event loop in a process of its own, against the simulator in a third process. Only the process with
the loop is measured. Time is real and the interval is 10 s, because a shorter one would charge the peers for polls
that they never make.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.bulk import KEY
from benchmarks.figures import COMMON_AI, OFFICIAL, BenchmarkResult, Figure, Scope
from benchmarks.peers import install_peers
from benchmarks.simulated import Simulator, simulator

T = TypeVar("T")

HERE = Path(__file__).parent
LATENCY_SECONDS = 0.05
INTERVAL_SECONDS = 10.0
INTERVALS = 3
MAX_LAG_MILLISECONDS = 50
TASKS, MANY = 1_000, 10_000
ROLES = {OFFICIAL: "official", COMMON_AI: "common_ai"}
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
    """The cost of waiting. Calls and CPU are per interval."""

    calls: float
    cpu_seconds: float
    bytes_per_task: float
    lag_seconds: float
    turn_seconds: float
    idle_lag_seconds: float
    latest_intervals: float


def create(server: Simulator, count: int) -> list[str]:
    """Create message batches of one request each."""
    with ThreadPoolExecutor(16) as pool:
        batches = pool.map(lambda _: server.call("POST", "/v1/messages/batches", BODY), range(count))
        return [batch["id"] for batch in batches]


def poll_count(server: Simulator) -> int:
    """Count the calls that polled batches."""
    calls = server.call("GET", "/_simulator/requests-log")
    return int(calls["retrieve"] + calls["list"])


def end_all(server: Simulator) -> dict[str, float]:
    """Let the batches end one after the other in the order of their creation; return when each will end."""
    entries = server.books()["batches"]
    created = {entry["id"]: datetime.fromisoformat(entry["created_at"]).timestamp() for entry in entries}
    pace = time.time() + 1.0 - min(created.values())
    server.call("POST", "/_simulator/pace", json.dumps({"batch_seconds": pace}).encode())
    return {batch_id: at + pace for batch_id, at in created.items()}


class MeasuredProcess:
    """The measured process, which runs ``waiting_loop.py``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, count: int) -> None:
        self._send(f"start {count}")

    def watch(self) -> None:
        self._send("watch")

    def mark(self) -> dict[str, Any]:
        self._send("mark")
        return json.loads(self._process.stdout.readline())

    def _send(self, command: str) -> None:
        print(command, file=self._process.stdin, flush=True)


@contextmanager
def measured_process(role: str, python: Path, url: str, batch_ids: list[str]) -> Iterator[MeasuredProcess]:
    """Start a measured process, and stop it at the end."""
    connection = json.dumps({"conn_type": "anthropic", "password": KEY, "host": url})
    with tempfile.TemporaryDirectory() as home:
        ids = Path(home, "ids.json")
        ids.write_text(json.dumps(batch_ids))
        environment = os.environ | {
            "AIRFLOW_HOME": home,
            "AIRFLOW_CONN_ANTHROPIC_DEFAULT": connection,
            "AIRFLOW_CONN_CLAUDE_DEFAULT": connection,
            "AIRFLOW_CONN_PYDANTICAI_DEFAULT": json.dumps(
                {"conn_type": "pydanticai", "password": KEY, "host": url},
            ),
        }
        command = [str(python), str(HERE / "waiting_loop.py"), role, str(INTERVAL_SECONDS), str(ids)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
            try:
                yield MeasuredProcess(process)
            finally:
                process.terminate()


def wait_with(role: str, python: Path, tasks: int) -> Cost:
    """Run one role from the first poll to the last event."""
    with simulator("--latency", str(LATENCY_SECONDS), "--batch-seconds", "80000") as server:
        print(f"{role}: {tasks} tasks ...", file=sys.stderr, flush=True)
        batch_ids = create(server, tasks)
        with measured_process(role, python, server.url, batch_ids) as process:
            process.start(1)
            wait_until(lambda: poll_count(server) > 0)
            time.sleep(2)
            alone = process.mark()
            process.start(tasks - 1)
            wait_until_steady(role, server, tasks)
            start, polls_before = process.mark(), poll_count(server)
            time.sleep(INTERVALS * INTERVAL_SECONDS)
            end, polls_after = process.mark(), poll_count(server)
            lagged, idle_lag = lag(process, server.url)
            ends = end_all(server)
            time.sleep(max(ends.values()) - time.time())
            last = wait_until(lambda: (mark := process.mark())["waiting"] == 0 and mark, pause=1.0)
    assert last["fired"].keys() == set(batch_ids), "not every task fired"
    assert last["wrong"] == [], f"events other than the end of their batch: {last['wrong']}"
    late = max(last["fired"][batch_id] - at for batch_id, at in ends.items())
    return Cost(
        calls=(polls_after - polls_before) / INTERVALS,
        cpu_seconds=(end["cpu"] - start["cpu"]) / INTERVALS,
        bytes_per_task=(end["rss"] - alone["rss"]) / (tasks - 1),
        lag_seconds=lagged["lag"],
        turn_seconds=lagged["turn"],
        idle_lag_seconds=idle_lag,
        latest_intervals=late / INTERVAL_SECONDS,
    )


def lag(process: MeasuredProcess, url: str) -> tuple[dict[str, Any], float]:
    """Measure the loop's lag, and that of an empty loop in another process, which shows the machine's own delays."""
    with measured_process("ours", Path(sys.executable), url, ["none"]) as idle:
        idle.mark()
        for each in (process, idle):
            each.watch()
        time.sleep(INTERVALS * INTERVAL_SECONDS)
        return process.mark(), float(idle.mark()["lag"])


def wait_until_steady(role: str, server: Simulator, tasks: int) -> None:
    """Wait until every trigger has its client and its first polls are done."""
    if role in ROLES.values():
        wait_until(lambda: poll_count(server) > 2 * tasks, pause=1.0)
    else:
        time.sleep(2 * INTERVAL_SECONDS)


def wait_until(condition: Callable[[], T], *, pause: float = 0.1, seconds: float = 900.0) -> T:
    """Return the first true value of a condition.

    :raises TimeoutError: when there is none within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(pause)
    return value


def measure(scope: Scope) -> BenchmarkResult:
    """Wait with each trigger, and with ours for ten times as many tasks."""
    tasks, many = max(scope.of(TASKS), 2), max(scope.of(MANY), 2)
    ours = wait_with("ours", Path(sys.executable), tasks)
    peers = {} if scope.ours_only else {name: wait_with(role, install_peers(), tasks) for name, role in ROLES.items()}
    more = wait_with("ours", Path(sys.executable), many)
    return BenchmarkResult(
        f"{tasks:,} deferred triggers on one event loop, an interval of {INTERVAL_SECONDS:.0f} s, a latency of "
        f"{LATENCY_SECONDS * 1000:.0f} ms, each in a process of its own against the simulator; the figures are over "
        f"{INTERVALS} intervals. Checked: every trigger fired once, and said that its batch has ended.",
        (*figures(ours, peers, tasks), *figures_of_many(more, many)),
    )


def figures(ours: Cost, peers: dict[str, Cost], tasks: int) -> tuple[Figure, ...]:
    """Return the figures of waiting."""

    def line(what: str, unit: str, field: str, factor: float = 1) -> Figure:
        theirs = {name: getattr(peer, field) * factor for name, peer in peers.items()}
        return Figure(what, unit, getattr(ours, field) * factor, theirs)

    return (
        line(f"API calls per interval, {tasks:,} tasks", "", "calls").at_most(2),
        line("CPU per interval", "ms", "cpu_seconds", 1e3).within(1 / 50, OFFICIAL, "1/50 of"),
        line("memory per waiting task", "KB", "bytes_per_task", 1 / 1024).at_most(10),
        lag_figure("worst lag of the event loop", ours, {name: peer.lag_seconds * 1e3 for name, peer in peers.items()}),
        line("worst lag of an empty loop meanwhile", "ms", "idle_lag_seconds", 1e3),
        line("longest turn of the event loop, CPU", "ms", "turn_seconds", 1e3),
        line("latest fire after its batch's end", "intervals", "latest_intervals").at_most(1.5),
    )


def figures_of_many(cost: Cost, tasks: int) -> tuple[Figure, ...]:
    """Return the figures of waiting for many more tasks."""
    return (
        Figure(f"API calls per interval, {tasks:,} tasks", "", cost.calls).at_most(11),
        lag_figure(f"worst lag of the event loop, {tasks:,} tasks", cost, {}),
        Figure(f"worst lag of an empty loop meanwhile, {tasks:,} tasks", "ms", cost.idle_lag_seconds * 1e3),
        Figure(f"longest turn of the event loop, CPU, {tasks:,} tasks", "ms", cost.turn_seconds * 1e3),
        Figure(f"memory per waiting task, {tasks:,} tasks", "KB", cost.bytes_per_task / 1024).at_most(10),
    )


def lag_figure(what: str, cost: Cost, peers: dict[str, float]) -> Figure:
    """Return the figure of the lag. It is not judged on a machine where even an empty loop exceeds the limit."""
    figure = Figure(what, "ms", cost.lag_seconds * 1e3, peers).at_most(MAX_LAG_MILLISECONDS)
    if cost.idle_lag_seconds * 1e3 <= MAX_LAG_MILLISECONDS:
        return figure
    return replace(figure, bound=f"{figure.bound}; not judged: an empty loop exceeds it", met=None)
