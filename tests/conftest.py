"""Airflow reads its settings when it is imported first, so they are made here, before any test module is read."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["airflow_fixtures", "databases"]

#: Tests that take long, in the order in which they begin. Those on a real Airflow wait more than they compute, so that
#: they run beside the tests of crashes.
LONG_TESTS = (
    "stack/shared_airflow/",
    "crash/test_every_step",
    "crash/test_s3_protocol",
    "crash/test_zombies",
    "crash/",
    "stack/",
    "provider/test_sensors",  # one file, which goes to one worker
)
#: What files in memory may take of a machine without being missed there.
MEMORY_DISK_BYTES = 4 << 30

# Other tests share the machine: how long an example takes says nothing. The same examples each time, so that a commit
# fails for what it changed; `make fuzz` tries others.
settings.register_profile(
    "shared machine",
    deadline=None,
    derandomize="FUZZ" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("shared machine")

# Tests write and sync many small files. In memory that costs nothing; where there is no room, they are on the disk.
if Path("/dev/shm").is_dir() and shutil.disk_usage("/dev/shm").free > MEMORY_DISK_BYTES:
    os.environ.setdefault("TMPDIR", "/dev/shm")
    tempfile.tempdir = None  # read TMPDIR again

HOME = Path(tempfile.mkdtemp(prefix="claude-batch-tests-"))
# What the processes of a test run share is in the folder of the first of them, which ends last.
os.environ.setdefault("CLAUDE_BATCH_TESTS_SHARED", str(HOME))

for name in [name for name in os.environ if name.startswith(("AIRFLOW", "ANTHROPIC_"))]:
    del os.environ[name]

os.environ.update(
    AIRFLOW_HOME=str(HOME),
    AIRFLOW__CORE__DAGS_FOLDER=str(HOME / "dags"),
    AIRFLOW__CORE__FERNET_KEY="cFRwdm1VQm9zN3Y1cXkzcWZ3b2h3Rk1wQkZ0V2p3ZlE=",
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    # Tests write one DAG after the other under the same id; Airflow would take notice after 30 s.
    AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL="0",
    AIRFLOW__CORE__MIN_SERIALIZED_DAG_FETCH_INTERVAL="0",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{HOME}/airflow.db",
)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage among what is imported and collected: hundreds of thousands of objects, and all of them stay.

    That is a quarter of the time that collecting takes, and each full collection of a test would look at them again.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest tests: the short ones fill the time at the end."""

    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(Path(__file__).parent).as_posix()
        return next((place for place, prefix in enumerate(LONG_TESTS) if name.startswith(prefix)), len(LONG_TESTS))

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker a file at a time. Tests of crashes go one by one, because a few of them take minutes.

    The files that share an Airflow go to one worker, because each worker would start its own.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            if "shared_airflow/" in file:
                return "shared_airflow"
            return nodeid if "crash/" in file else file

    return Scheduler(config, log)


@pytest.fixture(autouse=True)
def stores_as_before() -> Iterator[None]:
    """Detach what a test attaches to Airflow's object storage.

    ``attach`` returns the store that it knows of a name already, which may be one of an earlier test.
    """
    before = dict(_attached_stores())
    yield
    _attached_stores().clear()
    _attached_stores().update(before)


def _attached_stores() -> dict[str, Any]:
    store = sys.modules.get("airflow.sdk.io.store")
    return {} if store is None else store._STORE_CACHE


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(HOME, ignore_errors=True)
