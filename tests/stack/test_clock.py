"""DAGs under a real scheduler's clock: catch-up, mapped tasks, pools, a pause, and changes while batches run.

All of them are switched on at once, and wait side by side; the simulators' books say what each came to.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clock import CLOCK_DAGS, Clock, running_clock, texts

from demo.simulator import SimulatorProcess

pytestmark = pytest.mark.stack

OTHER_VERSIONS = Path(__file__).with_name("stored_by_other_versions.py")


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory, start_simulator: Callable[[], SimulatorProcess]) -> Iterator[Clock]:
    with running_clock(tmp_path_factory.mktemp("clock"), start_simulator) as clock:
        clock.begin()
        yield clock


def test_pause_holds_back_what_has_ended_and_what_is_to_come_until_resumed(clock: Clock) -> None:
    clock.wait_for_states("diary", "ask", "deferred", "deferred")

    clock.api.pause("diary")
    clock.simulators["diary"].pace(0)
    clock.wait_for_states("diary", "ask", "scheduled", "scheduled")
    clock.let_the_scheduler_look()
    assert clock.states("diary", "ask") == ["scheduled", "scheduled"]
    assert len(clock.batch_ids("diary")) == 2
    clock.api.unpause("diary")

    runs = clock.wait_for_runs("diary", 3)
    days = [run["data_interval_start"][:10] for run in runs]
    assert days == ["2026-01-01", "2026-01-02", "2026-01-03"]
    manifests = [clock.manifest("diary", run["dag_run_id"], "ask") for run in runs]
    for day, manifest in zip(days, manifests, strict=True):
        assert [f"What happened on {day}?" in str(text) for text in texts(manifest).values()] == [True]
    assert sorted(id for manifest in manifests for id in manifest["batch_ids"]) == sorted(clock.batch_ids("diary"))
    assert clock.billed("diary") == [1, 1, 1]
    assert clock.canceled("diary") == 0


def test_catch_up_of_mapped_tasks_sends_one_submission_per_interval_and_index(clock: Clock) -> None:
    clock.wait_for_states("mapped", "ask", *["deferred"] * 9)

    clock.simulators["claude_default"].pace(0)

    runs = clock.wait_for_runs("mapped", 3)
    assert [run["data_interval_start"][:10] for run in runs] == ["2026-01-01", "2026-02-01", "2026-03-01"]
    manifests = [clock.manifest("mapped", run["dag_run_id"], "ask", index) for run in runs for index in range(3)]
    assert [len(manifest["batch_ids"]) for manifest in manifests] == [1] * 9
    assert sorted(manifest["batch_ids"][0] for manifest in manifests) == sorted(clock.batch_ids("claude_default"))
    assert len({manifest["submission_id"] for manifest in manifests}) == 9
    for run, tides in zip(runs, manifests[::3], strict=True):
        assert list(texts(tides)) == ["tides/1", "tides/2"]
        assert "Why are there two tides a day?" in str(texts(tides)["tides/1"])
        book = clock.api.returned("mapped", run["dag_run_id"], "bind")
        assert [line.partition(":")[0] for line in book] == [
            "tides/1", "tides/2", "winds/1", "winds/2", "winds/3", "clouds/1",
        ]  # fmt: skip
    assert clock.billed("claude_default") == [3] * 6
    assert clock.canceled("claude_default") == 0


def test_deferred_tasks_leave_the_one_slot_of_their_pool_to_others(clock: Clock) -> None:
    connection = "left_when_deferred"
    clock.wait_for_states("pooled", connection, *["deferred"] * 4)
    assert len(clock.batch_ids(connection)) == 4

    clock.simulators[connection].pace(0)

    clock.wait_for_states("pooled", connection, *["success"] * 4)
    manifests = [clock.manifest("pooled", "run", connection, index) for index in range(4)]
    for index, manifest in enumerate(manifests):
        assert [f"question {index}" in str(text) for text in texts(manifest).values()] == [True]
    assert clock.billed(connection) == [1] * 4


def test_pool_that_counts_deferred_tasks_bounds_the_open_batches(clock: Clock) -> None:
    connection = "kept_when_deferred"
    clock.wait_for_states("pooled", connection, "deferred", "scheduled")
    clock.let_the_scheduler_look()
    assert clock.states("pooled", connection) == ["deferred", "scheduled"]
    assert len(clock.batch_ids(connection)) == 1

    clock.simulators[connection].pace(0)

    clock.wait_for_states("pooled", connection, "success", "success")
    first, second = sorted(clock.simulators[connection].books()["batches"], key=lambda batch: batch["created_at"])
    assert first["ended_at"] <= second["created_at"]
    assert clock.billed(connection) == [1, 1]


def test_dag_and_package_changed_while_batches_run(clock: Clock) -> None:
    clock.wait_for_states("revised", "ask", "deferred")
    clock.wait_for_states("revised", "wait", "deferred")
    clock.airflow.kill("triggerer")
    clock.airflow.python(str(OTHER_VERSIONS))
    clock.replace_dag("revised", CLOCK_DAGS / "revised_since.py", "as revised")
    clock.simulators["revised"].pace(0)
    clock.airflow.start("triggerer")

    # What was under way is answered as it was asked.
    clock.wait_for_runs("revised", 1)
    assert [list(texts(clock.manifest("revised", "run", task))) for task in ("ask", "wait")] == [
        ["ant", "bee", "cat"]
    ] * 2
    assert clock.billed("revised") == [1] * 6

    # What is asked anew since is asked in today's words, and only that.
    clock.api.clear("revised", "run", "ask", "send", "wait")
    clock.wait_for_runs("revised", 1)
    assert [list(texts(clock.manifest("revised", "run", task))) for task in ("ask", "wait")] == [
        ["ant", "bee", "dog"]
    ] * 2
    assert clock.billed("revised") == [1] * 8
    assert clock.canceled("revised") == 0
