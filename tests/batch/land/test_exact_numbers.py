from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from airflow_claude_batch.batch.input.output_schema import OutputSchema, read_schema
from airflow_claude_batch.batch.land.exact_numbers import read_exact
from airflow_claude_batch.batch.land.exact_output import exact_output
from airflow_claude_batch.batch.land.rows import Row, RowBody
from airflow_claude_batch.batch.land.typed_output import output_reader
from airflow_claude_batch.batch.land.validate_output import OutputValidator


def is_valid(schema: dict[str, Any], text: str) -> bool:
    return OutputValidator(OutputSchema(format={}, schema=schema)).read(text, "end_turn")[1] is None


@pytest.mark.parametrize(
    ("schema", "text", "valid"),
    [
        ({"multipleOf": 0.01}, "0.07", True),
        ({"multipleOf": 0.01}, "19.99", True),
        ({"multipleOf": 0.01}, "0.071", False),
        ({"multipleOf": 0.1}, "1e22", True),
        ({"multipleOf": 3}, "100000000000000000002", True),
        ({"multipleOf": 0.5}, "100000000000000000.25", False),
        ({"maximum": 1}, "1.000000000000000001", False),
        ({"exclusiveMinimum": 1}, "1.000000000000000001", True),
        ({"minimum": 0.1}, "0.1", True),
        ({"maximum": 0.1}, "0.1", True),
        ({"maximum": 0.1}, "0.10000000000000000001", False),
        ({"minimum": 9007199254740993}, "9007199254740992", False),
        ({"enum": [0.1, 2.5]}, "0.1", True),
        ({"enum": [0.1, 2.5]}, "0.10000000000000000001", False),
        ({"const": 1}, "1.0", True),
        ({"type": "integer"}, "1.0", True),
        ({"type": "integer"}, "1e2", True),
        ({"type": "integer"}, "100000000000000000.5", False),
        ({"type": "number"}, "0.5", True),
        ({"type": "string"}, "0.5", False),
        ({"type": "number"}, "1e999", False),
        ({"type": "number"}, "1E-999999999", True),
        ({"multipleOf": 0.01}, "1E-999999999", True),
        ({"uniqueItems": True}, "[1.0, 1]", False),
        ({"uniqueItems": True}, "[0.1, 1e-1]", False),
        ({"uniqueItems": True}, "[0.1, 0.1000000000000000055511151231257827]", True),
        ({"uniqueItems": True}, '[{"a": [1], "b": 2}, {"b": 2, "a": [1.0]}]', False),
        ({"uniqueItems": True}, '[[1], [true], [[1]], 1, true, "1", null, [], {}, 0, false, ""]', True),
        ({"uniqueItems": True}, "[[true], [true]]", False),
        ({"uniqueItems": False}, "[1, 1]", True),
        ({"uniqueItems": True}, "1", True),
        ({"type": "number"}, "NaN", False),
    ],
)
def test_numbers_are_validated_by_their_digits(schema: dict[str, Any], text: str, valid: bool) -> None:
    assert is_valid(schema, text) is valid


def test_items_of_a_long_list_are_compared_in_one_pass() -> None:
    """Each with each would take minutes."""
    items = json.dumps([{"number": number} for number in range(5_000)])

    assert is_valid({"uniqueItems": True}, items)
    assert not is_valid({"uniqueItems": True}, f'{items[:-1]}, {{"number": 7}}]')


def test_error_of_a_number_names_what_the_author_wrote() -> None:
    _, error = OutputValidator(OutputSchema(format={}, schema={"maximum": 0.1})).read("0.2", "end_turn")

    assert error is not None
    assert error["message"] == "$ does not satisfy maximum: 0.1"


def test_amount_of_a_model_is_validated_by_its_digits() -> None:
    class Bill(BaseModel):
        net: float = Field(multiple_of=0.01, le=0.1)

    validator = OutputValidator(read_schema(Bill))
    assert validator.read('{"net": 0.07}', "end_turn")[1] is None
    assert validator.read('{"net": 0.075}', "end_turn")[1] is not None


def test_row_has_the_digits_of_the_answer() -> None:
    text = '{"a":100000000000000000.01,"b":[1.1,0.1000000000000000000001],"c":123456789012345678901234567890}'
    body = RowBody(status="succeeded", output=read_exact(text))

    for encoded in (body.encode(), RowBody.decode(body.encode()).encode()):
        assert f'"output":{text}' in encoded.decode()


@pytest.mark.parametrize("text", ['{"a":"\\ud83d"}', '{"a":"\\udc00"}'])
def test_half_a_surrogate_pair_in_an_output_is_replaced(text: str) -> None:
    assert read_exact(text) == {"a": "\ufffd"}


numbers = st.integers() | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**300), max_value=10**300)
values = st.recursive(
    numbers | st.text() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def written(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value)


@given(values)
def test_output_of_floats_gets_its_digits_back(value: Any) -> None:
    text = written(value)
    found = exact_output(Row(index=0, key=0, status="succeeded", text=text, output=json.loads(text)))

    assert _as_decimals(found) == value


def _as_decimals(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_decimals(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_as_decimals(inner) for inner in value]
    return Decimal(repr(value)) if isinstance(value, float) else value


def test_output_that_the_landing_corrected_keeps_its_correction() -> None:
    row = Row(
        index=0, key=0, status="succeeded", text='{"a":"RED","b":1.000000000000000001}', output={"a": "red", "b": 1.0}
    )

    assert exact_output(row) == {"a": "red", "b": Decimal("1.000000000000000001")}


def test_last_section_of_an_answer_with_server_tools_gives_the_digits() -> None:
    content = [
        {"type": "text", "text": '{"b":2.0}'},
        {"type": "server_tool_use", "id": "x"},
        {"type": "text", "text": '{"b":'},
        {"type": "text", "text": "1.000000000000000001}"},
    ]
    row = Row(index=0, key=0, status="succeeded", text="?", output={"b": 1.0}, message={"content": content})

    assert exact_output(row) == {"b": Decimal("1.000000000000000001")}


class Bounded(BaseModel):
    cents: Decimal = Field(decimal_places=2, default=Decimal(0))
    share: Decimal = Field(le=1, default=Decimal(0))
    day: date = date(2026, 1, 1)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"cents":1.000000000000000001}', "decimal_max_places"),
        ('{"share":1.0000000000000000001}', "less_than_equal"),
        ('{"share":1.0000000000000000001,"day":"2026-02-01"}', "less_than_equal"),
        ('{"cents":1.25,"share":1}', None),
    ],
)
def test_number_beyond_the_bounds_of_its_field_is_not_rounded_into_them(text: str, why: str | None) -> None:
    row = Row(index=0, key=0, status="succeeded", text=text, output=json.loads(text))

    read = output_reader(Bounded)(row)

    assert why is None if read.error is None else why is not None and why in read.error["message"]
