"""Kill a process after each of its effects while a sample is out and a person is asked: nothing is paid for twice."""

from __future__ import annotations

from pathlib import Path

from crash.effects import changes
from crash.scenarios import SAMPLED, new_task, run_scenario


def test_kill_around_a_sample_pays_for_nothing_twice_and_sends_no_other_sample(tmp_path: Path) -> None:
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    with new_task(SAMPLED, undisturbed) as task:
        run_scenario(SAMPLED, task, {})
    points = changes(undisturbed / "effects")

    assert len(points) > 10
    for point in points:
        home = tmp_path / str(point)
        home.mkdir()
        with new_task(SAMPLED, home) as task:
            try:
                run_scenario(SAMPLED, task, {point: "kill"})
                assert sorted(batch["request_count"] for batch in task.simulator.books()["batches"]) == [2, 2]
            except AssertionError as error:
                raise AssertionError(f"killed after effect {point}: {task.history}") from error
