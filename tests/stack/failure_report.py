"""Say why a test on a real Airflow failed: the states of its task instances, and the ends of the logs.

Everything is read from Airflow's SQLite database and from files, because the processes may not answer any more.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from types import ModuleType

from airflow_database import index_and_current, reading

HEADING = "--- Airflow in"
MAX_LINES = 60
MAX_WIDTH = 240
MAX_RUNS, MAX_TASK_LOGS, TASK_LOG_LINES, COMPONENT_LOG_LINES, PROBLEM_LINES = 14, 4, 5, 6, 4
COMPONENTS = ("scheduler", "triggerer")
#: Lines that a component writes every few seconds, whatever happens.
ROUTINE = re.compile(r"orphaned tasks|currently running|HTTP Request|^\s*$")
PROBLEM = re.compile(r"\[(?:error|critical|warning)|database is locked|Traceback", re.IGNORECASE)

_running: list[Path] = []


@contextmanager
def reported(home: Path) -> Iterator[None]:
    """Report on the Airflow with this ``AIRFLOW_HOME`` if a test fails meanwhile."""
    _running.append(home)
    try:
        yield
    finally:
        _running.remove(home)


def explain(error: BaseException, module: ModuleType) -> None:
    """Add the state of each running Airflow to an error of a test. Its message is at the end of pytest's output.

    :param module: the test's module. Its ``DAG_ID`` or ``DAG_IDS`` are the DAGs to report on. Default: all.
    """
    if any(note.startswith(HEADING) for note in getattr(error, "__notes__", ())):  # a fixture's error, raised again
        return
    dag_ids = [module.DAG_ID] if hasattr(module, "DAG_ID") else list(getattr(module, "DAG_IDS", ()))
    for home in _running:
        error.add_note(report(home, dag_ids))


def report(home: Path, dag_ids: Collection[str] = ()) -> str:
    """Describe what these DAGs and the components of an Airflow were doing, in at most ``MAX_LINES`` lines."""
    lines = [f"{HEADING} {home} at {datetime.now(UTC):%H:%M:%S} UTC", *_from_database(home, dag_ids)]
    for component in COMPONENTS:
        lines += _component_log(home / "logs" / f"{component}.log")
    return "\n".join(line[:MAX_WIDTH] for line in lines[:MAX_LINES])


@dataclass(frozen=True)
class Instance:
    """A task instance and the state of its run."""

    dag_id: str
    run_id: str
    run_state: str
    task_id: str
    map_index: int
    state: str | None
    try_number: int
    max_tries: int

    @property
    def run(self) -> tuple[str, str, str]:
        return self.dag_id, self.run_id, self.run_state

    def __str__(self) -> str:
        index = f"[{self.map_index}]" if self.map_index >= 0 else ""
        tries = "" if self.state == "success" else f" (try {self.try_number} of {self.max_tries + 1})"
        return f"{self.task_id}{index} {self.state or 'no state'}{tries}"


def _from_database(home: Path, dag_ids: Collection[str]) -> Iterator[str]:
    try:
        with reading(home) as database:
            instances = [each for each in _instances(database) if not dag_ids or each.dag_id in dag_ids]
            beats = database.execute("SELECT job_type, state, latest_heartbeat FROM job ORDER BY id").fetchall()
    except sqlite3.Error as error:
        yield f"The database cannot be read: {error}"
        return
    yield from (f"{kind} {state}, last heartbeat at {beat}" for kind, state, beat in beats[-4:])
    yield from _states(instances)
    for instance in islice(sorted(instances, key=_is_finished), MAX_TASK_LOGS):
        yield from _task_log(home, instance)


def _instances(database: sqlite3.Connection) -> list[Instance]:
    """Read the task instances of all runs, the newest run first."""
    index, current = index_and_current(database)
    rows = database.execute(
        f"SELECT r.dag_id, r.run_id, r.state, t.task_id, t.{index}, t.state, t.try_number, t.max_tries "
        f"FROM dag_run r JOIN task_instance t ON t.dag_id = r.dag_id AND t.run_id = r.run_id AND {current} "
        f"ORDER BY r.id DESC, t.task_id, t.{index}"
    )
    return [Instance(*row) for row in rows]


def _is_finished(instance: Instance) -> bool:
    return instance.state in ("success", "skipped", "removed")


def _states(instances: list[Instance]) -> Iterator[str]:
    """Describe each run in a line. Runs with an unfinished task come first."""
    runs = [list(run) for _, run in groupby(instances, key=attrgetter("run"))]
    runs.sort(key=lambda run: all(map(_is_finished, run)))
    for run in runs[:MAX_RUNS]:
        yield f"{run[0].dag_id} {run[0].run_id} ({run[0].run_state}): {', '.join(map(str, run))}"
    if len(runs) > MAX_RUNS:
        yield f"and {len(runs) - MAX_RUNS} more runs"


def _task_log(home: Path, instance: Instance) -> Iterator[str]:
    """Return the end of the task instance's newest log, of a worker or of the triggerer."""
    folder = home / "logs" / f"dag_id={instance.dag_id}" / f"run_id={instance.run_id}" / f"task_id={instance.task_id}"
    if instance.map_index >= 0:
        folder /= f"map_index={instance.map_index}"
    logs = sorted(folder.glob("attempt=*.log*"), key=lambda path: path.stat().st_mtime)
    if not logs:
        return
    yield f"--- the end of {logs[-1].relative_to(home)}"
    events = [_event(line) for line in logs[-1].read_text(errors="replace").splitlines()]
    yield from [event for event in events if "::" not in event[:30]][-TASK_LOG_LINES:]


def _event(line: str) -> str:
    """Return a line of a task's log as text. Airflow writes JSON."""
    with suppress(ValueError, TypeError, KeyError):
        entry = json.loads(line)
        raised = "".join(f" {each['exc_type']}: {each['exc_value']}" for each in entry.get("error_detail") or ())
        return f"{entry['timestamp'][11:19]} {entry['level']}: {entry['event']}{raised}".replace("\n", " ")
    return line


def _component_log(path: Path) -> Iterator[str]:
    """Return the last problems and the last lines of a component's output."""
    if not path.exists():
        return
    lines = [line for line in path.read_text(errors="replace").splitlines() if not ROUTINE.search(line)]
    earlier, last = lines[:-COMPONENT_LOG_LINES], lines[-COMPONENT_LOG_LINES:]
    problems = [line for line in earlier if PROBLEM.search(line)][-PROBLEM_LINES:]
    yield f"--- the last problems and the end of {path.name}"
    yield from [*problems, *last]
