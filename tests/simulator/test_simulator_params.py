"""Params that lead to an errored row, and its error messages."""

from __future__ import annotations

from typing import Any

import pytest
from simulated import Api, request

from airflow_claude_batch.simulator import ManualClock, Simulator

OLD = "2023-06-01"
OLD_MODEL = "claude-haiku-4-5-20251001"
TOOL = {"name": "look", "input_schema": {"type": "object"}}
USER = {"role": "user", "content": "hello"}
ASSISTANT = {"role": "assistant", "content": "Well"}


def block(**fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [fields]}]


def schema(**fields: Any) -> dict[str, Any]:
    return {"output_config": {"format": {"type": "json_schema", "schema": fields}}}


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


OBSERVED = [
    pytest.param({"messages": None}, "messages: Field required", id="no messages"),
    pytest.param({"messages": []}, "messages: at least one message is required", id="empty messages"),
    pytest.param({"stream": True}, '"`stream=True` is not supported in the Message Batches API"', id="stream"),
    pytest.param({"max_tokens": 0}, "max_tokens: must be greater than or equal to 1", id="max_tokens 0"),
    pytest.param(
        {"model": "claude-haiku-4-5", "max_tokens": 9_999_999},
        "max_tokens: 9999999 > 64000, which is the maximum allowed number of output tokens for "
        "claude-haiku-4-5-20251001",
        id="max_tokens above the cap",
    ),
    pytest.param(
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}},
        "Tool 'x' not found in provided tools",
        id="a tool that is not there",
    ),
    pytest.param(
        {"messages": block(type="image", source={"type": "url", "url": "https://nowhere.invalid/a.png"})},
        "Unable to download the file. Please verify the URL and try again.",
        id="a URL that cannot be fetched",
    ),
    pytest.param({"temperature": 1}, "temperature: Extra inputs are not permitted", id="temperature"),
    pytest.param({"surprise": 1}, "surprise: Extra inputs are not permitted", id="unknown field"),
]


@pytest.mark.parametrize(("changes", "message"), OBSERVED)
def test_observed_messages_are_quoted(api: Api, changes: dict[str, Any], message: str) -> None:
    error = api.row_error(**changes)
    assert error is not None
    assert error["message"] == message
    assert error["type"] == "invalid_request_error"
    assert error["details"] == {"error_visibility": "user_facing"}


