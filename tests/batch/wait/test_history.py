"""The history of a task: how long its message batches took."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import pytest

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


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"seconds": [-1]}', b"[" * 5000], ids=range(6))
def test_damaged_history_begins_anew(data: bytes, tmp_path: Path) -> None:
    (tmp_path / HISTORY_FILE).write_bytes(data)
    folder = LocalFolder(tmp_path)
    assert load_history(folder) == History()

    add_to_history(folder, [30.0])

    assert load_history(folder).seconds == (30.0,)


class Unreachable(LocalFolder):
    """A storage that cannot be reached."""

    def open(self, name: str) -> IO[bytes] | None:
        raise OSError("down")

    def replace_file(self, name: str) -> Any:
        raise OSError("down")


def test_storage_that_fails_costs_only_the_history(tmp_path: Path) -> None:
    folder = Unreachable(tmp_path)

    add_to_history(folder, [30.0])

    assert load_history(folder) == History()
