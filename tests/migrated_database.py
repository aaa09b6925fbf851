"""Airflow's database is migrated once in a test run and copied after that: a migration costs 10 s of CPU."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from demo.airflow_processes import AirflowProcesses, airflow_version

#: Names the folder that the processes of a test run share; the first of them makes it.
SHARED_FOLDER = "CLAUDE_BATCH_TESTS_SHARED"


def migrate(airflow: AirflowProcesses) -> None:
    """Give a new Airflow its database."""
    version = airflow_version(airflow.venv)
    migrated(airflow.home / "airflow.db", f"{airflow.venv} {version}", airflow.migrate)
    (airflow.home / "migrated").write_text(version)


def migrated(database: Path, environment: str, make: Callable[[], object]) -> None:
    """Make a migrated SQLite database, or copy the one that was made first for the same environment."""
    name = hashlib.sha256(environment.encode()).hexdigest()[:16]
    shared = Path(os.environ[SHARED_FOLDER])
    template = shared / f"{name}.db"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if template.exists():
            shutil.copyfile(template, database)
            return
        make()
        _copy(database, template)


def _copy(database: Path, template: Path) -> None:
    """Copy through SQLite: the maker may still have the database open, with pages in its write-ahead log."""
    draft = template.with_suffix(".draft")
    source, target = sqlite3.connect(database), sqlite3.connect(draft)
    try:
        source.backup(target)
    finally:
        source.close()
        target.close()
    draft.replace(template)