@pytest.mark.parametrize(
    "model",
    ["claude-does-not-exist-9", "claude-3-opus-20240229", "claude-opus-4-1", "claude-opus-5-20260723", ""],
)
def test_an_unknown_or_retired_model_is_not_found(api: Api, model: Any) -> None:
    error = api.row_error(model=model)
    assert error is not None
    assert (error["type"], error["message"]) == ("not_found_error", f"model: {model}")


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        pytest.param({"model": None}, "model: Field required", id="no model"),
        pytest.param({"max_tokens": None}, "max_tokens: Field required", id="no max_tokens"),
        pytest.param({"max_tokens": "5"}, "valid integer", id="max_tokens text"),
        pytest.param({"max_tokens": True}, "valid integer", id="max_tokens true"),
        pytest.param({"speed": "fast"}, "speed", id="speed"),
        pytest.param({"fallbacks": [{}]}, "fallbacks", id="fallbacks"),
        pytest.param({"thread": {}}, "thread", id="thread"),
        pytest.param({"store": True}, "store", id="store"),
        pytest.param({"previous_thread_event_id": "x"}, "previous_thread_event_id", id="previous_thread_event_id"),
        pytest.param({"context_hint": "x"}, "context_hint", id="context_hint"),
        pytest.param({"mcp_servers": []}, "Extra inputs", id="beta field without beta"),
        pytest.param({"messages": "hi"}, "valid list", id="messages text"),
        pytest.param({"messages": ["hi"]}, "messages.0", id="message text"),
        pytest.param({"messages": [{"role": "user"}]}, "messages.0.content: Field required", id="no content"),
        pytest.param({"messages": [{"content": "x"}]}, "messages.0.role: Field required", id="no role"),
        pytest.param({"messages": [{**USER, "name": "x"}]}, "messages.0.name: Extra inputs", id="extra in message"),
        pytest.param({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role", id="role"),
        pytest.param({"messages": [{"role": "user", "content": ""}]}, "non-empty content", id="empty content"),
        pytest.param({"messages": [{"role": "user", "content": []}]}, "non-empty content", id="no blocks"),
        pytest.param({"messages": [{"role": "user", "content": 7}]}, "messages.0.content", id="content number"),
        pytest.param({"messages": [ASSISTANT, USER]}, "first message", id="assistant first"),
        pytest.param({"messages": [USER, ASSISTANT]}, "prefill", id="prefill"),
        pytest.param({"messages": block(type="sound")}, "sound", id="block type"),
        pytest.param({"messages": block(type=["x"])}, "messages.0.content.0", id="block type list"),
        pytest.param({"messages": block(text="x")}, "type: Field required", id="block without type"),
        pytest.param({"messages": block(type="text", text="")}, "must be non-empty", id="empty text"),
        pytest.param({"messages": block(type="text")}, "text: Field required", id="no text"),
        pytest.param({"messages": block(type="image")}, "source: Field required", id="no source"),
        pytest.param(
            {"messages": block(type="text", text="x", citations=[{"type": "char_location"}])},
            "citations",
            id="citations by a user",
        ),
        pytest.param(
            {"messages": [USER, {"role": "assistant", "content": [{"type": "document", "source": {}}]}, USER]},
            "document",
            id="document by an assistant",
        ),
        pytest.param({"system": 7}, "system", id="system number"),
        pytest.param({"system": [{"type": "image"}]}, "system.0.type", id="system image"),
        pytest.param({"tools": [{}]}, "tools.0.name", id="tool without name"),
        pytest.param({"tools": [TOOL, TOOL]}, "unique", id="same tools"),
        pytest.param({"tools": {}, "tool_choice": {"type": "any"}}, "tools", id="any tool of none"),
        pytest.param({"tool_choice": {"type": "all"}}, "tool_choice.type", id="tool_choice"),
        pytest.param({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "adaptive", id="thinking enabled"),
        pytest.param({"thinking": {"type": "deep"}}, "thinking.type", id="thinking type"),
        pytest.param({"model": "claude-opus-5-5", "thinking": {"type": "disabled"}}, "disabling", id="disabled"),
        pytest.param(
            {"model": OLD_MODEL, "thinking": {"type": "enabled", "budget_tokens": 5}}, "1024", id="small budget"
        ),
        pytest.param(
            {"model": OLD_MODEL, "thinking": {"type": "enabled", "budget_tokens": 2000}},
            "`max_tokens` must be greater",
            id="budget above max_tokens",
        ),
        pytest.param({"output_config": {"effort": "huge"}}, "effort", id="effort"),
        pytest.param({"output_config": {"format": {"type": "xml"}}}, "json_schema", id="format"),
        pytest.param({"output_config": {"format": {"type": "json_schema"}}}, "Field required", id="no schema"),
        pytest.param(schema(type="thing"), "JSON schema is invalid", id="invalid schema"),
        pytest.param({"tools": [{"name": "t", "input_schema": {"type": 7}}]}, "tools.0", id="invalid tool schema"),
        pytest.param(schema(type="object", properties={}), "additionalProperties", id="open object"),
        pytest.param(schema(**closed(a={"type": "object"})), "additionalProperties", id="open inner object"),
        pytest.param(schema(type="integer", minimum=1), "'integer' type, properties minimum", id="minimum"),
        pytest.param(schema(**closed(a={"type": "string", "maxLength": 3})), "maxLength", id="maxLength"),
        pytest.param(schema(type="array", items={}, minItems=2), "minItems", id="minItems 2"),
        pytest.param(schema(**{"$ref": "https://example.com/x.json"}), "external references", id="external $ref"),
        pytest.param(schema(**closed(a={"$ref": "#"})), "Recursive", id="recursion"),
        pytest.param(
            schema(**{**closed(a={"$ref": "#/$defs/b"}), "$defs": {"b": closed(c={"$ref": "#/$defs/b"})}}),
            "Recursive",
            id="recursion below",
        ),
        pytest.param(schema(**closed(**{f"p{n}": {} for n in range(25)})), "too complex", id="25 optional"),
        pytest.param(
            schema(
                **{**closed(**{f"p{n}": {"anyOf": [{}]} for n in range(17)}), "required": [f"p{n}" for n in range(17)]}
            ),
            "too complex",
            id="17 unions",
        ),
        pytest.param({"cache_control": {"type": "forever"}}, "ephemeral", id="cache type"),
        pytest.param({"cache_control": {"type": "ephemeral", "ttl": "2h"}}, "ttl", id="cache ttl"),
        pytest.param(
            {"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}] * 5},
            "maximum of 4 blocks",
            id="five cache marks",
        ),
        pytest.param(
            {
                "system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}],
                "cache_control": {"type": "ephemeral", "ttl": "1h"},
            },
            "must not come after",
            id="longer cache lifetime later",
        ),
        pytest.param(
            {"model": OLD_MODEL, "messages": [{"role": "user", "content": "x" * 800_001}]}, "too long", id="long"
        ),
        pytest.param({"metadata": {"user_id": "x" * 513}}, "512", id="user_id"),
        pytest.param({"metadata": 7}, "metadata", id="metadata"),
        pytest.param({"stop_sequences": "x"}, "stop_sequences", id="stop_sequences"),
        pytest.param({"service_tier": "fast"}, "service_tier", id="service_tier"),
        pytest.param({"model": OLD_MODEL, "inference_geo": "us"}, "inference_geo", id="inference_geo"),
    ],
)
def test_other_invalid_params_are_errored(api: Api, changes: dict[str, Any], part: str) -> None:
    error = api.row_error(**changes)
    assert error is not None
    assert error["type"] == "invalid_request_error"
    assert part in error["message"]


@pytest.mark.parametrize("model", ["claude-fable-5-1", "claude-opus-5-5", "claude-sonnet-5-5"])
@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "look"}], ids=["any", "tool"])
def test_some_models_refuse_forced_tools(api: Api, model: str, choice: dict[str, str]) -> None:
    error = api.row_error(model=model, tools=[TOOL], tool_choice=choice)
    assert error is not None
    assert "forced tool use" in error["message"]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"stream": False}, id="stream false"),
        pytest.param({"messages": [USER, {"role": "system", "content": "x"}]}, id="system message"),
        pytest.param({"model": OLD_MODEL, "messages": [USER, ASSISTANT]}, id="prefill on an old model"),
        pytest.param({"tools": [TOOL], "tool_choice": {"type": "any"}}, id="forced tool"),
        pytest.param({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, id="adaptive thinking"),
        pytest.param({"metadata": {"user_id": "x" * 512}, "service_tier": "auto"}, id="details"),
        pytest.param({"inference_geo": "us"}, id="inference_geo"),
        pytest.param({"speed": None}, id="speed absent"),
        pytest.param(schema(**closed(a={"type": "string", "format": "date"})), id="schema"),
    ],
)
def test_valid_params_succeed(api: Api, changes: dict[str, Any]) -> None:
    assert api.row_error(**changes) is None


