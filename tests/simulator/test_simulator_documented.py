"""Requests that the vendor's documentation names as valid, each beside one that is a step too far.

Pages of platform.claude.com/docs/en: handling-stop-reasons, compaction, tool-reference (client toolsets),
mcp-connector, extended-thinking, api/messages/create.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from simulated import KEY, VERSION, Api, fixed_clock, request

from airflow_claude_batch.simulator import Simulator

individual = pytest.importorskip("anthropic.types.beta.messages.beta_message_batch_individual_response")
OLD = "2023-06-01"
COMPACT = "compact-2026-01-12"
INTERLEAVED = "interleaved-thinking-2025-05-14"
MCP = "mcp-client-2025-11-20"
INLINE = "inline-tools-2026-09-15"
EFFORT = "mid-conversation-output-config-2026-07-01"

USER = {"role": "user", "content": "hello"}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
CALL = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
MCP_CALL = {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "find", "server_name": "s", "input": {}}
SUMMARY = {"type": "compaction", "content": "What was said."}
TEXT = {"type": "text", "text": "Well"}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "done"}
TOOL = {"name": "look", "input_schema": {"type": "object"}}
SERVER = {"type": "url", "name": "s", "url": "https://x.example"}
TOOLSET = {"type": "mcp_toolset", "mcp_server_name": "s"}
COMPUTER, BROWSER = {"type": "computer_toolset_20260801"}, {"type": "browser_toolset_20260801"}
ANY = {"type": "any"}


def said(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def system(**fields: Any) -> dict[str, Any]:
    return {"role": "system", **fields}


def named(name: str) -> dict[str, Any]:
    return {"type": "tool", "name": name}


def adds(tool: Any) -> dict[str, Any]:
    return system(content=[{"type": "tool_addition", "tool": tool}])


def budget(model: str, tokens: int = 9_000) -> dict[str, Any]:
    return {"model": model, "max_tokens": 2_000, "thinking": {"type": "enabled", "budget_tokens": tokens}}


def sampling(model: str = "claude-haiku-5-5", **fields: Any) -> dict[str, Any]:
    return {"model": model, **fields}


PAUSED = [
    {"messages": [USER, said(TEXT, CALL)], "tools": [SEARCH]},
    {"messages": [USER, said(CALL, FOUND)], "tools": [SEARCH]},
    {"messages": [USER, said(CALL, FOUND, TEXT)], "tools": [SEARCH]},
    {"messages": [USER, said(SUMMARY)]},
]
VALID: list[tuple[dict[str, Any], str, str | None]] = [
    *((fields, VERSION, None) for fields in PAUSED),
    *(({"model": "claude-opus-5-5", **fields}, OLD, None) for fields in PAUSED),
    ({"messages": [USER, said(MCP_CALL)], "tools": [TOOLSET], "mcp_servers": [SERVER]}, VERSION, MCP),
    ({"messages": [said(SUMMARY), USER]}, VERSION, COMPACT),
    ({"messages": [said(SUMMARY, TEXT), {"role": "user", "content": [RESULT]}]}, VERSION, COMPACT),
    ({"messages": [USER, said({"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}}, TEXT), USER]},
     VERSION, None),
    ({"messages": [USER, said({"type": "advisor_tool_result", "tool_use_id": "x", "content": {}}, TEXT), USER]},
     VERSION, "advisor-tool-2026-03-01"),
    ({"messages": [USER, said({"type": "mcp_tool_listing", "mcp_server_name": "s", "tools": []}, TEXT), USER]},
     VERSION, "mcp-client-2026-09-15"),
    ({"messages": [USER, adds({"type": "tool_reference", "name": "look"})], "tools": [TOOL]},
     VERSION, "mid-conversation-tool-changes-2026-07-01"),
    ({"messages": [USER, adds({"type": "tool_definition", "definition": TOOL})], "tool_choice": ANY}, VERSION, INLINE),
    ({"messages": [USER, adds({"type": "tool_definition", "definition": TOOL})], "tool_choice": named("look")},
     VERSION, INLINE),
    ({"messages": [USER, system(output_config={"effort": "low"})]}, VERSION, EFFORT),
    ({"messages": [USER, system(content="x", clear_at="next_user_message"), said(TEXT), USER]},
     VERSION, "mid-conversation-system-clear-at-2026-08-21"),
    ({"tools": [COMPUTER, BROWSER]}, VERSION, None),
    ({"tools": [COMPUTER, {**TOOL, "name": "screenshot"}], "tool_choice": named("screenshot")}, VERSION, None),
    ({"tools": [{**BROWSER, "configs": {"zoom": {"enabled": False}}, "cache_control": {"type": "ephemeral"}}]},
     VERSION, None),
    ({"tools": [TOOLSET], "mcp_servers": [SERVER], "tool_choice": named("find")}, VERSION, MCP),
    ({"tools": [TOOLSET, {**TOOL, "name": "s"}], "mcp_servers": [SERVER]}, VERSION, MCP),
    ({"mcp_servers": [SERVER], "tool_choice": named("find")}, VERSION, "mcp-client-2025-04-04"),
    ({"mcp_servers": [SERVER], "tool_choice": ANY}, VERSION, "mcp-client-2025-04-04"),
    *((budget(model), OLD, INTERLEAVED) for model in ("claude-sonnet-4-5", "claude-opus-4-5", "claude-sonnet-4-6")),
    (budget("claude-mythos-preview", 1_500), OLD, None),
    (sampling(top_p=0.99), OLD, None),
    (sampling(top_p=1), OLD, None),
    (sampling(temperature=1, top_p=0.999), OLD, None),
    (sampling("claude-opus-4-7", top_p=0.99), OLD, None),
]  # fmt: skip
#: A step too far, and a part of the error message.
REFUSED: list[tuple[dict[str, Any], str, str | None, str]] = [
    ({"messages": [USER, said(TEXT)]}, VERSION, None, "prefill"),
    ({"messages": [USER, said(CALL, FOUND), USER, said(TEXT)], "tools": [SEARCH]}, VERSION, None, "prefill"),
    ({"messages": [said(TEXT), USER]}, VERSION, COMPACT, "first message"),
    ({"messages": [said(CALL, FOUND), USER]}, VERSION, None, "first message"),
    ({"messages": [USER, system(output_config={"effort": "low"})]}, VERSION, None, "content: Field required"),
    ({"messages": [USER, system(output_config={})]}, VERSION, EFFORT, "content: Field required"),
    ({"messages": [USER, system(content="x", clear_at="never")]}, VERSION, None, "clear_at: Extra inputs"),
    ({"messages": [{**USER, "clear_at": "never"}]}, VERSION, EFFORT, "clear_at: Extra inputs"),
    ({"tools": [{**COMPUTER, "name": "computer"}]}, VERSION, None, "tools.0.name: Extra inputs"),
    ({"tools": [COMPUTER, COMPUTER]}, VERSION, None, "unique"),
    ({"tools": [BROWSER, {**TOOL, "name": "browser"}]}, VERSION, None, "unique"),
    ({"tools": [COMPUTER], "tool_choice": named("computer")}, VERSION, None, "not found"),
    ({"tools": [COMPUTER], "tool_choice": named("screenshot")}, VERSION, None, "not found"),
    ({"tools": [TOOLSET, TOOLSET], "mcp_servers": [SERVER]}, VERSION, MCP, "unique"),
    ({"tools": [TOOLSET], "mcp_servers": [SERVER], "tool_choice": {"type": "tool"}}, VERSION, MCP, "not found"),
    ({"tools": [TOOL], "tool_choice": named("find")}, VERSION, None, "not found"),
    ({"tools": [{"type": "mcp_toolset"}]}, VERSION, MCP, "tools.0.name: Field required"),
    (budget("claude-sonnet-4-5"), OLD, None, "`max_tokens` must be greater"),
    (budget("claude-sonnet-4-5"), OLD, MCP, "`max_tokens` must be greater"),
    (budget("claude-sonnet-4-5", 1_023), OLD, INTERLEAVED, "1024"),
    # The beta header is taken and ignored where the model does not interleave, says the page on extended thinking.
    (budget("claude-haiku-4-5"), OLD, INTERLEAVED, "`max_tokens` must be greater"),
    (budget("claude-opus-4-6"), OLD, INTERLEAVED, "`max_tokens` must be greater"),
    (sampling(top_p=0.98), OLD, None, "`top_p` is deprecated"),
    (sampling(top_p=1.5), OLD, None, "`top_p` is deprecated"),
    (sampling(temperature=0.99), OLD, None, "`temperature` is deprecated"),
    (sampling(top_k=1), OLD, None, "`top_k` is deprecated"),
    (sampling(top_p=0.99), VERSION, None, "top_p: Extra inputs"),
]  # fmt: skip


def connect(version: str, beta: str | None) -> httpx.Client:
    headers = {"x-api-key": KEY, "anthropic-version": version, **({"anthropic-beta": beta} if beta else {})}
    return httpx.Client(
        transport=Simulator(clock=fixed_clock()).transport(), base_url="http://simulator.test", headers=headers
    )


def result_of(fields: dict[str, Any], version: str, beta: str | None = None) -> dict[str, Any]:
    """Send one request in a batch. Returns its result, which the SDK reads."""
    with connect(version, beta) as client:
        api = Api(client)
        (row,) = api.rows(api.created(request("a", **fields)))
    individual.BetaMessageBatchIndividualResponse.model_validate(row, strict=True)
    return dict(row["result"])


@pytest.mark.parametrize(("fields", "version", "beta"), VALID)
def test_documented_request_succeeds(fields: dict[str, Any], version: str, beta: str | None) -> None:
    result = result_of(fields, version, beta)

    assert result["type"] == "succeeded", result


@pytest.mark.parametrize(("fields", "version", "beta", "part"), REFUSED)
def test_step_further_is_refused(fields: dict[str, Any], version: str, beta: str | None, part: str) -> None:
    result = result_of(fields, version, beta)

    assert result["type"] == "errored"
    assert part in result["error"]["error"]["message"]


@pytest.mark.parametrize(
    ("tools", "toolset"),
    [
        ([COMPUTER], "computer"),
        ([BROWSER], "browser"),
        ([{**COMPUTER, "configs": {"screenshot": {"enabled": False}}}, BROWSER], "browser"),
        ([{**COMPUTER, "configs": {"screenshot": None}}], "computer"),
    ],
)
def test_answer_that_must_use_a_tool_uses_one_of_a_toolset(tools: list[dict[str, Any]], toolset: str) -> None:
    message = result_of({"tools": tools, "tool_choice": ANY}, VERSION)["message"]

    assert message["stop_reason"] == "tool_use"
    assert [(each["name"], each["toolset_name"]) for each in message["content"]] == [("screenshot", toolset)]


@pytest.mark.parametrize(
    ("fields", "beta", "status"),
    [
        ({"mcp_servers": [SERVER], "tools": [TOOLSET]}, MCP, 200),
        ({"context_management": {"edits": []}}, COMPACT, 200),
        ({"context_management": {"edits": []}}, None, 400),
        ({"messages": [USER, said(CALL)], "tools": [SEARCH]}, None, 200),
        ({"messages": [said(SUMMARY), USER]}, COMPACT, 200),
        ({"tools": [COMPUTER]}, None, 200),
        ({"messages": [USER, system(output_config={"effort": "low"})]}, EFFORT, 200),
        ({"max_tokens": 5}, MCP, 400),
    ],
)
def test_tokens_of_documented_requests_are_counted(fields: dict[str, Any], beta: str | None, status: int) -> None:
    with connect(VERSION, beta) as client:
        body = {"model": "claude-haiku-5-5", "messages": [USER], **fields}
        assert client.post("/v1/messages/count_tokens", json=body).status_code == status
