"""``make cluster``: a production-like Airflow runs its DAGs while a seeded plan kills processes and breaks the network.

PostgreSQL, Redis, CeleryExecutor, two workers, two triggerers, and the simulator as the API. At the end, every request
must be billed exactly once, every row correct and in order, and every task successful. No batch may be canceled, except
for tasks that were failed by hand. No process may be left.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import httpx
from cluster import environment, plans
from cluster.cluster import Cluster, running_cluster
from cluster.console import Console
from cluster.disruptions import Disruptions
from cluster.final_checks import FinalChecks
from cluster.run_monitor import RunMonitor
from cluster.services import running_services
from cluster.workload import SHORT_VARIABLE, workloads

from demo.errors import DemoError

LIMIT_SECONDS = {True: 900, False: 3600}
CHECK_SECONDS = 2.0
REPORT_SECONDS = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make cluster", description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer tasks and disruptions, as in CI")
    parser.add_argument("--seed", type=int, default=1, help="seed of the disruptions (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs, even after success")
    options = parser.parse_args()
    os.environ[SHORT_VARIABLE] = "1" if options.short else ""
    folder = Path(tempfile.mkdtemp(prefix="cluster-"))
    try:
        problems = run(folder, short=options.short, seed=options.seed)
    except DemoError as error:
        problems = [str(error)]
    if problems:
        print("\n".join(["", *problems, f"The logs are in {folder}."]), file=sys.stderr)
        return 1
    if not options.keep:
        shutil.rmtree(folder)
    return 0


def run(folder: Path, *, short: bool, seed: int) -> list[str]:
    """Start everything, run the DAGs through the disruptions, check the results. Returns the problems."""
    console = Console()
    with running_services(folder / "logs") as services:
        console.row("PostgreSQL and Redis are running")
        venv = environment.prepare()
        console.row("environment with Airflow, Celery and the wheel", venv)
        with running_cluster(folder, venv, services, short=short) as cluster:
            console.row("running: " + ", ".join(session.name for session in cluster.airflow.session_file.read()))
            disruptions = Disruptions(cluster, seed, plans.SHORT if short else plans.FULL, console.row)
            follow(cluster, disruptions, console, seconds=LIMIT_SECONDS[short])
            problems = check(cluster, disruptions, folder, console)
        leftovers = cluster.leftovers()
    console.row("processes left", len(leftovers))
    return problems + [f"still running: {process}" for process in leftovers]


def follow(cluster: Cluster, disruptions: Disruptions, console: Console, *, seconds: float) -> None:
    """Wait until every run has succeeded and every planned disruption has happened.

    :raises DemoError: when a run failed, or they did not end in time.
    """
    monitor = RunMonitor(cluster.airflow.api)
    disruptions.begin()
    deadline, reported_at = time.monotonic() + seconds, time.monotonic()
    while time.monotonic() < deadline:
        disruptions.step()
        try:
            states = monitor.check_runs(disruptions.failed_by_hand)
        except (httpx.TransportError, httpx.HTTPStatusError):
            states = {}  # Airflow's API server was killed
        if time.monotonic() - reported_at > REPORT_SECONDS:
            reported_at = time.monotonic()
            summary = ", ".join(f"{count} {state}" for state, count in states.items())
            console.row("runs", summary or "unknown, Airflow's API does not respond")
        if disruptions.finished and set(states) == {"success"}:
            console.row("every run has succeeded")
            disruptions.done["clear the sending task of a failed sensor"] = monitor.cleared
            return
        time.sleep(CHECK_SECONDS)
    raise DemoError(f"Not finished within {seconds:.0f} s: {monitor.unfinished()}")


def check(cluster: Cluster, disruptions: Disruptions, folder: Path, console: Console) -> list[str]:
    """Check the results and print them. Returns the problems."""
    monitor = RunMonitor(cluster.airflow.api)
    checks = FinalChecks(cluster.simulator.books(detail=True), folder / "results", monitor.task_states())
    console.table(checks.check(workloads()))
    console.disruptions(disruptions)
    calls = checks.books["calls"]
    console.row("calls of the API", ", ".join(f"{count} {name}" for name, count in calls.items() if count))
    canceled = cluster.simulator.canceled_batch_ids()
    may_be_canceled = {
        batch_id
        for workload in workloads()
        for batch_id in monitor.batches_failed_by_hand(workload, disruptions.failed_by_hand, folder / "results")
    }
    console.row("batches canceled (of tasks that were failed by hand)", len(canceled))
    if calls["cancel"] and not disruptions.failed_by_hand:
        checks.problems.append(f"{calls['cancel']} cancel calls, although no task was failed by hand")
    if unexpected := set(canceled) - may_be_canceled:
        checks.problems.append(f"canceled, although their tasks were not failed by hand: {sorted(unexpected)}")
    return checks.problems


if __name__ == "__main__":
    sys.exit(main())
