"""Measure a thousand deferred tasks on one real triggerer, through an outage of the API.

An Airflow of processes (LocalExecutor, SQLite), the simulator, and one mapped sensor. ``make thousand`` runs it.
Starting the tasks takes most of the time: one process for each to defer, and another to land its answer.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from demo.airflow_api import wait_for
from demo.airflow_processes import AirflowProcesses
from demo.loopback import LOOPBACK
from demo.processes import Session
from demo.simulator import KEY, SimulatorProcess

ROOT = Path(__file__).resolve().parents[2]
DAG_ID, RUN_ID = "thousand", "run"
INTERVAL_SECONDS = 10
QUIET_INTERVALS = 3
OUTAGE_SECONDS = 75
NEVER_SECONDS = 36_000.0
SECONDS_PER_TASK = 10
OTHER_THAN_DEFERRED = ("success", "failed", "up_for_retry", "upstream_failed", "skipped", "running", "queued")

DAG = """
from airflow.sdk import DAG
from airflow_claude_batch.sensors import MessageBatchSensor

with DAG({dag_id!r}, schedule=None, max_active_tasks={count}):
    MessageBatchSensor.partial(
        task_id="wait", deferrable=True, poll_interval={interval}, cancel_on_kill=True, retries=0
    ).expand(batch={batch_ids!r})
"""

REQUEST = {
    "custom_id": "only",
    "params": {
        "model": "claude-haiku-5-5",
        "max_tokens": 16,
        "messages": [{"role": "user", "content": "Hello"}],
    },
}


@dataclass
class Report:
    """Prints a table, row by row as the values become known."""

    started_at: float = field(default_factory=time.monotonic)

    def row(self, what: str, value: object) -> None:
        print(f"{time.monotonic() - self.started_at:7.0f} s  {what:<64}{value}", flush=True)


@dataclass
class Run:
    """One run of the mapped sensor, and the queries about it."""

    airflow: AirflowProcesses
    simulator: SimulatorProcess
    count: int
    report: Report

    def tasks(self, *states: str) -> int:
        return self.airflow.api.task_count(DAG_ID, RUN_ID, *states)

    def wait_until_all(self, state: str) -> None:
        """Return when every task is in the state. Prints the progress every 30 s."""
        printed_at = time.monotonic()

        def reached() -> bool:
            nonlocal printed_at
            self.airflow.check()
            if failed := self.tasks("failed"):
                raise AssertionError(f"{failed} tasks failed; the logs are in {self.airflow.home}")
            done = self.tasks(state)
            if time.monotonic() - printed_at > 30:
                printed_at = time.monotonic()
                self.report.row(f"  tasks {state} so far", done)
            return done == self.count

        seconds = 120 + self.count * SECONDS_PER_TASK
        wait_for(reached, seconds=seconds, what=f"{self.count} tasks to be {state}", pause_seconds=2)

    def calls_in(self, seconds: float) -> dict[str, int]:
        """Sleep, and return which calls the API received meanwhile."""
        before = self._calls()
        time.sleep(seconds)
        return {name: count - before[name] for name, count in self._calls().items() if count != before[name]}

    def tasks_that_logged_the_outage(self) -> int:
        """Count the triggers that wrote about the outage into their own task's log."""
        logs = (self.airflow.home / "logs" / f"dag_id={DAG_ID}").glob("**/attempt=1.log.trigger.*.log")
        return sum("is unavailable" in log.read_text() for log in logs)

    def assert_all_deferred(self) -> None:
        waiting, others = self.tasks("deferred"), self.tasks(*OTHER_THAN_DEFERRED)
        assert (waiting, others) == (self.count, 0), f"{waiting} tasks are deferred, {others} are not"

    def _calls(self) -> dict[str, int]:
        return dict(control(self.simulator, "GET", "requests-log"))


def control(simulator: SimulatorProcess, method: str, path: str, body: Any = None) -> Any:
    response = httpx.request(method, f"{simulator.url}/_simulator/{path}", json=body, timeout=60, **LOOPBACK)
    return response.raise_for_status().json()


def create_batches(simulator: SimulatorProcess, count: int) -> list[str]:
    """Create batches of one request each, as another program would."""
    headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
    with httpx.Client(base_url=simulator.url, headers=headers, timeout=60, **LOOPBACK) as client:

        def create(_: int) -> str:
            response = client.post("/v1/messages/batches", json={"requests": [REQUEST]})
            return str(response.raise_for_status().json()["id"])

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(create, range(count)))


