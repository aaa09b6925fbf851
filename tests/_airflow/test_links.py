"""The address that the button of a task instance leads to."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, urljoin, urlsplit
from uuid import UUID

import pytest

from airflow_claude_batch._airflow.compat import loop_iteration
from airflow_claude_batch._airflow.links import ClaudeBatchLink, submission_address
from airflow_claude_batch._airflow.task_rows import TaskKey
from airflow_claude_batch.decorators import ClaudeBatchDecoratedOperator
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor
from airflow_claude_batch.web.links import log_href, task_href, task_query

#: Each has characters with a meaning in an address, or of other scripts.
NAMES = (
    "a+b",
    "a b",
    "a/b",
    "a&task_id=x",
    "a=b",
    "a?b",
    "a#b",
    "%2B",
    "..",
    "a;b",
    "é中🙂",
    "manual__2026-01-01T00:00:00+00:00",
)


@dataclass(frozen=True)
class Key:
    dag_id: str
    run_id: str
    task_id: str
    map_index: int | None = -1


@pytest.mark.parametrize("name", NAMES)
def test_names_come_back_from_the_address(name: str) -> None:
    dag_id, run_id, task_id, map_index = name, f"run {name}", f"task.{name}", 7
    address = submission_address(Key(dag_id, run_id, task_id, map_index))
    assert address.isascii()
    expected = {"dag_id": [dag_id], "run_id": [run_id], "task_id": [task_id], "map_index": [str(map_index)]}
    assert parse_qs(urlsplit(address).query, keep_blank_values=True) == expected


def test_a_plus_is_no_space_and_a_task_that_is_not_mapped_has_no_index() -> None:
    address = submission_address(Key("d", "manual__2026-01-01T00:00:00+00:00", "t"))
    assert address == "claude-batch/submission?dag_id=d&run_id=manual__2026-01-01T00%3A00%3A00%2B00%3A00&task_id=t"


@pytest.mark.parametrize("base", ["http://localhost:8080/", "https://example.com/some/airflow/"])
def test_it_is_relative_to_the_base_of_airflows_ui(base: str) -> None:
    assert urljoin(base, submission_address(Key("d", "r", "t"))).startswith(f"{base}claude-batch/submission?")


NO_REGION = UUID(int=0)


@dataclass(frozen=True)
class KeyOf34(Key):
    """A task instance as Airflow 3.4 has it."""

    region_id: UUID = NO_REGION
    region_index: int = -1


@dataclass(frozen=True)
class Group:
    parent_group: Group | None = None


@dataclass(frozen=True)
class Loop(Group):
    gate_task_id: str = "gate"


@dataclass(frozen=True)
class Task:
    task_group: Group

    def get_closest_mapped_task_group(self) -> None:
        return None


REGION = UUID("0198a3d2-7f11-7000-8000-00000000000a")


@pytest.mark.parametrize(
    ("key", "group", "expected"),
    [
        pytest.param(KeyOf34("d", "r", "t"), Group(), "", id="plain task"),
        pytest.param(KeyOf34("d", "r", "t", 3, REGION, 3), Group(), "&map_index=3", id="mapped task"),
        pytest.param(
            KeyOf34("d", "r", "t", -1, REGION, 2), Loop(), f"&map_index=2&region={REGION.hex}", id="iteration"
        ),
        pytest.param(
            KeyOf34("d", "r", "t", 3, REGION, 3),
            Group(parent_group=Loop()),
            f"&map_index=3&region={REGION.hex}",
            id="mapped task in a loop",
        ),
    ],
)
def test_iteration_of_a_loop_is_named_by_its_region(key: KeyOf34, group: Group, expected: str) -> None:
    assert submission_address(key, Task(group)) == f"claude-batch/submission?dag_id=d&run_id=r&task_id=t{expected}"


def test_page_links_to_the_iteration_in_airflows_ui() -> None:
    key = TaskKey("d", "r", "t", 2, REGION.hex)

    assert task_query(key) == {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": "2", "region": REGION.hex}
    assert task_href(key) == f"../dags/d/runs/r/tasks/t?region_id={REGION}&region_index=2"
    assert log_href(key, 3) == f"{task_href(key)}&try_number=3"
    assert log_href(TaskKey("d", "r", "t", 2), 3) == "../dags/d/runs/r/tasks/t/mapped/2?try_number=3"


@dataclass(frozen=True)
class Iteration:
    index: int


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        pytest.param(Loop(), "loop-2", id="loop"),
        pytest.param(Group(parent_group=Loop()), "loop-2", id="group in a loop"),
        pytest.param(Loop(parent_group=Loop()), f"loop-2-{REGION.hex}", id="loop in a loop"),
    ],
)
def test_iteration_is_named_by_its_number_where_that_is_enough(group: Group, expected: str) -> None:
    @dataclass(frozen=True)
    class Running(KeyOf34):
        task: Task = Task(group)

    ti = Running("d", "r", "t", -1, REGION, 2)
    assert loop_iteration({"ti": ti, "loop": Iteration(2)}) == expected  # type: ignore[typeddict-item]
    assert loop_iteration({"ti": ti}) is None  # type: ignore[typeddict-item]


@pytest.mark.parametrize("task", [SendMessageBatchOperator, MessageBatchSensor, ClaudeBatchDecoratedOperator])
def test_each_kind_of_task_has_the_button(task: type) -> None:
    (link,) = task.operator_extra_links  # type: ignore[attr-defined]
    assert isinstance(link, ClaudeBatchLink)
    assert (link.name, link.xcom_key) == ("Claude batch", "_link_ClaudeBatchLink")
    assert link.get_link(None, ti_key=Key("d", "r", "t")) == submission_address(Key("d", "r", "t"))
