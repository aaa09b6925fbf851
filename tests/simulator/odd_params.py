"""Generate params of requests that are odd somewhere: a wrong type at any depth, a missing or an unknown field."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st
from simulated import params

SELF_REFERENCE = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
TOOL = {
    "name": "look_up",
    "description": "Looks something up",
    "input_schema": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^[a-z]{2,5}$"},
            "when": {"type": "string", "format": "date"},
            "count": {"type": ["integer", "null"], "minimum": 1, "maximum": 9, "multipleOf": 2},
            "share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "multipleOf": 0.1},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 3},
            "pair": {"type": "array", "prefixItems": [{"const": 1}, {"type": "boolean"}], "minItems": 2},
            "more": {"$ref": "#/$defs/more"},
            "all": {"allOf": [{"$ref": "#/$defs/more"}, {"properties": {"x": {"type": "null"}}, "required": ["x"]}]},
            "any": {"anyOf": [{"type": "integer"}, {"oneOf": [{"type": "string"}, {"$ref": "#/$defs/more"}]}]},
        },
        "required": ["name", "when", "count", "pair"],
        "$defs": {"more": {"type": "object", "properties": {"again": {"$ref": "#/$defs/more"}}}},
    },
    "cache_control": {"type": "ephemeral", "ttl": "1h"},
}
OUTPUT = {
    "type": "object",
    "properties": {"topic": {"enum": ["a", "b"]}, "note": {"type": ["string", "null"]}, "day": {"$ref": "#/$defs/day"}},
    "required": ["topic", "note"],
    "additionalProperties": False,
    "$defs": {"day": {"type": "string", "format": "date-time"}},
}
BLOCKS = [
    {"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
    {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}, "citations": {"enabled": True}},
    {"type": "search_result", "source": "x", "title": "t", "content": [{"type": "text", "text": "found"}]},
]
TURNS = [
    {"role": "user", "content": "hello"},
    {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"name": "x"}}],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "found"}]},
]
ADDED = [
    {"role": "user", "content": "hello"},
    {"role": "system", "content": [{"type": "tool_addition", "tool": {"type": "tool_definition", "definition": TOOL}}]},
    {"role": "system", "output_config": {"effort": "low"}},
]
PAUSED = {"role": "assistant", "content": [{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}]}
#: Valid params that use much of the API.
BASES = [
    params(),
    params(messages=[{"role": "user", "content": BLOCKS}], system=[{"type": "text", "text": "Be brief."}]),
    params(messages=TURNS, tools=[TOOL], tool_choice={"type": "tool", "name": "look_up"}),
    params(tools=[{"type": "mcp_toolset", "mcp_server_name": "s"}, TOOL], tool_choice={"type": "any"}),
    params(tools=[{"type": "web_search_20250305", "name": "web_search"}], tool_choice={"type": "auto"}),
    params(output_config={"effort": "low", "format": {"type": "json_schema", "schema": OUTPUT}}),
    params(model="claude-sonnet-4-5", max_tokens=4000, thinking={"type": "enabled", "budget_tokens": 2000}),
    params(thinking={"type": "adaptive"}, stop_sequences=["answer"], metadata={"user_id": "u"}, cache_control=None),
    params(cache_control={"type": "ephemeral"}, service_tier="auto", inference_geo="us", container="c"),
    params(tools=[{"type": "computer_toolset_20260801", "configs": {"zoom": {"enabled": False}}}, TOOL],
           tool_choice={"type": "any"}),
    params(messages=[{"role": "assistant", "content": [{"type": "compaction", "content": "x"}]}, *ADDED],
           tool_choice={"type": "tool", "name": "look_up"}),
    params(messages=[TURNS[0], PAUSED], tools=[{"type": "web_search_20250305", "name": "web_search"}]),
    params(stream=False, mcp_servers=[{"type": "url", "url": "https://x.example", "name": "s"}], diagnostics={}),
]  # fmt: skip
#: Values that stand where they should not.
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 42, 10**30, -(2**63) - 1, 0.5, 1e308, 5e-324, "", " ", "x", "user", "claude-opus-5",
    "\u2028\u0000", "😀", "#", "#/", "#/$defs/more", "https://x.example/schema", "(", "[^", "(?=a)b",
    "a{9999}", [], [[]], [None], [1], ["x"], [{}], {}, {"": None}, {"type": None}, {"type": []},
    {"type": {}}, {"type": "text"},
    {"type": "text", "text": 7}, {"type": "tool"}, {"type": "any"}, {"type": "ephemeral", "ttl": 5}, {"$ref": "#"},
    {"$ref": 5}, {"enum": []}, {"const": {}}, {"anyOf": []}, {"allOf": [{"$ref": "#"}]}, {"not": {}}, {"items": False},
    {"properties": {"a": True, "b": False}}, SELF_REFERENCE, {"role": "user", "content": None},
    {"role": [], "content": {}}, {"minItems": 10**9}, {"minLength": 10**9}, {"type": "integer", "multipleOf": 1e-320},
]  # fmt: skip
FIELDS = [
    "type", "text", "content", "name", "input_schema", "$ref", "enum", "const", "anyOf", "allOf", "oneOf", "format",
    "pattern", "items", "prefixItems", "properties", "required", "minItems", "maxItems", "minLength", "maxLength",
    "minimum", "maximum", "multipleOf", "cache_control", "citations", "source", "url", "thinking", "budget_tokens",
    "system", "tools", "tool_choice", "metadata", "user_id", "temperature", "top_k", "stream", "unknown", "tool",
    "definition", "configs", "screenshot", "output_config", "clear_at",
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=9), children, max_size=3),
    max_leaves=6,
)
VALUES = st.sampled_from(ODD) | JSON


@st.composite
def odd_params(draw: st.DrawFn) -> dict[str, Any]:
    """Take valid params, and change one to three places of them."""
    whole = copy.deepcopy(draw(st.sampled_from(BASES)))
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        part = draw(st.sampled_from([*_parts(whole), whole]))
        holder = draw(st.sampled_from(list(_containers(part))))
        value = copy.deepcopy(draw(VALUES))
        if isinstance(holder, dict):
            _change_object(draw, holder, value)
        elif holder and draw(st.booleans()):
            holder[draw(st.integers(0, len(holder) - 1))] = value
        else:
            holder.append(value)
    return whole


def _change_object(draw: st.DrawFn, holder: dict[str, Any], value: Any) -> None:
    name = draw(st.sampled_from([*holder, *FIELDS]))
    if name in holder and draw(st.integers(0, 3)) == 0:
        del holder[name]
    else:
        holder[name] = value


def _parts(whole: dict[str, Any]) -> Any:
    """Yield the parts in which most changes are made: there a request stays valid more often."""
    tools = whole.get("tools")
    schemas = [tool.get("input_schema") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    config = whole.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else None
    schemas.append(wanted.get("schema") if isinstance(wanted, dict) else None)
    turns = whole["messages"] if isinstance(whole.get("messages"), list) else []
    contents = [turn.get("content") for turn in turns if isinstance(turn, dict)]
    yield from (part for part in [*schemas, *schemas, tools, *contents, config] if isinstance(part, dict | list))


def _containers(value: Any) -> Any:
    if isinstance(value, dict | list):
        yield value
        for child in value.values() if isinstance(value, dict) else value:
            yield from _containers(child)
