"""Output schemas on Airflow: the operator asks for them, and the landing task validates the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow_fixtures import KEY
from pydantic import BaseModel, Field, field_validator

from airflow_claude_batch.exceptions import ConfigurationError, OutputSchemaError
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor
from airflow_claude_batch.simulator import Simulator
from airflow_claude_batch.simulator.messages.schema_instances import schema_instance

MODEL = "claude-haiku-5-5"
DICT = {
    "type": "object",
    "properties": {"amount": {"type": "integer", "minimum": 1}, "kind": {"enum": ["Green Tea", "Coffee"]}},
    "required": ["amount"],
}


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class Line(BaseModel):
    product: str = Field(max_length=60)
    amount: int


class Order(BaseModel):
    """An order, as the customer wrote it."""

    customer: str | None
    due: date
    mood: Mood = Mood.GOOD
    lines: list[Line] = Field(min_length=1)
    note: str | None = None

    @field_validator("due")
    @classmethod
    def is_this_century(cls, due: date) -> date:
        if due.year < 2000:
            raise ValueError("too old")
        return due


class Model:
    """A model with scripted answers, else an instance of the schema. It keeps the formats it was asked for."""

    def __init__(self) -> None:
        self.says: dict[str, Any] = {}
        self.stops: dict[str, str] = {}
        self.needs: dict[str, int] = {}
        self.formats: dict[str, Any] = {}

    def answer(self, params: dict[str, Any], n: int) -> str:
        prompt = params["messages"][-1]["content"]
        config = self.formats[prompt] = params.get("output_config")
        if prompt in self.says:
            said = self.says[prompt]
            return said if isinstance(said, str) else json.dumps(said)
        return json.dumps(schema_instance(config["format"]["schema"], seed=n, text=prompt))

    def outcome(self, custom_id: str, params: dict[str, Any], attempt: int) -> str | None:
        prompt = params["messages"][-1]["content"]
        return "max_tokens" if params["max_tokens"] < self.needs.get(prompt, 0) else self.stops.get(prompt)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def simulator(model: Model) -> Simulator:
    return Simulator(keys={KEY: "wrkspc_test"}, answer=model.answer, outcome=model.outcome)


@pytest.fixture
def results_path(tmp_path: Path) -> str:
    return str(tmp_path / "results")


@pytest.fixture
def ask(run_dag: Callable[..., Any], claude_default: str, results_path: str) -> Callable[..., Run]:
    """Run a DAG whose first task sends. With ``sense``, a second task waits."""

    def ask(messages: list[Any], *, sense: dict[str, Any] | None = None, **arguments: Any) -> Run:
        with DAG("structured") as dag:
            send = SendMessageBatchOperator(
                task_id="ask",
                messages=messages,
                model=MODEL,
                results_path=results_path,
                wait_for_completion=sense is None,
                **arguments,
            )
            if sense is not None:
                MessageBatchSensor(task_id="wait", batch=send.output, poke_interval=0.01, **sense)
        return Run(run_dag(dag), "ask" if sense is None else "wait", Path(results_path))

    return ask


class Run:
    """The result of a DAG run."""

    def __init__(self, run: Any, task_id: str, results_path: Path) -> None:
        (self.ti,) = (ti for ti in run.get_task_instances() if ti.task_id == task_id)
        self.state = str(self.ti.state)
        self.manifest: dict[str, Any] = self.ti.xcom_pull(task_ids=task_id)
        self.path = next(results_path.rglob("results.jsonl"))

    @property
    def rows(self) -> dict[Any, dict[str, Any]]:
        rows = map(json.loads, self.path.read_text().splitlines())
        return {row["key"]: row for row in rows}


@pytest.mark.airflow
class TestAnswers:
    @pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])
    def test_of_a_pydantic_model_are_read_as_instances(
        self, deferrable: bool, ask: Callable[..., Run], model: Model
    ) -> None:
        run = ask(["one", "two"], output_schema=Order, deferrable=deferrable)

        assert run.state == "success"
        orders = [row.output for row in read_rows(run.manifest, schema=Order)]
        assert [type(order) for order in orders] == [Order, Order]
        assert orders[0].lines[0].product == "one"
        assert [row["output"]["due"] for row in run.manifest["responses"]] == ["2026-11-22", "2026-11-22"]
        asked = model.formats["one"]["format"]["schema"]
        assert asked["additionalProperties"] is False
        assert asked["$defs"]["Line"]["properties"]["product"]["description"] == "{maxLength: 60}"

    def test_of_a_list_type_are_read_as_lists(self, ask: Callable[..., Run], model: Model) -> None:
        model.says["none"] = []
        run = ask(["one", "none"], output_schema=list[Line])

        assert run.state == "success"
        lines = [row.output for row in read_rows(str(run.path), schema=list[Line])]
        assert isinstance(lines[0][0], Line)
        assert lines[1] == []

    def test_are_validated_by_the_sensor(
        self,
        ask: Callable[..., Run],
        model: Model,
        caplog: pytest.LogCaptureFixture,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        model.says.update(
            {
                "good": {"amount": 7},
                "cased": {"amount": 1, "kind": "green tea"},
                "low": {"amount": 0},
                "words": "I would rather not say.",
            }
        )
        model.stops.update({"refused": "refusal:cyber", "cut": "max_tokens"})
        keys = ["good", "cased", "low", "words", "refused", "cut"]
        messages = [{"key": key, "prompt": key} for key in keys]

        run = ask(messages, output_schema=DICT, sense={"allow_failed": 4, "deferrable": True})

        assert run.state == "success"
        assert run.manifest["counts"]["succeeded"] == 2
        assert run.manifest["counts"]["invalid_output"] == 4
        assert run.manifest["stop_reasons"] == {"end_turn": 4, "refusal": 1, "max_tokens": 1}
        logs = "".join((caplog.text, *capsys.readouterr()))
        assert "Incomplete or refused answers, by stop_reason: 1 max_tokens, 1 refusal." in logs
        rows = run.rows
        assert list(rows) == keys
        assert rows["cased"]["output"] == {"amount": 1, "kind": "Green Tea"}
        assert rows["cased"]["text"] == '{"amount": 1, "kind": "green tea"}'
        assert (rows["low"]["status"], rows["low"]["output"], rows["low"]["text"]) == (
            "invalid_output",
            None,
            '{"amount": 0}',
        )
        assert rows["low"]["error"] == {
            "type": "invalid_output",
            "message": "$.amount does not satisfy minimum: 1",
            "path": "$.amount",
        }
        assert rows["words"]["text"] == "I would rather not say."
        assert "the model refused" in rows["refused"]["error"]["message"]
        assert "raise max_tokens" in rows["cut"]["error"]["message"]
        assert all(row["usage"] and row["cost_usd"] for row in rows.values())

    def test_that_are_invalid_fail_the_task_for_good(
        self,
        ask: Callable[..., Run],
        model: Model,
        simulator: Simulator,
        caplog: pytest.LogCaptureFixture,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        model.says.update({"low": {"amount": 0}, "good": {"amount": 1}})

        run = ask(["low", "good"], output_schema=DICT, retries=3, allow_failed=0)

        assert run.state == "failed"
        logs = "".join((caplog.text, *capsys.readouterr()))
        assert "invalid_output: $.amount does not satisfy minimum: 1" in logs
        assert [row["status"] for row in run.rows.values()] == ["invalid_output", "succeeded"]
        assert simulator.books()["billed_requests"] == 2

    def test_to_requests_with_their_own_format_are_not_validated(self, ask: Callable[..., Run], model: Model) -> None:
        model.says.update({"ours": {"amount": 1}, "api": {"amount": 2}})
        own = {"format": {"type": "json_schema", "schema": {"type": "array", "items": {"type": "string"}}}}
        messages = [
            {"key": "ours", "prompt": "ours", "params": {"output_config": {"effort": "low"}}},
            {"key": "own", "prompt": "own", "params": {"output_config": own}},
            {"custom_id": "api", "params": {"messages": [{"role": "user", "content": "api"}]}},
        ]

        run = ask(messages, output_schema=DICT)

        assert {key: (row["status"], row["output"] is None) for key, row in run.rows.items()} == {
            "ours": ("succeeded", False),
            "own": ("succeeded", True),
            "api": ("succeeded", False),
        }
        assert model.formats["ours"] == {"effort": "low", "format": model.formats["api"]["format"]}
        assert model.formats["own"] == own

    def test_that_fail_the_model_validators_are_named_when_read(self, ask: Callable[..., Run], model: Model) -> None:
        order = {"customer": "Ada", "lines": [{"product": "tea", "amount": 1}]}
        model.says.update({"new": {**order, "due": "2026-11-23"}, "old": {**order, "due": "1999-12-31"}})
        run = ask([{"key": key, "prompt": key} for key in ("new", "old")], output_schema=Order)

        new, old = read_rows(run.manifest, schema=Order)

        assert new.output.due == date(2026, 11, 23)
        assert (old.status, old.output) == ("invalid_output", None)
        assert (old.error or {})["path"] == "$.due"
        assert "value_error" in (old.error or {})["message"]

    def test_cut_off_at_max_tokens_are_requested_again_with_more(
        self, ask: Callable[..., Run], model: Model, simulator: Simulator
    ) -> None:
        model.needs["long"] = 100
        run = ask(["short", "long"], output_schema=Order, max_tokens=64, repair_invalid=True, deferrable=True)

        assert run.state == "success"
        long = run.rows[1]
        assert long["status"] == "succeeded"
        assert [before["stop_reason"] for before in long["replaced"]] == ["max_tokens"]
        assert simulator.books()["billed_requests"] == 3

    def test_of_mapped_tasks_are_validated(
        self, run_dag: Callable[..., Any], claude_default: str, results_path: str, model: Model
    ) -> None:
        with DAG("mapped_structured") as dag:
            SendMessageBatchOperator.partial(
                task_id="ask",
                model=MODEL,
                output_schema=Order,
                results_path=results_path,
                wait_for_completion=True,
            ).expand(messages=[["one"], ["two", "three"]])
        run = run_dag(dag)

        assert run.state == "success"
        paths = sorted(Path(results_path).rglob("results.jsonl"))
        assert [len(list(read_rows(str(path), schema=Order))) for path in paths] == [1, 2]


# ------------------------------------------------------------------ when the DAG is parsed


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        pytest.param(
            {"type": "object", "properties": {"a": {"type": "object"}}},
            r"ask: output_schema\.properties\.a: an object with properties of any name.*\nList them",
            id="a dict",
        ),
        pytest.param(dict[str, int], "ask: output_schema: an object with properties of any name", id="a type"),
        pytest.param(
            "{{ params.schema }}",
            r"ask: output_schema: '\{\{ params.schema \}\}' is not a type .*\nGive a pydantic",
            id="a template",
        ),
    ],
)
def test_unsupported_schema_is_refused_at_parse(schema: Any, message: str) -> None:
    with pytest.raises(OutputSchemaError, match=message):
        SendMessageBatchOperator(task_id="ask", messages=["one"], output_schema=schema)


def test_repair_invalid_without_a_schema_is_refused_at_parse() -> None:
    with pytest.raises(ConfigurationError, match="ask: repair_invalid needs output_schema"):
        SendMessageBatchOperator(task_id="ask", messages=["one"], repair_invalid=True)
