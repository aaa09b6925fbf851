"""Run DAGs in the process of a test, on every supported version of Airflow.

The only module of the simulator that imports Airflow. Only the pytest plugin uses it, and imports are in its functions.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Says to the workers of pytest-xdist that the folder is the plugin's, not one that the user has chosen.
_HOME_OF_TESTS = "CLAUDE_SIMULATOR_AIRFLOW_HOME"


def choose_airflow_home() -> Path | None:
    """Give Airflow a new home if nothing has chosen one, so that tests never touch the database of ``~/airflow``.

    It must be called before Airflow is imported, because Airflow reads its configuration then.

    :return: the folder that was made, to remove after the tests. None: there is a home already.
    """
    if "airflow" in sys.modules:
        return None
    home, worker = os.environ.get("AIRFLOW_HOME"), os.environ.get("PYTEST_XDIST_WORKER")
    if home is None:
        made = Path(tempfile.mkdtemp(prefix="airflow-home-"))
        os.environ[_HOME_OF_TESTS] = os.environ["AIRFLOW_HOME"] = str(made)
        os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
        return made
    if worker is not None and home == os.environ.get(_HOME_OF_TESTS):
        os.environ["AIRFLOW_HOME"] = str(Path(home) / worker)  # one SQLite database for each process
    return None


def prepare_database() -> None:
    """Create the tables if the database is a SQLite file. Any other has them, or is not for tests."""
    from airflow.configuration import conf
    from airflow.utils.db import initdb

    if str(conf.get("database", "sql_alchemy_conn")).startswith("sqlite"):
        initdb()


def run_dag(dag: Any, **options: Any) -> Any:
    """Run a DAG with ``dag.test(**options)`` and return the DAG run."""
    _store(dag)
    with _restored_handler(), _secrets_backends_read_again():
        return dag.test(**options)


def _store(dag: Any) -> None:
    """Write the DAG to the database, where ``dag.test()`` looks for it from Airflow 3.1 on."""
    try:
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db  # Airflow 3.2 and later
    except ImportError:
        try:
            from airflow.models.dagbag import DagBag, sync_bag_to_db  # type: ignore[no-redef]  # Airflow 3.1
        except ImportError:
            return
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    with create_session() as session:
        session.merge(DagBundleModel(name="testing"))
    bag = DagBag(os.devnull)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "testing", None)


@contextmanager
def _secrets_backends_read_again() -> Iterator[None]:
    """Use the secrets backend that is configured now. Airflow reads it when it is imported, and asks it first."""
    from airflow import configuration

    before = configuration.secrets_backend_list
    configuration.secrets_backend_list = configuration.initialize_secrets_backends()
    try:
        yield
    finally:
        configuration.secrets_backend_list = before


@contextmanager
def _restored_handler() -> Iterator[None]:
    """Restore the handler of SIGTERM: Airflow installs one for each task that it runs, and leaves it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