def settings(count: int) -> dict[str, str]:
    return {
        "PYTHONPATH": str(ROOT),
        "AIRFLOW__CORE__MAX_MAP_LENGTH": str(count),
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": str(count),
        "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "64",
        "AIRFLOW__TRIGGERER__CAPACITY": str(count),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "20",
    }


def resident_megabytes(airflow: AirflowProcesses, component: str) -> float:
    """Sum the memory of a component's processes."""
    sessions: list[Session] = [session for session in airflow.session_file.read() if session.name == component]
    return sum(float(process.memory_info().rss) for session in sessions for process in session.members()) / 2**20


def locked_database_errors(home: Path) -> int:
    """Count how often a component's log says that SQLite was locked."""
    logs = home.glob("logs/*.log")
    return sum(len(re.findall("database is locked", log.read_text(errors="replace"))) for log in logs)


def run_scenario(run: Run, *, outage_seconds: int) -> None:
    """Defer all tasks, make the API unavailable and available again, and let the batches end."""
    report, row = run.report, run.report.row
    run.airflow.api.trigger(DAG_ID, RUN_ID)
    run.wait_until_all("deferred")
    row("tasks deferred at once on one triggerer", run.count)
    time.sleep(2 * INTERVAL_SECONDS)
    calls = run.calls_in(QUIET_INTERVALS * INTERVAL_SECONDS)
    row(f"API calls in {QUIET_INTERVALS} intervals of {INTERVAL_SECONDS} s while all wait", calls or "none")
    row("triggerer's memory, MB", f"{resident_megabytes(run.airflow, 'triggerer'):.0f}")
    control(run.simulator, "POST", "outage", {"kind": "status:529", "seconds": outage_seconds})
    calls = run.calls_in(outage_seconds)
    row(f"API calls answered in {outage_seconds} s of 529, compressed from 10 min", calls or "none")
    row("tasks whose log says that the API is unavailable", logged := run.tasks_that_logged_the_outage())
    assert logged == run.count
    run.assert_all_deferred()
    row("tasks still deferred after it", run.tasks("deferred"))
    run.calls_in(2 * INTERVAL_SECONDS)
    run.assert_all_deferred()
    run.simulator.pace(0)
    ended_at = time.monotonic()
    run.wait_until_all("success")
    row("tasks that succeeded", run.tasks("success"))
    row("seconds from the batches' end to the last success", f"{time.monotonic() - ended_at:.0f}")
    assert_all_answered(run, report)


def assert_all_answered(run: Run, report: Report) -> None:
    """Check in the simulator's books that every request was answered and billed once, and no batch canceled."""
    books = run.simulator.books()
    canceled = books["calls"].get("cancel", 0)
    report.row("batches, answers billed, calls to cancel", (len(books["batches"]), books["billed_requests"], canceled))
    report.row("lines in components' logs about a locked SQLite", locked_database_errors(run.airflow.home))
    assert (len(books["batches"]), books["billed_requests"], canceled) == (run.count, run.count, 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="how many tasks (default: %(default)s)")
    parser.add_argument("--outage-seconds", type=int, default=OUTAGE_SECONDS, help="default: %(default)s")
    options = parser.parse_args()
    print(f"{options.count} tasks; the outage of 10 min is compressed to {options.outage_seconds} s.")
    with tempfile.TemporaryDirectory(prefix="thousand-") as folder:
        with_airflow(Path(folder), options.count, lambda run: run_scenario(run, outage_seconds=options.outage_seconds))
    return 0


def with_airflow(folder: Path, count: int, scenario: Callable[[Run], None]) -> None:
    """Start Airflow and the simulator, run the scenario, and stop them."""
    dags, report = folder / "dags", Report()
    dags.mkdir()
    with AirflowProcesses(folder / "home", dags_folder=dags, settings=settings(count)) as airflow:
        airflow.migrate()
        simulator = SimulatorProcess.start(airflow.home, batch_seconds=NEVER_SECONDS)
        airflow.supervise(simulator.process)
        batch_ids = create_batches(simulator, count)
        dag = DAG.format(dag_id=DAG_ID, count=count, interval=INTERVAL_SECONDS, batch_ids=batch_ids)
        (dags / f"{DAG_ID}.py").write_text(dag)
        airflow.start()
        airflow.wait_until_healthy("api-server")
        airflow.api.put_connection(
            {"connection_id": "claude_default", "conn_type": "claude", "host": simulator.url, "password": KEY}
        )
        airflow.wait_for_dag(DAG_ID)
        airflow.wait_until_healthy()
        report.row("Airflow is up, message batches created", len(batch_ids))
        scenario(Run(airflow, simulator, count, report))


if __name__ == "__main__":
    sys.exit(main())
