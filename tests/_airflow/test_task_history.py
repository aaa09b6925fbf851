"""The history of a task, in the folder of results."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_claude_batch._airflow.task_history import TaskHistory

pytestmark = pytest.mark.airflow


@dataclass
class Instance:
    map_index: int = -1
    run_id: str = "a_run"
    dag_id: str = "a/dag"
    task_id: str = "ask"


def land(root: Path, ti: Instance, *minutes: int) -> None:
    with TaskHistory(str(root), ti) as history:
        for each in minutes:
            history.batch_ended(timedelta(minutes=each))


def test_later_runs_know_how_long_the_batches_of_earlier_ones_took(tmp_path: Path) -> None:
    land(tmp_path, Instance(), 12)
    land(tmp_path, Instance(run_id="another"), 40, 30)
    land(tmp_path, Instance(task_id="other"), 5)

    assert TaskHistory(str(tmp_path), Instance(run_id="today")).usual == (720.0, 2400.0, 3)
    assert (tmp_path / "a%2Fdag" / "_history" / "ask" / "history.json").is_file()


def test_one_instance_of_a_mapped_task_writes_and_all_read(tmp_path: Path) -> None:
    for map_index in range(3):
        land(tmp_path, Instance(map_index=map_index), 10 + map_index)

    assert [TaskHistory(str(tmp_path), Instance(map_index=index)).usual for index in range(2)] == [
        (600.0, 600.0, 1)
    ] * 2


def test_run_that_lands_nothing_writes_nothing(tmp_path: Path) -> None:
    land(tmp_path, Instance())

    assert list(tmp_path.iterdir()) == []


def test_root_that_cannot_be_right_costs_only_the_history() -> None:
    with TaskHistory("nowhere://bucket", Instance()) as history:
        history.batch_ended(timedelta(minutes=1))
        assert history.usual is None
