"""What a thousand deferred tasks cost: our trigger beside those of Apache's two providers.

Each runs on one event loop in a process of its own, against the simulator in a third process; only the process with
the loop is measured. Time is real and the interval is 10 s, since a compressed one would charge the peers for
polls that they never make.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.bulk import KEY
from benchmarks.figures import COMMON_AI, OFFICIAL, Figure, ParsedResult, Scope
from benchmarks.peers import install_peers
from benchmarks.simulated import Simulator, simulator

HERE = Path(__file__).parent
LATENCY_SECONDS = 0.05
INTERVAL_SECONDS = 10.0
INTERVALS = 3
MOST_LAG_MILLISECONDS = 50
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
    """What waiting cost; calls and CPU are per interval."""

    calls: float
    cpu_seconds: float
    bytes_per_task: float
    lag_seconds: float
    turn_seconds: float
    idle_lag_seconds: float
    latest_intervals: float


def create(server: Simulator, count: int) -> list[str]:
    """Create so many batches of one request."""
    with ThreadPoolExecutor(16) as pool:
        batches = pool.map(lambda _: server.call("POST", "/v1/messages/batches", BODY), range(count))
        return [batch["id"] for batch in batches]


def looks(server: Simulator) -> int:
    """Count the calls that asked how batches are."""
    calls = server.call("GET", "/_simulator/requests-log")
    return int(calls["retrieve"] + calls["list"])


def end_all(server: Simulator) -> dict[str, float]:
    """Let the batches end one after the other, as they were created, from now on; return when each will."""
    entries = server.books()["batches"]
    created = {entry["id"]: datetime.fromisoformat(entry["created_at"]).timestamp() for entry in entries}
    pace = time.time() + 1.0 - min(created.values())
    server.call("POST", "/_simulator/pace", json.dumps({"batch_seconds": pace}).encode())
    return {batch_id: at + pace for batch_id, at in created.items()}


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
            "AIRFLOW_CONN_PYDANTICAI_DEFAULT": json.dumps(
                {"conn_type": "pydanticai", "password": KEY, "host": url},
            ),
        }
        command = [str(python), str(HERE / "waiting_loop.py"), role, str(INTERVAL_SECONDS), str(ids)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
            try:
                yield Loop(process)
            finally:
                process.terminate()


def wait_with(role: str, python: Path, tasks: int) -> Cost:
    """Run one role from the first look to the last event."""
    with simulator("--latency", str(LATENCY_SECONDS), "--batch-seconds", "80000") as server:
        print(f"{role}: {tasks} tasks ...", file=sys.stderr, flush=True)
        batch_ids = create(server, tasks)
        with loop(role, python, server.url, batch_ids) as running:
            running.start(1)
            wait_until(lambda: looks(server) > 0)
            time.sleep(2)
            alone = running.mark()
            running.start(tasks - 1)
            archive_landed(role, server, tasks)
            begin, before = running.mark(), looks(server)
            time.sleep(INTERVALS * INTERVAL_SECONDS)
            end, after = running.mark(), looks(server)
            lagged, idle_lag = lag(running, server.url)
            ends = end_all(server)
            time.sleep(max(ends.values()) - time.time())
            last = wait_until(lambda: (mark := running.mark())["waiting"] == 0 and mark, pause=1.0)
    assert last["fired"].keys() == set(batch_ids), "not every task fired"
    assert last["wrong"] == [], f"events that do not say that the batch ended: {last['wrong']}"
    late = max(last["fired"][batch_id] - at for batch_id, at in ends.items())
    return Cost(
        calls=(after - before) / INTERVALS,
        cpu_seconds=(end["cpu"] - begin["cpu"]) / INTERVALS,
        bytes_per_task=(end["rss"] - alone["rss"]) / (tasks - 1),
        lag_seconds=lagged["lag"],
        turn_seconds=lagged["turn"],
        idle_lag_seconds=idle_lag,
        latest_intervals=late / INTERVAL_SECONDS,
    )


def lag(running: Loop, url: str) -> tuple[dict[str, Any], float]:
    """Watch the loop's lag, and that of an empty loop in another process: what the machine itself makes late."""
    with loop("ours", Path(sys.executable), url, ["none"]) as idle:
        idle.mark()
        for each in (running, idle):
            each.watch()
        time.sleep(INTERVALS * INTERVAL_SECONDS)
        return running.mark(), float(idle.mark()["lag"])


def archive_landed(role: str, server: Simulator, tasks: int) -> None:
    """Wait until every trigger has made its client and its first polls are over."""
    if role in ROLES.values():
        wait_until(lambda: looks(server) > 2 * tasks, pause=1.0)
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


def measure(scope: Scope) -> ParsedResult:
    """Wait with each, and with ours for ten times as many."""
    tasks, many = max(scope.of(TASKS), 2), max(scope.of(MANY), 2)
    ours = wait_with("ours", Path(sys.executable), tasks)
    peers = {} if scope.ours_only else {name: wait_with(role, install_peers(), tasks) for name, role in ROLES.items()}
    more = wait_with("ours", Path(sys.executable), many)
    return ParsedResult(
        f"{tasks:,} deferred triggers on one event loop, an interval of {INTERVAL_SECONDS:.0f} s, a latency of "
        f"{LATENCY_SECONDS * 1000:.0f} ms, each in a process of its own against the simulator; the figures are over "
        f"{INTERVALS} intervals. Checked: every trigger fired once, and said that its batch has ended.",
        (*figures(ours, peers, tasks), *figures_of_many(more, many)),
    )


def figures(ours: Cost, peers: dict[str, Cost], tasks: int) -> tuple[Figure, ...]:
    """Say what waiting cost."""

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
    """Say what waiting for many more cost."""
    return (
        Figure(f"API calls per interval, {tasks:,} tasks", "", cost.calls).at_most(11),
        lag_figure(f"worst lag of the event loop, {tasks:,} tasks", cost, {}),
        Figure(f"worst lag of an empty loop meanwhile, {tasks:,} tasks", "ms", cost.idle_lag_seconds * 1e3),
        Figure(f"longest turn of the event loop, CPU, {tasks:,} tasks", "ms", cost.turn_seconds * 1e3),
        Figure(f"memory per waiting task, {tasks:,} tasks", "KB", cost.bytes_per_task / 1024).at_most(10),
    )


def lag_figure(what: str, cost: Cost, peers: dict[str, float]) -> Figure:
    """Judge the lag, unless the machine is so busy that an empty loop would not do."""
    figure = Figure(what, "ms", cost.lag_seconds * 1e3, peers).at_most(MOST_LAG_MILLISECONDS)
    if cost.idle_lag_seconds * 1e3 <= MOST_LAG_MILLISECONDS:
        return figure
    return replace(figure, bound=f"{figure.bound}; no verdict: an empty loop exceeds it", met=None)
