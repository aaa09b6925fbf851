"""The history of a task: how long its message batches took, and what its runs used."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import msgspec
import pytest
from batch.money.runs import run

from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.batch.wait.history import HISTORY_FILE, MOST_BATCHES, History, add_to_history, load_history


def test_last_batches_are_remembered(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path / "new")
    assert load_history(folder) == History()

    add_to_history(folder, [60.0, 720.0])
    add_to_history(folder, [float(number) for number in range(100, 100 + MOST_BATCHES - 1)])

    history = load_history(folder)
    assert (len(history.seconds), history.seconds[0]) == (MOST_BATCHES, 720.0)
    assert (history.shortest, history.longest) == (100.0, 720.0)


def test_times_of_wrong_clocks_are_not_remembered(tmp_path: Path) -> None:
    add_to_history(LocalFolder(tmp_path), [-5.0, 0.0, 30.0, 10.0**9])

    assert load_history(LocalFolder(tmp_path)).seconds == (30.0,)


ENDLESS = b'{"runs": [{"submission_id": "s", "began_at": "2026-11-02T00:00:00Z", "seconds": 1e99}]}'


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"\xff", b'{"seconds": [-1]}', b"[" * 5000, b'{"runs": [{}]}', b'{"runs": 1}', ENDLESS],
    ids=range(9),
)
def test_damaged_history_begins_anew(data: bytes, tmp_path: Path) -> None:
    (tmp_path / HISTORY_FILE).write_bytes(data)
    folder = LocalFolder(tmp_path)
    assert load_history(folder) == History()

    add_to_history(folder, [30.0])

    assert load_history(folder).seconds == (30.0,)


# ---------------------------------------------------------------- runs

#: Written by a version that knew no runs.
BEFORE = b'{"seconds":[720.0,2400.0],"version":1}'


class HistoryBefore(msgspec.Struct, frozen=True, kw_only=True):
    """The history as a version reads it that knew no runs."""

    seconds: tuple[float, ...] = ()
    version: int = 1


def test_history_of_the_version_before_is_read_and_written_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / HISTORY_FILE
    file.write_bytes(BEFORE)
    folder = LocalFolder(tmp_path)

    assert (load_history(folder).seconds, load_history(folder).runs) == ((720.0, 2400.0), ())
    add_to_history(folder, [30.0])
    assert file.read_bytes() == b'{"seconds":[720.0,2400.0,30.0],"version":1}'


def test_version_before_reads_a_history_with_runs(tmp_path: Path) -> None:
    (tmp_path / HISTORY_FILE).write_bytes(BEFORE)
    folder = LocalFolder(tmp_path)

    add_to_history(folder, run=run(1))

    data = (tmp_path / HISTORY_FILE).read_bytes()
    assert msgspec.json.decode(data, type=HistoryBefore) == HistoryBefore(seconds=(720.0, 2400.0))
    assert load_history(folder).runs == (run(1),)


def test_batches_and_runs_are_remembered_side_by_side(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)

    add_to_history(folder, [30.0], run(1))
    add_to_history(folder, [40.0])
    add_to_history(folder, run=run(2))

    assert load_history(folder) == History(seconds=(30.0, 40.0), known_runs=(run(1), run(2)))


def test_history_of_a_later_version_is_read(tmp_path: Path) -> None:
    (tmp_path / HISTORY_FILE).write_bytes(
        b'{"seconds":[1.5],"version":1,"color":"red","runs":[{"submission_id":"s","began_at":"2026-11-02T00:00:00Z",'
        b'"color":"red","models":{"m":{"requests":1,"max_tokens":2,"output_tokens":1,"input_tokens":1,'
        b'"estimated_input_tokens":1,"color":"red"}}}]}'
    )

    (known,) = load_history(LocalFolder(tmp_path)).runs

    assert (known.seconds, known.models["m"].requests) == (None, 1)


def test_what_changes_nothing_is_not_written(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    add_to_history(folder, run=run(1))
    written = (tmp_path / HISTORY_FILE).stat().st_mtime_ns

    add_to_history(folder, run=run(1))

    assert (tmp_path / HISTORY_FILE).stat().st_mtime_ns == written


class Unreachable(LocalFolder):
    """A storage that cannot be reached."""

    def open(self, name: str) -> IO[bytes] | None:
        raise OSError("down")

    def replace_file(self, name: str) -> Any:
        raise OSError("down")


def test_storage_that_fails_costs_only_the_history(tmp_path: Path) -> None:
    folder = Unreachable(tmp_path)

    add_to_history(folder, [30.0], run(1))

    assert load_history(folder) == History()
