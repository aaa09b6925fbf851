from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_claude_batch._airflow import compat
from airflow_claude_batch._airflow.compat import BaseOperator, Context


@pytest.mark.parametrize("name", compat.__all__)
def test_every_name_exists_on_this_airflow(name: str) -> None:
    assert getattr(compat, name) is not None


def test_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        compat.Nonsense  # noqa: B018  (reading it is the test)


def test_error_classes_are_airflow_exceptions() -> None:
    family = (compat.AirflowFailException, compat.AirflowSkipException, compat.TaskDeferralTimeout)
    assert all(issubclass(each, compat.AirflowException) for each in family)


@pytest.mark.airflow
def test_task_state_store_exists_exactly_on_supported_versions(run_dag: Callable[..., Any]) -> None:
    seen: list[bool] = []

    class Look(BaseOperator):
        def execute(self, context: Context) -> None:
            seen.append("task_state_store" in context)

    with DAG("compat_state_store", schedule=None) as dag:
        Look(task_id="look")
    run_dag(dag)

    assert seen == [compat.TASK_STATE_STORE_SUPPORTED]


def test_on_kill_exists_exactly_on_supported_versions() -> None:
    assert hasattr(compat.BaseTrigger, "on_kill") == compat.ON_KILL_SUPPORTED
