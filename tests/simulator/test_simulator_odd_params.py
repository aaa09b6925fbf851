"""Whatever passes the create call becomes a row, and an odd request never changes the row of another."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_params import BASES, JSON, SELF_REFERENCE, odd_params
from simulated import KEY, VERSION, Api, fixed_clock, params, request

from airflow_claude_batch.simulator import Simulator

individual = pytest.importorskip("anthropic.types.beta.messages.beta_message_batch_individual_response")
HEADERS = {"x-api-key": KEY, "content-type": "application/json"}
QUICK = settings(
    max_examples=25, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
VERSIONS = (VERSION, "2023-06-01")


def client(version: str, **options: Any) -> httpx.Client:
    headers = {**HEADERS, "anthropic-version": version, "anthropic-beta": "mcp-client-2025-11-20"}
    return httpx.Client(
        transport=Simulator(clock=fixed_clock(), **options).transport(),
        base_url="http://simulator.test",
        headers=headers,
    )


def check_rows(odd: list[Any], *, version: str, **options: Any) -> list[dict[str, Any]]:
    """Send odd params with an ordinary request. Returns the results of the odd ones, all of which the SDK reads."""
    with client(version, **options) as http:
        api = Api(http)
        items = [{"custom_id": f"odd{position}", "params": each} for position, each in enumerate(odd)]
        batch = api.created(*items, request("ordinary", prompt="hello"))
        outcomes = api.outcomes(batch)
        for custom_id, result in outcomes.items():
            individual.BetaMessageBatchIndividualResponse.model_validate(
                {"custom_id": custom_id, "result": result}, strict=True
            )
        assert outcomes["ordinary"]["message"]["content"][0]["text"].startswith("Simulated answer to “hello”")
        counts = api.retrieve(batch).json()["request_counts"]
        assert sum(counts.values()) == len(odd) + 1
        assert http.get("/_simulator/books").status_code == 200
    return [outcomes[f"odd{position}"] for position in range(len(odd))]


@given(st.lists(odd_params(), min_size=1, max_size=16), st.sampled_from(VERSIONS))
@QUICK
def test_odd_params_become_rows(odd: list[dict[str, Any]], version: str) -> None:
    check_rows(odd, version=version, outcome=lambda custom_id, params, attempt: None)


@given(odd_params())
@QUICK
def test_odd_params_are_counted_or_refused(odd: dict[str, Any]) -> None:
    counted = {name: odd[name] for name in odd if name not in ("max_tokens", "stream", "metadata", "stop_sequences")}
    with client(VERSION) as http:
        response = http.post("/v1/messages/count_tokens", json=counted)
    assert response.status_code in (200, 400, 404)
    assert response.status_code != 200 or response.json()["input_tokens"] > 0


@given(
    JSON
    | st.fixed_dictionaries({"requests": JSON})
    | st.fixed_dictionaries({"requests": st.lists(JSON, max_size=3)})
    | st.fixed_dictionaries({"requests": st.lists(st.fixed_dictionaries({"custom_id": JSON, "params": JSON}))})
)
@QUICK
def test_any_body_of_a_create_call_is_taken_or_refused(body: Any) -> None:
    with client(VERSION) as http:
        for path in ("/v1/messages/batches", "/v1/messages/count_tokens", "/v1/oauth/token"):
            response = http.post(path, json=body)
            assert response.status_code in (200, 400, 401), (path, response.text)
            assert response.status_code == 200 or response.json()["error"]["message"]


@pytest.mark.parametrize("position", range(len(BASES)))
def test_params_that_use_much_of_the_api_are_answered(position: int) -> None:
    (result,) = check_rows([BASES[position]], version=VERSION)
    assert result["type"] == "succeeded", result


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        pytest.param({"metadata": {"user_id": 42}}, "metadata.user_id: Input should be a valid string", id="user-id"),
        pytest.param({"model": {"id": 5}}, "model: Input should be a valid string", id="model"),
        pytest.param({"model": None}, "model: Input should be a valid string", id="no-model"),
        pytest.param({"stop_sequences": "abc"}, "stop_sequences: Input should be a valid list", id="stops"),
        pytest.param({"max_tokens": 1.0}, "max_tokens: Input should be a valid integer", id="float"),
        pytest.param({"tools": {"name": "x"}}, "tools: Input should be a valid list", id="tools"),
        pytest.param(
            {"messages": [{"role": "user", "content": 7}]}, "messages.0.content: Input should be", id="number"
        ),
    ],
)
def test_a_wrong_type_is_named(odd: dict[str, Any], said: str) -> None:
    (result,) = check_rows([{**params(), **odd}], version=VERSION)
    assert said in result["error"]["error"]["message"]


@pytest.mark.parametrize(
    "tools",
    [
        pytest.param([{"name": "t", "input_schema": SELF_REFERENCE}], id="schema-of-itself"),
        pytest.param([{"name": "t", "input_schema": {"type": "object", "const": 5}}], id="schema-of-no-object"),
        pytest.param([{"type": "bash_20250124", "name": "bash"}], id="tool-without-a-schema"),
        pytest.param(
            [
                {"type": "mcp_toolset", "mcp_server_name": "s"},
                {"type": "mcp_toolset", "mcp_server_name": "s2"},
                {"type": "web_search_20250305", "name": "web_search"},
                {"name": "t", "input_schema": {"type": "object"}},
            ],
            id="after-tools-of-servers",
        ),
    ],
)
def test_a_forced_tool_is_used_whatever_it_is(tools: list[dict[str, Any]]) -> None:
    (result,) = check_rows([params(tools=tools, tool_choice={"type": "any"})], version=VERSION)
    assert result["message"]["stop_reason"] == "tool_use"
    assert result["message"]["content"][0]["type"] == "tool_use"
    assert isinstance(result["message"]["content"][0]["input"], dict)


def test_a_forced_tool_that_the_api_would_run_leaves_a_text() -> None:
    tools = [{"type": "mcp_toolset", "mcp_server_name": "s"}]
    (result,) = check_rows([params(tools=tools, tool_choice={"type": "any"})], version=VERSION)
    assert [block["type"] for block in result["message"]["content"]] == ["text"]


@pytest.mark.parametrize("depth", [50, 190])
def test_deep_params_become_a_row(depth: int) -> None:
    deep: Any = "x"
    for level in range(depth):
        deep = {"items": deep} if level % 2 else [deep]
    check_rows(
        [
            params(metadata=deep),
            params(tools=[{"name": "t", "input_schema": deep}], tool_choice={"type": "any"}),
            params(output_config={"format": {"type": "json_schema", "schema": deep}}),
            params(messages=[{"role": "user", "content": [{"type": "tool_result", "content": deep}]}]),
        ],
        version=VERSION,
        outcome=lambda custom_id, params, attempt: None,
    )


@pytest.mark.parametrize("depth", [201, 900, 5000, 200_000])
def test_params_that_no_json_parser_reads_are_refused(depth: int) -> None:
    deep = '{"items":' * depth + "1" + "}" * depth
    item = json.dumps(request("odd")).replace('"max_tokens": 256', f'"max_tokens": 256, "metadata": {deep}')
    with client(VERSION) as http:
        for path, body in (
            ("/v1/messages/batches", f'{{"requests":[{item}]}}'),
            ("/v1/messages/batches", f'{{"requests":{deep}}}'),
            ("/v1/messages/batches", deep),
            ("/v1/messages/count_tokens", deep),
            ("/v1/oauth/token", deep),
        ):
            assert http.post(path, content=body).status_code == 400, path
