from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_claude_batch.api import wire
from airflow_claude_batch.batch.input.output_schema import read_schema
from airflow_claude_batch.batch.land.parse_result import parse_result
from airflow_claude_batch.batch.land.rows import Status
from airflow_claude_batch.batch.land.validate_output import OutputValidator
from airflow_claude_batch.batch.money.pricing import PriceTable

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOL = [{"type": "server_tool_use", "id": "t", "name": "web_search", "input": {}}]
TOOL_RESULT = [*TOOL, {"type": "web_search_tool_result", "tool_use_id": "t", "content": []}]
THINKING = [{"type": "thinking", "thinking": "hm", "signature": "x"}]


def texts(*values: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": value} for value in values]


@pytest.mark.parametrize(
    ("content", "output"),
    [
        pytest.param(texts('{"a":1}'), {"a": 1}, id="one block"),
        pytest.param(texts('{"a"', ":1", "}"), {"a": 1}, id="several blocks"),
        pytest.param([*texts('{"a":0}'), *TOOL_RESULT, *texts('{"a":1}')], {"a": 1}, id="JSON in each section"),
        pytest.param([*texts("I look."), *TOOL_RESULT, *texts('{"a":1}')], {"a": 1}, id="words first"),
        pytest.param([*texts("I look."), *TOOL_RESULT, *texts('{"a"', ":1}")], {"a": 1}, id="words, then several"),
        pytest.param([*texts("I look."), *TOOL, *texts('{"a"', " ", ":1}")], {"a": 1}, id="a blank block within"),
        pytest.param([*texts('{"a":0}'), *TOOL_RESULT, *texts('{"b":1}', '{"a":1}')], {"a": 1}, id="last block"),
        pytest.param(
            [*texts("I look."), *TOOL_RESULT, *texts('{"a":1}'), *TOOL, *texts(" ")], {"a": 1}, id="blank end"
        ),
        pytest.param(
            [*texts("I look."), *TOOL_RESULT, *texts('{"a":1}'), *TOOL_RESULT], {"a": 1}, id="a tool at the end"
        ),
        pytest.param([*THINKING, *texts('{"a":0}'), *THINKING, *texts('{"a":1}')], {"a": 1}, id="thinking between"),
        pytest.param([*texts('{"a":0}'), *TOOL_RESULT, *texts("Done.")], None, id="words at the end"),
        pytest.param([*texts('{"a":0}'), *TOOL_RESULT, *texts('{"a":"x"}')], None, id="invalid at the end"),
        pytest.param([*TOOL_RESULT], None, id="no text"),
        pytest.param([], None, id="nothing"),
    ],
)
def test_last_section_decides_if_the_whole_text_is_no_valid_value(content: list[Any], output: Any) -> None:
    message = {
        "model": "claude-haiku-5-5",
        "content": content,
        "usage": {"input_tokens": 1, "output_tokens": 1},
        "stop_reason": "end_turn",
    }
    line = json.dumps({"custom_id": "c", "result": {"type": "succeeded", "message": message}}).encode()
    validator = OutputValidator(read_schema(SCHEMA))
    parsed = parse_result(wire.decode_result_line(line), "b", PriceTable.load(), validator)
    row = json.loads(b"{" + parsed.body)

    assert row["output"] == output
    assert parsed.status is (Status.REPAIRABLE_OUTPUT if output is None else Status.SUCCEEDED)
    assert row["text"] == ("".join(block.get("text", "") for block in content if block["type"] == "text") or None)