@pytest.mark.parametrize(
    ("model", "changes", "accepted"),
    [
        (OLD_MODEL, {"temperature": 0.2, "top_p": 0.5, "top_k": 3}, True),
        ("claude-sonnet-4-6", {"temperature": 0}, True),
        ("claude-opus-4-7", {"temperature": 1}, True),
        ("claude-opus-4-7", {"temperature": 0.2}, False),
        ("claude-opus-4-7", {"top_k": 5}, False),
        (OLD_MODEL, {"temperature": "warm"}, False),
    ],
)
def test_the_old_version_accepts_sampling_params(
    simulator: Simulator, connect: Any, model: str, changes: dict[str, Any], accepted: bool
) -> None:
    api = connect(simulator, version=OLD)
    assert (api.row_error(model=model, **changes) is None) is accepted


def test_the_old_version_allows_citations_and_documents(simulator: Simulator, connect: Any) -> None:
    api = connect(simulator, version=OLD)
    document = {"role": "assistant", "content": [{"type": "document", "source": {"type": "text", "data": "x"}}]}
    cited = {"role": "user", "content": [{"type": "text", "text": "x", "citations": [{}]}]}
    assert api.row_error(messages=[USER, document, cited]) is None


class TestHeadersOfTheBatch:
    def error(self, api: Api, headers: dict[str, str], **changes: Any) -> Any:
        batch = api.created(request("a", **changes), **headers)
        return api.outcomes(batch)["a"].get("error")

    def test_the_output_beta_raises_the_cap(self, api: Api) -> None:
        beta = {"anthropic-beta": "output-300k-2026-03-24"}
        assert self.error(api, {}, max_tokens=128_001) is not None
        assert self.error(api, beta, max_tokens=300_000) is None
        assert self.error(api, beta, max_tokens=300_001) is not None
        assert self.error(api, beta, max_tokens=128_001, model="claude-fable-5-1") is not None

    def test_beta_fields_need_a_beta(self, api: Api) -> None:
        assert self.error(api, {"anthropic-beta": "mcp-client-2026-09-15"}, mcp_servers=[]) is None

    def test_a_user_profile_must_not_conflict(self, api: Api) -> None:
        header = {"anthropic-user-profile-id": "uprof_1"}
        assert self.error(api, header, user_profile_id="uprof_1") is None
        assert self.error(api, header, user_profile_id="uprof_2") is not None


def test_a_model_is_checked_when_the_batch_is_created(clock: ManualClock, connect: Any) -> None:
    simulator = Simulator(clock=clock, batch_seconds=3600)
    api = connect(simulator)
    clock.advance(8 * 24 * 3600 - 10 * 3600)  # an hour before the 30th
    early = api.created(request(model="claude-sonnet-4-5"))
    clock.advance(3600)
    late = api.created(request(model="claude-sonnet-4-5"))
    clock.advance(3600)
    assert api.outcomes(early)["a"]["type"] == "succeeded"
    assert api.outcomes(late)["a"]["error"]["error"]["type"] == "not_found_error"
