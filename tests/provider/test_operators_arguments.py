"""Arguments that are refused when the DAG is parsed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_claude_batch.exceptions import ConfigurationError, InputError
from airflow_claude_batch.operators import API_PARAMETERS, SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor


def operator(**arguments: Any) -> SendMessageBatchOperator:
    return SendMessageBatchOperator(task_id="send", messages=["a"], **arguments)


def sensor(**arguments: Any) -> MessageBatchSensor:
    return MessageBatchSensor(task_id="wait", batch="msgbatch_1", **arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param({"on_timeout": "stop"}, "on_timeout must be 'cancel' or 'leave', not 'stop'", id="on_timeout"),
        pytest.param({"on_lost": None}, "on_lost must be 'stop' or 'resend', not None", id="on_lost"),
        pytest.param({"results_format": "csv"}, "results_format must be 'jsonl' or 'parquet'", id="results_format"),
        pytest.param(
            {"timeout": 3600},
            "timeout must be a timedelta above zero, not 3600.\nWrite timeout=timedelta(seconds=3600).",
            id="timeout of a number",
        ),
        pytest.param({"timeout": timedelta()}, "timeout must be a timedelta above zero", id="timeout 0"),
        pytest.param({"timeout": timedelta(hours=-1)}, "timeout must be a timedelta above zero", id="timeout below 0"),
        pytest.param(
            {"repair_rounds": -1}, "repair_rounds must be a whole number, 0 for no repair, not -1", id="rounds < 0"
        ),
        pytest.param({"repair_rounds": "1"}, "repair_rounds must be a whole number", id="rounds of text"),
        pytest.param({"repair_rounds": True}, "repair_rounds must be a whole number", id="rounds bool"),
        pytest.param({"repair_rounds": 1.5}, "repair_rounds must be a whole number", id="rounds float"),
        pytest.param({"max_cost": "much"}, "max_cost must be an amount of US dollars", id="max_cost of text"),
        pytest.param({"max_cost": -1}, "max_cost must be an amount of US dollars", id="max_cost below 0"),
        pytest.param({"max_cost": float("nan")}, "max_cost must be an amount of US dollars", id="max_cost NaN"),
    ],
)
def test_invalid_operator_argument_is_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        operator(**arguments)

    assert str(error.value).startswith(f"send: {says}")


BOTH = pytest.mark.parametrize("make", [operator, sensor])


@BOTH
@pytest.mark.parametrize("value", [-1, 1.5, -0.1, True, "1", None, float("nan")], ids=repr)
def test_allow_failed_is_a_number_of_rows_or_a_share(make: Any, value: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"allow_failed must be a number of rows \(5\), or a share from 0\.0 to"
    ):
        make(allow_failed=value)


@BOTH
@pytest.mark.parametrize("value", [0, 7, 0.0, 0.5, 1.0])
def test_allow_failed_may_be_none_or_all(make: Any, value: float) -> None:
    assert make(allow_failed=value).allow_failed == value


@BOTH
@pytest.mark.parametrize("value", [0, -5, "60", True], ids=repr)
def test_poll_interval_is_a_number_of_seconds(make: Any, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="poll_interval must be a number of seconds above zero"):
        make(poll_interval=value)


@BOTH
def test_argument_that_does_not_exist_is_refused(make: Any) -> None:
    with pytest.raises(TypeError, match="prompt"):
        make(prompt="a")


@pytest.mark.parametrize("name", sorted(API_PARAMETERS))
def test_api_parameter_in_params_is_refused(name: str) -> None:
    with pytest.raises(
        ConfigurationError,
        match=rf"send: params has {name}, which Airflow does not send to the API\.\nUse request_params",
    ):
        operator(params={name: {}})


def test_dag_params_may_have_any_name() -> None:
    with DAG("d", params={"tools": ["hammer"], "thinking": "slowly"}):
        operator(params={"country": "DE"})


def test_unsupported_output_schema_is_refused_with_the_task_id() -> None:
    with pytest.raises(InputError, match="send: "):
        operator(output_schema={"type": "nonsense"})


def test_request_params_leave_dag_params_alone() -> None:
    task = operator(params={"country": "DE"}, request_params={"thinking": {"type": "adaptive"}})

    assert task.params["country"] == "DE"
    assert task.request_params == {"thinking": {"type": "adaptive"}}


@pytest.mark.parametrize(("configured", "expected"), [("True", True), ("False", False), (None, False)])
@BOTH
def test_deferrable_defaults_to_the_deployment_setting(
    make: Any, configured: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if configured:
        monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", configured)

    assert make().deferrable is expected
    assert make(deferrable=not expected).deferrable is not expected
