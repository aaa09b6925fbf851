"""The database that a test writes to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from databases import Database
from table_rows import DRIVERS, Target, connect_by_psycopg


@pytest.fixture(params=DRIVERS)
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Each database by each driver, without tables. Indirect parametrization chooses some."""
    driver: str = request.param
    database: Database = request.getfixturevalue(f"{DRIVERS[driver]}_database")
    connect = database.connect if driver != "psycopg" else lambda: connect_by_psycopg(database)
    yield Target(driver, database, connect)
    database.empty()
