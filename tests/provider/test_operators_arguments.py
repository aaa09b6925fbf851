"""Arguments that are refused when the DAG is parsed."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from airflow.sdk import DAG, task

from airflow_claude_batch._airflow.check_operator import FLAGS
from airflow_claude_batch._airflow.check_requests import API_PARAMETERS
from airflow_claude_batch._airflow.compat import ASKING_SUPPORTED
from airflow_claude_batch.exceptions import ConfigurationError, InputError
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor


def operator(**arguments: Any) -> SendMessageBatchOperator:
    return SendMessageBatchOperator(task_id="send", messages=["a"], **arguments)


def sensor(**arguments: Any) -> MessageBatchSensor:
    return MessageBatchSensor(task_id="wait", batch="msgbatch_1", **arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(
            {"on_timeout": "stop"}, "on_timeout must be 'cancel', 'leave' or 'ask_directly', not", id="on_timeout"
        ),
        pytest.param({"direct_concurrency": 0}, "direct_concurrency must be a whole number from 1 to 64", id="none"),
        pytest.param({"direct_concurrency": 65}, "direct_concurrency must be a whole number from 1 to", id="too many"),
        pytest.param({"direct_concurrency": True}, "direct_concurrency must be a whole number from 1", id="a bool"),
        pytest.param({"direct_reserve": 0}, "direct_reserve must be seconds or a timedelta above zero", id="reserve 0"),
        pytest.param(
            {"on_timeout": "ask_directly"},
            "on_timeout='ask_directly' needs wait_for_completion=True",
            id="nobody waits",
        ),
        pytest.param(
            {"on_timeout": "ask_directly", "wait_for_completion": True, "timeout": 600},
            "direct_reserve (0:30:00) must be shorter than timeout (0:10:00)",
            id="reserve too long",
        ),
        pytest.param(
            {
                "on_timeout": "ask_directly",
                "wait_for_completion": True,
                "execution_timeout": timedelta(minutes=33),
            },
            "direct_reserve (0:30:00) must be shorter than timeout (0:29:42)",
            id="execution_timeout",
        ),
        pytest.param({"on_lost": None}, "on_lost must be 'stop' or 'resend', not None", id="on_lost"),
        pytest.param(
            {"results_format": "xlsx"}, "results_format must be 'jsonl', 'parquet' or 'csv'", id="results_format"
        ),
        pytest.param(
            {"timeout": timedelta()}, "timeout must be seconds or a timedelta above zero, not", id="timeout 0"
        ),
        pytest.param(
            {"timeout": timedelta(hours=-1)}, "timeout must be seconds or a timedelta ab", id="timeout below 0"
        ),
        pytest.param({"timeout": 0}, "timeout must be seconds or a timedelta above zero, not 0", id="timeout 0 s"),
        pytest.param({"timeout": True}, "timeout must be seconds or a timedelta above zero, not True", id="bool"),
        pytest.param({"timeout": float("inf")}, "timeout must be seconds or a timedelta above", id="timeout infinite"),
        pytest.param({"timeout": timedelta.max}, "timeout must be seconds or a timedelta", id="timeout beyond dates"),
        pytest.param({"timeout": "3600"}, "timeout must be seconds or a timedelta above zero, not '3600'", id="text"),
        pytest.param({"on_empty": "ignore"}, "on_empty must be 'fail', 'skip' or 'succeed', not", id="on_empty"),
        pytest.param(
            {"repair_rounds": -1}, "repair_rounds must be a whole number, 0 for no repair, not -1", id="rounds < 0"
        ),
        pytest.param({"repair_rounds": "1"}, "repair_rounds must be a whole number", id="rounds of text"),
        pytest.param({"repair_rounds": True}, "repair_rounds must be a whole number", id="rounds bool"),
        pytest.param({"repair_rounds": 1.5}, "repair_rounds must be a whole number", id="rounds float"),
        pytest.param({"max_cost": "much"}, "max_cost must be an amount of US dollars", id="max_cost of text"),
        pytest.param({"max_cost": -1}, "max_cost must be an amount of US dollars", id="max_cost below 0"),
        pytest.param({"max_cost": float("nan")}, "max_cost must be an amount of US dollars", id="max_cost NaN"),
        pytest.param({"approve_above": "much"}, "approve_above must be an amount of US dollars", id="approve_above"),
        pytest.param({"approval_timeout": 0}, "approval_timeout must be seconds or a timedelta a", id="approval 0 s"),
        pytest.param({"approval_timeout": "1 h"}, "approval_timeout must be seconds or a timed", id="approval text"),
        pytest.param({"on_rejected": "retry"}, "on_rejected must be 'fail' or 'skip', not 'retry'", id="on_rejected"),
        pytest.param({"sample": 20}, "sample needs approve_above.", id="sample alone"),
        pytest.param(
            {"sample": True, "approve_above": 5}, "sample must be a whole number of requests up to 1,000", id="bool"
        ),
        pytest.param(
            {"sample": 1001, "approve_above": 5}, "sample must be a whole number of requests up to 1,000", id="large"
        ),
    ],
)
def test_invalid_operator_argument_is_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        operator(**arguments)

    assert str(error.value).startswith(f"send: {says}")


@pytest.mark.skipif(ASKING_SUPPORTED, reason="this Airflow can ask a person")
def test_question_is_refused_where_airflow_cannot_ask() -> None:
    with pytest.raises(ConfigurationError, match=r"^send: approve_above needs Airflow 3\.1 or newer"):
        operator(approve_above=50)


BOTH = pytest.mark.parametrize("make", [operator, sensor])


@BOTH
@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (-1, "Write a number of rows (5), or a share of them from 0.0 to 1.0 (0.05) or in percent"),
        (-0.1, "Write a number of rows (5)"),
        (1.5, "Write a number of rows (5)"),
        (5.0, 'For a number of rows write 5, for a share "5%".'),
        (200.0, "For a number of rows write 200."),
        (float("nan"), "Write a number of rows (5)"),
        (float("inf"), "Write a number of rows (5)"),
        (True, "Write a number of rows (5)"),
        (False, "Write a number of rows (5)"),
        ("1", 'Write a share in percent, such as "5%".'),
        ("101%", "Write a number of rows (5)"),
        ("-5%", "Write a share in percent"),
        ([5], "Write a number of rows (5)"),
    ],
    ids=repr,
)
def test_allow_failed_is_a_number_of_rows_or_a_share(make: Any, value: Any, remedy: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        make(allow_failed=value)

    first, _, rest = str(error.value).partition("\n")
    assert "allow_failed must be a number of rows, or a share of them, not" in first
    assert rest.startswith(remedy)


@BOTH
@pytest.mark.parametrize("value", [0, 7, 0.0, 0.5, 1.0, "5%", " 0.5 %", "100%"], ids=repr)
def test_allow_failed_may_be_none_or_all(make: Any, value: Any) -> None:
    assert make(allow_failed=value).allow_failed == value


def test_operator_needs_its_allow_failed_and_a_sensor_may_leave_it_to_the_operator() -> None:
    assert sensor(allow_failed=None).allow_failed is None
    with pytest.raises(ConfigurationError, match="allow_failed must be"):
        operator(allow_failed=None)


@BOTH
@pytest.mark.parametrize("value", [0, -5, "60", True, float("nan"), float("inf"), timedelta()], ids=repr)
def test_poll_interval_is_above_zero(make: Any, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="poll_interval must be seconds or a timedelta above zero, not"):
        make(poll_interval=value)


@BOTH
def test_times_are_seconds_or_timedeltas(make: Any) -> None:
    task = make(poll_interval=timedelta(minutes=1), timeout=timedelta(hours=2))

    assert task.poll_interval == 60
    assert make(poll_interval=60, timeout=7200).poll_interval == 60
    assert make(timeout=7200).timeout == make(timeout=7200.0).timeout == task.timeout


def test_sensor_refuses_a_timeout_below_zero_and_may_look_once() -> None:
    assert sensor(timeout=0).timeout == 0
    with pytest.raises(ConfigurationError, match="wait: timeout must be seconds or a timedelta, not -1"):
        sensor(timeout=-1)


@pytest.mark.parametrize(
    ("given", "poll", "poke"),
    [
        ({}, None, 60),
        ({"poll_interval": 30}, 30, 30),
        ({"poke_interval": 300}, 300, 300),
        ({"poke_interval": timedelta(minutes=5)}, 300, 300),
        ({"poke_interval": 0}, None, 0),
        ({"poll_interval": 30, "poke_interval": 300}, 30, 300),
        ({"poll_interval": 30, "default_args": {"poke_interval": 300}}, 30, 300),
    ],
    ids=str,
)
def test_one_interval_is_enough_however_a_sensor_waits(given: dict[str, Any], poll: Any, poke: Any) -> None:
    task = sensor(**given)

    assert (task.poll_interval, task.poke_interval) == (poll, poke)


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_flag_is_no_text(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"send: {name} must be True or False, not the text 'False'"):
        operator(**{name: "False"})


@pytest.mark.parametrize("name", ["deferrable", "cancel_on_kill", "delete_batches", "start_from_trigger"])
def test_flag_of_a_sensor_is_no_text(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"wait: {name} must be True or False, not the text"):
        sensor(**{name: "{{ params.it }}"})


@BOTH
def test_argument_that_does_not_exist_is_refused(make: Any) -> None:
    with pytest.raises(TypeError, match="prompts"):
        make(prompts="a")


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


@pytest.mark.parametrize(
    "reading",
    [
        {"model": "{{ params.model }}"},
        {"request_params": {"metadata": {"user_id": "{{ params['model'] }}"}}},
        {"system": lambda context, jinja_env: context["params"]["model"]},
        {"map_index_template": "{{ params.model }}"},
        {"on_success_callback": [lambda context: context["params"]["model"]]},
        {"pre_execute": lambda context: context["params"]["model"]},
    ],
    ids=["argument", "deep", "function", "label", "callback", "hook"],
)
def test_params_that_a_template_reads_may_have_any_name(reading: dict[str, Any]) -> None:
    assert operator(params={"model": "claude-haiku-5-5"}, **reading).params["model"] == "claude-haiku-5-5"


def test_params_that_a_subclass_may_read_may_have_any_name() -> None:
    class Subclass(SendMessageBatchOperator):
        pass

    assert Subclass(task_id="t", messages=["a"], params={"model": "m"}).params["model"] == "m"


def test_params_that_the_function_may_read_may_have_any_name() -> None:
    @task.claude_batch(params={"temperature": 0})
    def with_params(params: Any) -> list[str]:
        return [f"{params['temperature']}"]

    @task.claude_batch(params={"temperature": 0})
    def without() -> list[str]:
        return ["a"]

    with DAG("d"):
        with_params()
        with pytest.raises(ConfigurationError, match="params has temperature"):
            without()


WITH_MESSAGES = pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param({"messages": None}, "messages is None.\nGive a list", id="None"),
        pytest.param(
            {"messages": {"prompt": "a"}}, "messages is a mapping, and must be a list of el", id="one element"
        ),
        pytest.param({"messages": 7}, "messages is of type int, and must be a list of elements.\nGive", id="number"),
        pytest.param({"messages": b"a"}, "messages is of type bytes", id="bytes"),
        pytest.param({"messages": {"a", "b"}}, "messages is a set, whose order changes", id="set"),
        pytest.param({"messages": io.StringIO("a")}, "messages is an open file", id="open file"),
        pytest.param({"model": ""}, "model is '', which is no model's id.\nGive an id such as", id="model empty"),
        pytest.param({"model": " "}, "model is ' ', which is no model's id", id="model blank"),
        pytest.param({"model": 5}, "model is 5, which is no model's id", id="model number"),
        pytest.param({"max_tokens": 0}, "max_tokens must be a whole number of at least 1, not 0", id="max_tokens 0"),
        pytest.param({"max_tokens": "-5"}, "max_tokens must be a whole number of at least 1, not '-5'", id="digits"),
        pytest.param({"max_tokens": "0"}, "max_tokens must be a whole number of at least 1, not 0", id="text 0"),
        pytest.param({"max_tokens": True}, "max_tokens must be a whole number of at least 1, not True", id="bool"),
        pytest.param({"max_tokens": 1.5}, "max_tokens must be a whole number of at least 1, not 1.5", id="float"),
        pytest.param(
            {"system": "prompts/label.md"}, "system is 'prompts/label.md', the path of a file, which", id="system path"
        ),
        pytest.param(
            {"system": Path("label.txt")},
            "system is 'label.txt', the path of a file, which is not read.\nGive",
            id="system Path",
        ),
        pytest.param(
            {"temperature": 0},
            "the operator has no argument temperature, a parameter of the Messages API.\nGive it in request_params",
            id="parameter of the API",
        ),
        pytest.param(
            {"anthropic_conn_id": "a"},
            "the operator has no argument anthropic_conn_id.\nDid you mean claude_conn_id",
            id="argument of another provider",
        ),
        pytest.param({"request_params": ["a"]}, "request_params is of type list, and must be a mapping", id="list"),
        pytest.param({"request_params": "a"}, "request_params is of type str, and must be a mapping", id="text"),
        pytest.param(
            {"model": "a", "request_params": {"model": "b"}},
            "model is given twice: as the argument model, and in request_params.\nGive only model=…",
            id="model twice",
        ),
        pytest.param({"max_tokens": 4096, "request_params": {"max_tokens": 5}}, "max_tokens is given twice", id="mt"),
        pytest.param({"system": "a", "request_params": {"system": "b"}}, "system is given twice", id="system twice"),
        pytest.param({"request_params": {"messages": []}}, "request_params has 'messages', which", id="messages there"),
        pytest.param({"request_params": {"stream": True}}, "request_params: 'stream' is not available", id="stream"),
        pytest.param(
            {"output_schema": {"type": "string"}, "request_params": {"output_config": {"format": None}}},
            "the format of answers is given twice",
            id="schema and format",
        ),
        pytest.param({"cache_system": True}, "cache_system=True needs a system prompt", id="nothing to cache"),
    ],
)


@WITH_MESSAGES
def test_request_that_cannot_be_right_is_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        SendMessageBatchOperator(task_id="send", **{"messages": ["a"], **arguments})

    assert str(error.value).startswith(f"send: {says}")


@pytest.mark.parametrize(
    "arguments",
    [
        {"model": "{{ params.model }}", "request_params": {"model": "b"}},
        {"model": "a", "request_params": {"model": "{{ params.model }}"}},
        {"request_params": "{{ params.all }}", "model": "a"},
        {"max_tokens": "{{ 5 }}", "request_params": {"max_tokens": 5}},
        {"max_tokens": " 17 "},
        {"max_tokens": None},
        {"request_params": {"max_tokens": 5, "model": "a", "system": "s"}, "cache_system": True},
        {"messages": "{{ given }}"},
        {"messages": ()},
        pytest.param({"messages": lambda context, jinja_env: None}, id="messages from a function"),
    ],
    ids=str,
)
def test_request_that_may_be_right_is_left_to_the_run(arguments: dict[str, Any]) -> None:
    SendMessageBatchOperator(task_id="send", **{"messages": ["a"], **arguments})


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


@BOTH
def test_template_fields_are_values_that_airflow_can_send(make: Any) -> None:
    """The DAG processor sends each DAG as msgpack, which knows no subclass of a number."""
    task = make()

    for name in task.template_fields:
        msgspec.msgpack.encode(getattr(task, name))


@pytest.mark.parametrize("name", ["on_timeout", "direct_reserve", "direct_concurrency"])
def test_sensor_says_that_only_the_operator_can_ask_directly(name: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        sensor(**{name: "ask_directly"})

    assert f"the sensor has no argument {name}" in str(refused.value)
    assert "wait_for_completion=True" in str(refused.value)
