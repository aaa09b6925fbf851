"""The rows as Parquet."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow.parquet
import pytest
from submission_world import TEN, World, fails_first, make_world

from airflow_claude_batch.batch.input.output_schema import read_schema
from airflow_claude_batch.batch.land.parquet import check_parquet_installed
from airflow_claude_batch.batch.land.parquet_reader import read_parquet
from airflow_claude_batch.batch.land.parquet_writer import write_parquet
from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.exceptions import ConfigurationError


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
        rows = list(read_parquet(file))
    assert [row.key for row in rows] == [{"n": n} for n in range(10)]
    assert [row.message for row in rows] == [row["message"] for row in world.rows]
    assert rows[3].error == world.rows[3]["error"]
    assert rows[3].text is None


def test_output_has_the_columns_of_the_schema_of_the_task(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    city, count = {"type": "string"}, {"type": "integer"}
    schema = {"type": "object", "properties": {"city": city, "n": count}, "required": ["city", "n"]}

    world.run(["a", "b"], Policy(results_format="parquet"), output_schema=read_schema(schema))

    table = pyarrow.parquet.read_table(world.folder.path / "results.parquet")
    assert str(table.schema.field("output").type) == "struct<city: string, n: int64>"
    assert (table["output"].null_count, table["exact"].null_count) == (0, 2)
    with (world.folder.path / "results.parquet").open("rb") as file:
        assert [row.output for row in read_parquet(file)] == [row["output"] for row in world.rows]


def test_parquet_is_written_in_row_groups(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_claude_batch.batch.land.parquet_writer.ROWS_PER_GROUP", 4)

    world.run(TEN, Policy(results_format="parquet", allow_failed=1))

    assert pyarrow.parquet.ParquetFile(world.folder.path / "results.parquet").num_row_groups == 3


#: Counts what Arrow takes during a test. It is never freed: a thread of Arrow may give memory back after the test.
POOL = pyarrow.proxy_memory_pool(pyarrow.default_memory_pool())


@pytest.fixture
def pool() -> Iterator[pyarrow.MemoryPool]:
    before = pyarrow.default_memory_pool()
    pyarrow.set_memory_pool(POOL)
    yield POOL
    pyarrow.set_memory_pool(before)


def test_long_answers_are_written_and_read_a_few_at_a_time(tmp_path: Path, pool: pyarrow.MemoryPool) -> None:
    """A row group of ten thousand answers of half a million characters each would be ten gigabytes."""
    texts = [f"answer {index} " * 100_000 for index in range(100)]
    rows = [Row(index=index, key=index, status="succeeded", text=text) for index, text in enumerate(texts)]

    tracemalloc.start()
    write_parquet(LocalFolder(tmp_path), map(msgspec.json.encode, rows))
    with (tmp_path / "results.parquet").open("rb") as file:
        assert all(row.text == text for row, text in zip(read_parquet(file), texts, strict=True))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    whole = sum(map(len, texts))
    assert whole > 90_000_000
    assert peak < whole / 2
    assert pool.max_memory() < whole / 2


@pytest.mark.parametrize(
    ("batch_ids", "says"),
    [
        (None, "Nothing was sent now. Batches that were sent before are not affected."),
        (["a"], "Nothing was landed. The message batch runs on until it has ended, and is billed."),
        (["a", "b"], "Nothing was landed. The 2 message batches run on until they have ended, and are billed."),
    ],
)
def test_without_pyarrow_the_error_says_what_is_billed(
    batch_ids: list[str] | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)

    with pytest.raises(ConfigurationError) as caught:
        check_parquet_installed(batch_ids)

    _, money, remedy = str(caught.value).split("\n")
    assert money.startswith(says)
    assert remedy.startswith(
        "Install airflow-claude-batch[parquet] on the workers. Or leave results_format out, for JSON lines."
    )
    assert remedy.endswith("Then clear this task.") == (batch_ids is not None)
