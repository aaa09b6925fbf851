"""The fault scenarios, and how one task runs through one of them: its processes and the simulator's books."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from airflow_claude_batch.simulator import Fault, Simulator

ATTEMPT = Path(__file__).with_name("attempt.py")
KEY = "sk-peers"
PROMPTS = [f"What is {n} times {n}?" for n in range(20)]
BATCH_SECONDS = 20.0
TIMEOUT_SECONDS = 900.0

#: Longer than five polls of 30 s each, after which both of Apache's triggers end their wait.
OUTAGE_SECONDS = 200.0


@dataclass(frozen=True)
class Scenario:
    """One fault.

    :param kill: when the process is killed (SIGKILL): before the response to the create call, or while it waits.
    :param outage: whether reading batches fails with 503 for a while, when the task waits.
    """

    title: str
    faults: tuple[Fault, ...] = ()
    kill: Literal["in_create", "waiting"] | None = None
    outage: bool = False


SCENARIOS = {
    "outage": Scenario(
        "reading batches fails with 503 for 200 s, polled every 30 s, while the batch runs", outage=True
    ),
    "lost_answer": Scenario(
        "the response to the create call is lost once",
        (Fault(do="drop_after_accept", on="create"),),
    ),
    "orphaned": Scenario(
        "the responses to three create calls in a row are lost; the task is retried if it fails",
        (Fault(do="drop_after_accept", on="create", times=3),),
    ),
    "killed_in_create": Scenario(
        "the worker is killed between the create call and its response; the task is retried",
        (Fault(do="slow", on="create", seconds=TIMEOUT_SECONDS),),
        kill="in_create",
    ),
    "killed_waiting": Scenario(
        "the worker is killed while it waits for its batch; the task is retried", kill="waiting"
    ),
}


@dataclass(frozen=True)
class Bill:
    """The outcome of one task.

    :param billed: requests that the simulator billed.
    :param orphaned: batches whose id is not in the task's output. All of them, if the task failed.
    :param canceled: batches that were canceled.
    :param ended: the task's state.
    """

    sent: int
    billed: int
    batches: int
    orphaned: int
    canceled: int
    ended: str
    tries: int

    @property
    def paid_once(self) -> bool:
        """Tell whether every request was answered and paid for once."""
        return (self.billed, self.orphaned, self.canceled, self.ended) == (self.sent, 0, 0, "success")


def run(peer: str, python: str | Path, scenario: Scenario, home: Path) -> Bill:
    """Run one package through the scenario."""
    simulator = Simulator(keys={KEY: "wrkspc_peers"}, batch_seconds=3600.0 if scenario.outage else BATCH_SECONDS)
    simulator.inject(*scenario.faults)
    (home / "dags").mkdir(parents=True)
    with simulator.serve() as server:

        def start(number: int) -> Iterator[Any]:
            options = {"home": str(home), "url": server.url, "prompts": PROMPTS, "deferrable": scenario.outage}
            return process(peer, python, number, options)

        with start(1) as first:
            disturb(scenario, simulator, first)
        if scenario.kill:
            simulator.clear_faults()
            with start(2) as second:
                finish(second)
        simulator.pace(0.0)
        books = simulator.books()
    report = json.loads((home / "report.json").read_bytes())
    return bill(books, simulator.calls(), report)


def disturb(scenario: Scenario, simulator: Simulator, first: subprocess.Popen[bytes]) -> None:
    """Inject the scenario's fault into the first process."""
    if scenario.kill == "in_create":
        wait_until(lambda: simulator.books()["batches"], first)
        kill(first)
    elif scenario.kill == "waiting":
        wait_until(lambda: polls(simulator), first)
        time.sleep(1.0)  # until it has read the response, so that it is killed while it waits
        kill(first)
    elif scenario.outage:
        wait_until(lambda: polls(simulator), first)
        simulator.inject(*(Fault(do="status", on=on, status=503, times=None) for on in ("retrieve", "list")))
        time.sleep(OUTAGE_SECONDS)
        simulator.clear_faults()
        simulator.pace(BATCH_SECONDS)
        finish(first)
    else:
        finish(first)


def polls(simulator: Simulator) -> int:
    """Count the polls after the batch was created."""
    return simulator.calls().get("retrieve", 0) if simulator.books(detail=False)["batches"] else 0


def bill(books: dict[str, Any], calls: dict[str, int], report: dict[str, Any]) -> Bill:
    """Read the outcome from the simulator's books."""
    created = {batch["id"] for batch in books["batches"]}
    assert created, "nothing was sent"
    assert all(batch["processing_status"] == "ended" for batch in books["batches"])
    outcomes = {batch["id"]: {request["outcome"] for request in batch["requests"]} for batch in books["batches"]}
    return Bill(
        sent=len(PROMPTS),
        billed=books["billed_requests"],
        batches=len(created),
        orphaned=len(created - set(report["batch_ids"])),
        canceled=sum("canceled" in each for each in outcomes.values()),
        ended=report["ended"],
        tries=report["tries"],
    )


@contextmanager
def process(peer: str, python: str | Path, number: int, options: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process of the task. Kill it at the end of the block if it still runs."""
    home = Path(options["home"])
    with (home / f"try-{number}.log").open("wb") as log:
        command = [python, "-W", "ignore", ATTEMPT, peer, str(number), json.dumps(options)]
        with subprocess.Popen(command, env=environment(home, options["url"]), stdout=log, stderr=log) as started:
            try:
                yield started
            finally:
                started.kill()


def environment(home: Path, url: str) -> dict[str, str]:
    """Build the environment of a separate Airflow, with a connection for each package."""

    def connection(kind: str) -> str:
        return json.dumps({"conn_type": kind, "password": KEY, "host": url})

    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "ANTHROPIC_"))}
    return inherited | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CLAUDE_BATCH__LOST_CREATE_GRACE": "120",  # the simulator lists a batch at once
        "AIRFLOW_CONN_CLAUDE_DEFAULT": connection("claude"),
        "AIRFLOW_CONN_ANTHROPIC_DEFAULT": connection("anthropic"),
        "AIRFLOW_CONN_PYDANTICAI_DEFAULT": connection("pydanticai"),
        "NO_PROXY": "127.0.0.1",
    }


def finish(started: subprocess.Popen[bytes]) -> None:
    """Wait for the process to end."""
    assert started.wait(TIMEOUT_SECONDS) == 0, (
        f"The process failed with exit code {started.returncode}. Its log says why."
    )


def kill(started: subprocess.Popen[bytes]) -> None:
    """Kill the process, as the kernel does when memory is short."""
    started.kill()
    assert started.wait() == -signal.SIGKILL


def wait_until(condition: Callable[[], Any], started: subprocess.Popen[bytes]) -> None:
    """Wait until the running process has caused the condition."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert started.poll() is None, f"The process ended early with exit code {started.returncode}. Its log says why."
        assert time.monotonic() < deadline
        time.sleep(0.05)


def interpreters(peers: Path) -> dict[str, str | Path]:
    """Return the compared packages, each with its Python."""
    return {"ours": sys.executable, "official": peers, "common_ai": peers, "steadybatch": peers}
