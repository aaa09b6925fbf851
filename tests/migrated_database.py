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
    """Give a new Airflow its database and its configuration.

    Airflow writes a configuration with new keys where there is none. Several processes that start at once would write
    several, and could not decrypt what the others have encrypted.
    """
    version = airflow_version(airflow.venv)
    template = template_for(f"{airflow.venv} {version}")
    configuration = airflow.home / "airflow.cfg"

    def make() -> None:
        airflow.migrate()
        template.with_suffix(".home").write_text(str(airflow.home))
        shutil.copyfile(configuration, template.with_suffix(".cfg"))

    migrated(airflow.home / "airflow.db", template, make)
    if not configuration.exists():
        text = template.with_suffix(".cfg").read_text(encoding="utf-8")
        first_home = template.with_suffix(".home").read_text()
        configuration.write_text(text.replace(first_home, str(airflow.home)), encoding="utf-8")
        (airflow.home / "migrated").write_text(version)


def template_for(environment: str) -> Path:
    """Return where the database is kept that was migrated first by this Airflow in this environment."""
    name = hashlib.sha256(environment.encode()).hexdigest()[:16]
    return Path(os.environ[SHARED_FOLDER]) / f"{name}.db"


def migrated(database: Path, template: Path, make: Callable[[], object]) -> None:
    """Make a migrated SQLite database, or copy the one that was made first."""
    with template.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if template.exists():
            shutil.copyfile(template, database)
        else:
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
