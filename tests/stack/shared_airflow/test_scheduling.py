"""DAGs on a real scheduler that follows schedules: catch-up, mapped tasks, pools, a pause, changes while they run.

All DAGs are unpaused at once and wait in parallel. Each has its own simulator.
"""

from pathlib import Path

import pytest
from airflow_stack import DagStack

from shared_airflow.preparations import Preparations
from shared_airflow.scheduling_stack import DAG_IDS as DAG_IDS
from shared_airflow.scheduling_stack import SCHEDULING_DAGS, SchedulingStack, texts

pytestmark = pytest.mark.stack

STORE_OTHER_KWARGS = Path(__file__).with_name("store_other_versions_kwargs.py")


def prepare(dag_stack: DagStack) -> SchedulingStack:
    stack = SchedulingStack.of(dag_stack)
    stack.begin()
    stack.wait_for_states("revised", "ask", "deferred")
    stack.wait_for_states("revised", "wait", "deferred")
    return stack


def while_triggerer_is_down(_dag_stack: DagStack, stack: SchedulingStack) -> None:
    """Change the DAG ``revised``, and what the package has stored of its triggers."""
    stack.airflow.python(str(STORE_OTHER_KWARGS), "revised")
    stack.replace_dag("revised", SCHEDULING_DAGS / "revised_since.py", "as revised")
    stack.simulators["revised"].pace(0)


@pytest.fixture(scope="module")
def stack(preparations: Preparations) -> SchedulingStack:
    return preparations.result_of(prepare)


def test_paused_dag_continues_ended_and_future_runs_after_it_is_unpaused(stack: SchedulingStack) -> None:
    stack.wait_for_states("diary", "ask", "deferred", "deferred")

    stack.api.pause("diary")
    stack.simulators["diary"].pace(0)
    stack.wait_for_states("diary", "ask", "scheduled", "scheduled")
    stack.wait_for_scheduler_loop()
    assert stack.states("diary", "ask") == ["scheduled", "scheduled"]
    assert len(stack.batch_ids("diary")) == 2
    stack.api.unpause("diary")

    runs = stack.wait_for_runs("diary", 3)
    days = [run["data_interval_start"][:10] for run in runs]
    assert days == ["2026-01-01", "2026-01-02", "2026-01-03"]
    manifests = [stack.manifest("diary", run["dag_run_id"], "ask") for run in runs]
    for day, manifest in zip(days, manifests, strict=True):
        assert [f"What happened on {day}?" in str(text) for text in texts(manifest).values()] == [True]
    assert sorted(id for manifest in manifests for id in manifest["batch_ids"]) == sorted(stack.batch_ids("diary"))
    assert stack.billed("diary") == [1, 1, 1]
    assert stack.canceled("diary") == 0


def test_catch_up_of_mapped_tasks_sends_one_submission_per_interval_and_index(stack: SchedulingStack) -> None:
    stack.wait_for_states("mapped", "ask", *["deferred"] * 9)

    stack.simulators["mapped"].pace(0)

    runs = stack.wait_for_runs("mapped", 3)
    assert [run["data_interval_start"][:10] for run in runs] == ["2026-01-01", "2026-02-01", "2026-03-01"]
    manifests = [stack.manifest("mapped", run["dag_run_id"], "ask", index) for run in runs for index in range(3)]
    assert [len(manifest["batch_ids"]) for manifest in manifests] == [1] * 9
    assert sorted(manifest["batch_ids"][0] for manifest in manifests) == sorted(stack.batch_ids("mapped"))
    assert len({manifest["submission_id"] for manifest in manifests}) == 9
    for run, tides in zip(runs, manifests[::3], strict=True):
        assert list(texts(tides)) == ["tides/1", "tides/2"]
        assert "Why are there two tides a day?" in str(texts(tides)["tides/1"])
        book = stack.api.returned("mapped", run["dag_run_id"], "bind")
        assert [line.partition(":")[0] for line in book] == [
            "tides/1", "tides/2", "winds/1", "winds/2", "winds/3", "clouds/1",
        ]  # fmt: skip
    assert stack.billed("mapped") == [3] * 6
    assert stack.canceled("mapped") == 0


def test_deferred_tasks_free_the_only_slot_of_their_pool(stack: SchedulingStack) -> None:
    connection = "left_when_deferred"
    stack.wait_for_states("pooled", connection, *["deferred"] * 4)
    assert len(stack.batch_ids(connection)) == 4

    stack.simulators[connection].pace(0)

    stack.wait_for_states("pooled", connection, *["success"] * 4)
    manifests = [stack.manifest("pooled", "run", connection, index) for index in range(4)]
    for index, manifest in enumerate(manifests):
        assert [f"question {index}" in str(text) for text in texts(manifest).values()] == [True]
    assert stack.billed(connection) == [1] * 4


def test_pool_that_counts_deferred_tasks_limits_the_running_batches(stack: SchedulingStack) -> None:
    connection = "kept_when_deferred"
    stack.wait_for_states("pooled", connection, "deferred", "scheduled")
    stack.wait_for_scheduler_loop()
    assert stack.states("pooled", connection) == ["deferred", "scheduled"]
    assert len(stack.batch_ids(connection)) == 1

    stack.simulators[connection].pace(0)

    stack.wait_for_states("pooled", connection, "success", "success")
    first, second = sorted(stack.simulators[connection].books()["batches"], key=lambda batch: batch["created_at"])
    assert first["ended_at"] <= second["created_at"]
    assert stack.billed(connection) == [1, 1]


def test_dag_and_package_changed_while_batches_run(stack: SchedulingStack, triggerer_killed: None) -> None:
    # The running batches are answered as they were sent.
    stack.wait_for_runs("revised", 1)
    assert [list(texts(stack.manifest("revised", "run", task))) for task in ("ask", "wait")] == [
        ["ant", "bee", "cat"]
    ] * 2
    assert stack.billed("revised") == [1] * 6

    # After a clear, only the changed request is sent, with the new prompt.
    stack.api.clear("revised", "run", "ask", "send", "wait")
    stack.wait_for_runs("revised", 1)
    assert [list(texts(stack.manifest("revised", "run", task))) for task in ("ask", "wait")] == [
        ["ant", "bee", "dog"]
    ] * 2
    assert stack.billed("revised") == [1] * 8
    assert stack.canceled("revised") == 0
