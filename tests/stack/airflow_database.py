"""Read states from Airflow's SQLite database: tests that wait ask often, and a call of its API costs 50 ms of CPU."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from demo.airflow_processes import AirflowProcesses
from demo.errors import DemoError


@contextmanager
def reading(home: Path) -> Iterator[sqlite3.Connection]:
    """Open the database of the Airflow with this home."""
    with closing(sqlite3.connect(f"file:{home / 'airflow.db'}?mode=ro", uri=True, timeout=60)) as database:
        database.row_factory = sqlite3.Row
        yield database


def task_instances(airflow: AirflowProcesses, dag_id: str, run_id: str) -> list[dict[str, Any]]:
    """Return every task instance of the run, with the fields that Airflow's API gives."""
    with reading(airflow.home) as database:
        index, current = index_and_current(database)
        found = database.execute(
            f"SELECT task_id, {index} AS map_index, state, try_number, pid FROM task_instance "
            f"WHERE dag_id = ? AND run_id = ? AND {current}",
            (dag_id, run_id),
        )
        return [dict(row) for row in found]


def index_and_current(database: sqlite3.Connection) -> tuple[str, str]:
    """Return the column of a task instance's index, and what its row fulfils: in 3.4 earlier tries have rows, too."""
    columns = {row["name"] for row in database.execute("PRAGMA table_info(task_instance)")}
    return ("region_index", "working_set") if "region_index" in columns else ("map_index", "TRUE")


def runs(airflow: AirflowProcesses, dag_id: str) -> list[dict[str, Any]]:
    """Return the id and the state of each run of the DAG, ordered by logical date."""
    with reading(airflow.home) as database:
        found = database.execute(
            "SELECT run_id AS dag_run_id, state FROM dag_run WHERE dag_id = ? ORDER BY logical_date, id", (dag_id,)
        )
        return [dict(row) for row in found]


def missing_dags(airflow: AirflowProcesses, dag_ids: Iterable[str]) -> set[str]:
    """Return the DAGs that Airflow has not parsed yet.

    :raises DemoError: when a file cannot be imported.
    """
    with reading(airflow.home) as database:
        for file, trace in database.execute("SELECT filename, stacktrace FROM import_error"):
            raise DemoError(f"{file} cannot be imported:\n{trace}")
        return set(dag_ids).difference(row["dag_id"] for row in database.execute("SELECT dag_id FROM serialized_dag"))


def run_state(airflow: AirflowProcesses, dag_id: str, run_id: str) -> str | None:
    """Return the state of a run. None: there is no such run."""
    return next((run["state"] for run in runs(airflow, dag_id) if run["dag_run_id"] == run_id), None)
