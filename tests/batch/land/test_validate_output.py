"""Answers are validated against the schema that they were asked for with."""

from __future__ import annotations

import json
from typing import Any

import pytest
from batch.input.schemas import PERSON, TEXT, Person, obj

from airflow_claude_batch.batch.input.output_schema import OutputSchema, read_schema
from airflow_claude_batch.batch.land.validate_output import OutputValidator


def validate(schema: Any, answer: Any, stop_reason: str = "end_turn") -> tuple[Any, dict[str, Any] | None]:
    text = answer if isinstance(answer, str | None) else json.dumps(answer)
    return OutputValidator(read_schema(schema)).read(text, stop_reason)


class TestAnswers:
    def test_a_valid_one_is_the_value(self) -> None:
        assert validate(Person, PERSON) == (PERSON, None)
        assert validate(obj(a=TEXT), ' {"a": "\u2028"}\n') == ({"a": "\u2028"}, None)

    @pytest.mark.parametrize(
        ("change", "message", "path"),
        [
            pytest.param({"name": 1}, '$.name does not satisfy type: "string"', "$.name", id="type"),
            pytest.param({"color": "blue"}, '$.color does not satisfy enum: ["red", "green"]', "$.color", id="enum"),
            pytest.param({"tags": list("abcd")}, "$.tags does not satisfy maxItems: 3", "$.tags", id="not for the API"),
            pytest.param(
                {"pets": [{"kind": "cat", "lives": 10}]},
                "$.pets[0].lives does not satisfy maximum: 9",
                "$.pets[0].lives",
                id="in a branch",
            ),
            pytest.param(
                {"home": {"street": "x"}}, "$.home: 'postcode' is a required property", "$.home", id="missing"
            ),
        ],
    )
    def test_an_invalid_one_is_named_with_its_place(self, change: dict[str, Any], message: str, path: str) -> None:
        assert validate(Person, {**PERSON, **change}) == (
            None,
            {"type": "invalid_output", "message": message, "path": path},
        )

    def test_the_reason_says_nothing_of_the_answer(self) -> None:
        schema = obj(a={"type": "string", "maxLength": 3}, b={"enum": ["x"]}, c={"not": {"const": "s3cret"}, **TEXT})
        for answer in ({"a": "s3cret"}, {"a": "x", "b": "s3cret", "c": ""}, {"s3cret": 1}, '{"a": s3cret}', "s3cret"):
            error = validate(schema, answer)[1]
            assert error is not None
            assert "s3cret" not in str(error)

    @pytest.mark.parametrize(
        ("text", "stop_reason", "message"),
        [
            pytest.param(
                '{"a": "b', "max_tokens", "(stop_reason max_tokens; it was cut off: raise max_tokens)", id="cut"
            ),
            pytest.param("I cannot.", "refusal", "(stop_reason refusal; the model refused)", id="refused"),
            pytest.param(None, "refusal", "the model refused): there is no text", id="refused without a word"),
            pytest.param("", "end_turn", "(stop_reason end_turn): there is no text", id="empty"),
            pytest.param(None, "tool_use", "(stop_reason tool_use): there is no text", id="a tool call"),
            pytest.param("```json\n{}```", "end_turn", "(stop_reason end_turn): JSON is malformed", id="not JSON"),
            pytest.param('{"a": "b"} {"a": "b"}', "end_turn", "JSON is malformed", id="twice"),
            pytest.param("NaN", "end_turn", "JSON is malformed", id="NaN"),
            pytest.param("[" * 100_000, "max_tokens", "recursion", id="too deep"),
        ],
    )
    def test_what_cannot_be_read_is_named_with_its_stop_reason(
        self, text: str | None, stop_reason: str, message: str
    ) -> None:
        output, error = validate(obj(a=TEXT), text, stop_reason)

        assert output is None
        assert error is not None
        assert (error["type"], error["path"]) == ("invalid_output", None)
        assert message in error["message"]

    def test_a_whole_answer_counts_whatever_stopped_it(self) -> None:
        assert validate(obj(a=TEXT), {"a": "b"}, "max_tokens") == ({"a": "b"}, None)

    def test_a_cut_number_may_be_another(self) -> None:
        assert validate({"type": "integer"}, "12", "end_turn") == (12, None)
        output, error = validate({"type": "integer"}, "12", "max_tokens")
        assert output is None
        assert error is not None

    def test_what_only_differs_in_case_gets_the_schemas_spelling(self) -> None:
        kinds = {"enum": ["New York", "Rome"]}
        schema = obj(
            city=kinds, cities={"type": "array", "items": {"anyOf": [kinds, {"type": "null"}]}}, kind={"const": "a b"}
        )
        answer = {"city": "new york", "cities": ["ROME", None, "New york"], "kind": "A B"}

        output, error = validate(schema, answer)

        assert error is None
        assert output == {"city": "New York", "cities": ["Rome", None, "New York"], "kind": "a b"}
        assert validate(kinds, '"rome"') == ("Rome", None)

    @pytest.mark.parametrize("said", ["topic A", "Other"])
    def test_what_may_be_two_values_is_neither(self, said: str) -> None:
        assert validate(obj(a={"enum": ["Topic a", "topic a"]}), {"a": said})[0] is None

    def test_properties_that_the_author_allows_are_allowed(self) -> None:
        assert validate({"properties": {"a": TEXT}}, {"a": "x", "b": 1}) == ({"a": "x", "b": 1}, None)

    def test_numbers_keep_their_size(self) -> None:
        assert validate({"type": "integer"}, "123456789012345678901234567890") == (123456789012345678901234567890, None)


def test_requests_that_ask_for_the_schema_are_recognised() -> None:
    schema = read_schema(Person)
    validator = OutputValidator(OutputSchema(schema.schema, json.loads(json.dumps(schema.format))))

    for _ in range(2):  # the second time from memory
        assert validator.is_asked_for(json.dumps({"format": schema.format, "effort": "low"}).encode())
        for other in (b"null", b"{}", b'{"format":null}', b'{"format":{}}', json.dumps(schema.format).encode()):
            assert not validator.is_asked_for(other)


def test_schema_that_cannot_be_applied_costs_the_row_and_not_the_landing() -> None:
    """It passes every check, and each validation would go on for ever.

    Where it stands when the stack ends decides on the error: there is native code below jsonschema.
    """
    validator = OutputValidator(read_schema({"type": "integer", "not": {"$ref": "#"}}))

    def read(depth: int) -> tuple[Any, dict[str, Any] | None]:
        return read(depth - 1) if depth else validator.read("3", "end_turn")

    read_at = [read(depth) for depth in range(30)]

    why = (
        "The output schema could not be applied to the answer ({}). The answer is kept in text. "
        "Look in the schema for a $ref or a pattern that does not end"
    )
    errors = [
        {"type": "invalid_output", "message": why.format(kind), "path": None}
        for kind in ("RecursionError", "PanicException")
    ]
    assert all(value is None and error in errors for value, error in read_at)
    assert any(error == errors[0] for _, error in read_at)
