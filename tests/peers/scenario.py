"""What goes wrong, and the one task that it happens to: processes that are killed, and the simulator's books."""

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
PATIENCE_SECONDS = 900.0

#: Longer than five polls of 30 s each, after which both of Apache's triggers end their wait.
OUTAGE_SECONDS = 200.0


@dataclass(frozen=True)
class Scenario:
    """One thing that goes wrong.

    :param kill: when the process is killed (SIGKILL): before the answer to the create call is there, or once it waits.
    :param outage: whether reading batches fails with 503 for a while, once the task waits.
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
        "the answer to the create call is lost once",
        (Fault(do="drop_after_accept", on="create"),),
    ),
    "orphaned": Scenario(
        "the answers to three create calls in a row are lost; the task is retried if it fails",
        (Fault(do="drop_after_accept", on="create", times=3),),
    ),
    "killed_in_create": Scenario(
        "the worker dies between the create call and its answer; the task is retried",
        (Fault(do="slow", on="create", seconds=PATIENCE_SECONDS),),
        kill="in_create",
    ),
    "killed_waiting": Scenario("the worker dies while it waits for its batch; the task is retried", kill="waiting"),
}


@dataclass(frozen=True)
class Bill:
    """What one task came to.

    :param billed: requests, by the simulator's books.
    :param orphaned: batches whose id the task did not hand on; all of them if it failed.
    :param canceled: batches that were canceled.
    :param ended: the task's state.
    """

    asked: int
    billed: int
    batches: int
    orphaned: int
    canceled: int
    ended: str
    tries: int

    @property
    def kept(self) -> bool:
        """Whether all was answered and paid for once."""
        return (self.billed, self.orphaned, self.canceled, self.ended) == (self.asked, 0, 0, "success")


def run(peer: str, python: str | Path, scenario: Scenario, home: Path) -> Bill:
    """Let it happen to one peer."""
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
    """Do to the first process what the scenario says."""
    if scenario.kill == "in_create":
        wait_until(lambda: simulator.books()["batches"], first)
        kill(first)
    elif scenario.kill == "waiting":
        wait_until(lambda: looks(simulator), first)
        time.sleep(1.0)  # until it has read the answer: the kill is to strike while it waits
        kill(first)
    elif scenario.outage:
        wait_until(lambda: looks(simulator), first)
        simulator.inject(*(Fault(do="status", on=on, status=503, times=None) for on in ("retrieve", "list")))
        time.sleep(OUTAGE_SECONDS)
        simulator.clear_faults()
        simulator.pace(BATCH_SECONDS)
        finish(first)
    else:
        finish(first)


def looks(simulator: Simulator) -> int:
    """How often a batch was asked for, after it was made."""
    return simulator.calls().get("retrieve", 0) if simulator.books(detail=False)["batches"] else 0


def bill(books: dict[str, Any], calls: dict[str, int], report: dict[str, Any]) -> Bill:
    """Read the books."""
    made = {batch["id"] for batch in books["batches"]}
    assert made, "nothing was sent"
    assert all(batch["processing_status"] == "ended" for batch in books["batches"])
    outcomes = {batch["id"]: {request["outcome"] for request in batch["requests"]} for batch in books["batches"]}
    return Bill(
        asked=len(PROMPTS),
        billed=books["billed_requests"],
        batches=len(made),
        orphaned=len(made - set(report["batch_ids"])),
        canceled=sum("canceled" in each for each in outcomes.values()),
        ended=report["ended"],
        tries=report["tries"],
    )


@contextmanager
def process(peer: str, python: str | Path, number: int, options: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process of the task, and leave none behind."""
    home = Path(options["home"])
    with (home / f"try-{number}.log").open("wb") as log:
        command = [python, "-W", "ignore", ATTEMPT, peer, str(number), json.dumps(options)]
        with subprocess.Popen(command, env=environment(home, options["url"]), stdout=log, stderr=log) as started:
            try:
                yield started
            finally:
                started.kill()


def environment(home: Path, url: str) -> dict[str, str]:
    """An Airflow of its own, with a connection for each peer."""

    def connection(kind: str) -> str:
        return json.dumps({"conn_type": kind, "password": KEY, "host": url})

    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "ANTHROPIC_"))}
    return inherited | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_CLAUDE_DEFAULT": connection("claude"),
        "AIRFLOW_CONN_ANTHROPIC_DEFAULT": connection("anthropic"),
        "AIRFLOW_CONN_PYDANTICAI_DEFAULT": connection("pydanticai"),
        "NO_PROXY": "127.0.0.1",
    }


def finish(started: subprocess.Popen[bytes]) -> None:
    """Wait for the process to end by itself."""
    assert started.wait(PATIENCE_SECONDS) == 0, f"it ended with {started.returncode}; its log says why"


def kill(started: subprocess.Popen[bytes]) -> None:
    """End it as the kernel does when memory is short."""
    started.kill()
    assert started.wait() == -signal.SIGKILL


def wait_until(come_true: Callable[[], Any], started: subprocess.Popen[bytes]) -> None:
    """Wait for something that the running process brings about."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not come_true():
        assert started.poll() is None, f"it ended with {started.returncode} before that; its log says why"
        assert time.monotonic() < until
        time.sleep(0.05)


def interpreters(peers: Path) -> dict[str, str | Path]:
    """Who is compared, and with which Python."""
    return {"ours": sys.executable, "official": peers, "common_ai": peers, "steadybatch": peers}
