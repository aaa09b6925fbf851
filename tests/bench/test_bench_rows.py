"""The benchmark of rows, with a few: what its figures say, and what it checks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import Database

from benchmarks import rows
from benchmarks.figures import Figure, Scope
from benchmarks.postgres_server import Postgres

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="benchmarks read /proc")

SMALL = Scope(ours_only=True, scale=0.0005)


@pytest.fixture
def server(postgres_database: Database) -> Iterator[Postgres]:
    yield Postgres(postgres_database.airflow_connection)
    postgres_database.empty()


def test_a_query_is_read_in_less_memory_than_its_whole_result(server: Postgres, tmp_path: Path) -> None:
    streamed, whole, cpu = rows.query_figures(server, tmp_path, Scope(ours_only=True, scale=0.05))
    assert (streamed.bound, streamed.met) == ("≤ 24 MB", True)
    assert streamed.ours < whole.ours
    assert cpu.ours > 0


def test_files_and_templates_are_measured(tmp_path: Path) -> None:
    assert rows.parquet_figure(tmp_path, SMALL).ours > 0
    assert rows.template_figure(tmp_path, Scope(scale=0.02)).ours > 0


def test_rows_run_from_a_table_to_a_table_and_are_checked(server: Postgres, tmp_path: Path) -> None:
    done, *others = rows.million_figures(server, tmp_path, SMALL)
    assert (done.ours, done.met) == (500, None)
    assert all(figure.ours > 0 for figure in others)
    server.run("UPDATE labels SET title = 'another' WHERE id = 499")
    with pytest.raises(AssertionError, match="499"):
        rows.check_labels(server, 500)


def test_upserts_are_measured_by_the_slower_of_two_runs(server: Postgres, tmp_path: Path) -> None:
    speed, cpu, _ = rows.load_figures(server, tmp_path, SMALL)
    assert speed.bound == "≥ 20,000 rows/s"
    assert cpu.ours > 0


def test_a_figure_below_its_least_is_a_missed_bound() -> None:
    assert Figure("upserts", "rows/s", 19_999).at_least(20_000).met is False
    assert Figure("upserts", "rows/s", 20_000).at_least(20_000).met
