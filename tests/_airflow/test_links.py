"""The address that the button of a task instance leads to."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest

from airflow_claude_batch._airflow.links import ClaudeBatchLink, submission_address
from airflow_claude_batch.decorators import ClaudeBatchDecoratedOperator
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor

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


@pytest.mark.parametrize("task", [SendMessageBatchOperator, MessageBatchSensor, ClaudeBatchDecoratedOperator])
def test_each_kind_of_task_has_the_button(task: type) -> None:
    (link,) = task.operator_extra_links  # type: ignore[attr-defined]
    assert isinstance(link, ClaudeBatchLink)
    assert (link.name, link.xcom_key) == ("Claude batch", "_link_ClaudeBatchLink")
    assert link.get_link(None, ti_key=Key("d", "r", "t")) == submission_address(Key("d", "r", "t"))
