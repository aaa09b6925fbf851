"""The rows as Parquet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest
from submission_world import TEN, World, fails_first, make_world

from airflow_claude_batch.batch.input.output_schema import read_schema
from airflow_claude_batch.batch.land.parquet import check_parquet_installed
from airflow_claude_batch.batch.land.parquet_reader import read_parquet
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.exceptions import ConfigurationError

# Prints the peaks of memory. In a process of its own: one that frees Arrow's memory pool, or stops tracemalloc, while
# threads of Arrow run, crashes.
MEASURE = """
import json, os, sys, tracemalloc
from pathlib import Path
import msgspec, pyarrow
from airflow_claude_batch.batch.land.parquet_reader import read_parquet
from airflow_claude_batch.batch.land.parquet_writer import write_parquet
from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.batch.storage import LocalFolder

folder = Path(sys.argv[1])
pyarrow.set_memory_pool(pool := pyarrow.proxy_memory_pool(pyarrow.default_memory_pool()))
texts = [f"answer {index} " * 100_000 for index in range(100)]
rows = [Row(index=index, key=index, status="succeeded", text=text) for index, text in enumerate(texts)]
tracemalloc.start()
write_parquet(LocalFolder(folder), map(msgspec.json.encode, rows))
with (folder / "results.parquet").open("rb") as file:
    assert all(row.text == text for row, text in zip(read_parquet(file), texts, strict=True))
print(json.dumps([sum(map(len, texts)), tracemalloc.get_traced_memory()[1], pool.max_memory()]), flush=True)
os._exit(0)
"""


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


def test_long_answers_are_written_and_read_a_few_at_a_time(tmp_path: Path) -> None:
    """A row group of ten thousand answers of half a million characters each would be ten gigabytes."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]

    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=200)

    assert done.returncode == 0, done.stderr
    whole, of_python, of_arrow = json.loads(done.stdout)
    assert whole > 90_000_000
    assert of_python < whole / 2
    assert of_arrow < whole / 2


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
