"""The rows as Parquet."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet
import pytest
from submission_world import World
from test_job import TEN, fails_first, make_world

from airflow_claude_batch.batch import parquet
from airflow_claude_batch.batch.policy import Policy


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, outcome=fails_first(9, "errored:invalid_request_error", 3))


def test_parquet_holds_the_rows_of_the_json_lines(world: World) -> None:
    done = world.run(
        [{"key": {"n": n}, "prompt": text} for n, text in enumerate(TEN)],
        Policy(results_format="parquet", allow_failed=1),
    )

    assert done.manifest.results_path == str(world.folder.path / "results.parquet")
    with (world.folder.path / "results.parquet").open("rb") as file:
        rows = list(parquet.read(file))
    assert [row.key for row in rows] == [{"n": n} for n in range(10)]
    assert [row.message for row in rows] == [row["message"] for row in world.rows]
    assert rows[3].error == world.rows[3]["error"]
    assert rows[3].text is None


def test_parquet_is_written_in_row_groups(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 4)

    world.run(TEN, Policy(results_format="parquet", allow_failed=1))

    assert pyarrow.parquet.ParquetFile(world.folder.path / "results.parquet").num_row_groups == 3
