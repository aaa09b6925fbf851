"""``make cluster``: an Airflow of many processes does its work while a seeded script takes it apart.

PostgreSQL, Redis, CeleryExecutor, two workers, two triggerers, the simulator as the API. In the end every request must
have been billed exactly once, every row be right and in order, every task green, nothing canceled but by hand, and
nothing be left running anywhere.
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
from cluster.books import Books
from cluster.cluster import Cluster, running_cluster
from cluster.havoc import Havoc
from cluster.person import Person
from cluster.services import running_services
from cluster.show import Show
from cluster.workload import SHORT_VARIABLE, loads

from demo.errors import DemoError

LIMIT_SECONDS = {True: 900, False: 3600}
LOOK_SECONDS = 2.0
TOLD_SECONDS = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make cluster", description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer tasks, fewer kills: what CI runs")
    parser.add_argument("--seed", type=int, default=1, help="of the script that takes it apart (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs, also after a good end")
    options = parser.parse_args()
    os.environ[SHORT_VARIABLE] = "1" if options.short else ""
    folder = Path(tempfile.mkdtemp(prefix="cluster-"))
    try:
        problems = run(folder, short=options.short, seed=options.seed)
    except DemoError as error:
        problems = [str(error)]
    if problems:
        print("\n".join(["", *problems, f"The logs are in {folder}"]), file=sys.stderr)
        return 1
    if not options.keep:
        shutil.rmtree(folder)
    return 0


def run(folder: Path, *, short: bool, seed: int) -> list[str]:
    """Do it all; answers what is wrong in the end."""
    show = Show()
    with running_services(folder / "logs") as services:
        show.row("PostgreSQL and Redis are up")
        venv = environment.prepare()
        show.row("environment with Airflow, Celery and the wheel", venv)
        with running_cluster(folder, venv, services, short=short) as cluster:
            show.row("up: " + ", ".join(session.name for session in cluster.airflow.session_file.read()))
            script = Havoc(cluster, seed, plans.SHORT if short else plans.FULL, show.row)
            follow(cluster, script, show, seconds=LIMIT_SECONDS[short])
            problems = examine(cluster, script, folder, show)
        leftovers = cluster.leftovers()
    show.row("processes left behind", len(leftovers))
    return problems + [f"left behind: {each}" for each in leftovers]


def follow(cluster: Cluster, script: Havoc, show: Show, *, seconds: float) -> None:
    """Return when every run has succeeded and everything planned has happened.

    :raises DemoError: a run failed, or they did not end in time.
    """
    person = Person(cluster.airflow.api)
    script.begin()
    deadline, told = time.monotonic() + seconds, time.monotonic()
    while time.monotonic() < deadline:
        script.step()
        try:
            states = person.look_after_runs(script.by_hand)
        except (httpx.TransportError, httpx.HTTPStatusError):
            states = {}  # Airflow's API is down
        if time.monotonic() - told > TOLD_SECONDS:
            told = time.monotonic()
            show.row("runs", ", ".join(f"{count} {state}" for state, count in states.items()) or "cannot be asked")
        if script.is_over and set(states) == {"success"}:
            show.row("every run has succeeded")
            script.done["clear a failed sensor's sender"] = person.cleared
            return
        time.sleep(LOOK_SECONDS)
    raise DemoError(f"Not done within {seconds:.0f} s: {person.unfinished()}")


def examine(cluster: Cluster, script: Havoc, folder: Path, show: Show) -> list[str]:
    """Look into the books and print them."""
    person = Person(cluster.airflow.api)
    books = Books(cluster.simulator.books(detail=True), folder / "results", person.states_of_tasks())
    show.table(books.check(loads()))
    show.havoc(script)
    calls = books.books["calls"]
    show.row("calls of the API", ", ".join(f"{count} {name}" for name, count in calls.items() if count))
    canceled = cluster.simulator.canceled_batch_ids()
    allowed = {batch_id for load in loads() for batch_id in person.touched(load, script.by_hand, folder / "results")}
    show.row("batches canceled (of tasks that were failed by hand)", len(canceled))
    if calls["cancel"] and not script.by_hand:
        books.problems.append(f"{calls['cancel']} calls to cancel, although nobody killed a task")
    if stray := set(canceled) - allowed:
        books.problems.append(f"canceled although nobody killed their task: {sorted(stray)}")
    return books.problems


if __name__ == "__main__":
    sys.exit(main())
