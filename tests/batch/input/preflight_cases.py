"""Requests that break exactly one rule, by the name of the rule; and requests that break none."""

from __future__ import annotations

import base64
import struct
from typing import Any

import media_files

OLD = {"model": "claude-haiku-4-5", "api_version": "2023-06-01"}
OPUS_5 = {"model": "claude-opus-5"}
SONNET_46 = {"model": "claude-sonnet-4-6", "api_version": "2023-06-01"}
BETA = {"betas": ("mcp-client-2025-11-20",)}


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def png(width: int = 4, height: int = 4) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + bytes(40)


PNG = encoded(png())
JPEG = encoded(b"\xff\xd8\xff\xe0" + bytes(40))
GIF = encoded(b"GIF89a\x04\0\x04\0" + bytes(40))
WEBP = encoded(b"RIFF\x40\0\0\0WEBPVP8 " + bytes(40))
PDF = encoded(b"%PDF-1.7\n" + bytes(40))


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": blocks[0] if len(blocks) == 1 and isinstance(blocks[0], str) else list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {**user(*blocks), "role": "assistant"}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def image(data: Any = PNG, media_type: Any = "image/png") -> dict[str, Any]:
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def document(source: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": "document", "source": source or {"type": "file", "file_id": "file_1"}, **more}


def found(**more: Any) -> dict[str, Any]:
    return {"type": "search_result", "source": "s", "title": "t", "content": [text("c")], **more}


def tool(name: str = "look", **more: Any) -> dict[str, Any]:
    return {"name": name, "description": "d", "input_schema": {"type": "object", "properties": {}}, **more}


def use(id: str = "toolu_1", **more: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": "look", "input": {}, **more}


def result(id: str = "toolu_1", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": "found", **more}


def cached(ttl: str | None = None) -> dict[str, Any]:
    return {"cache_control": {"type": "ephemeral", **({"ttl": ttl} if ttl else {})}}


def params(**more: Any) -> dict[str, Any]:
    return {"prompt": "hi", "params": more}


HI = user("hi")
SCHEMA = {"output_config": {"format": {"type": "json_schema", "schema": {"type": "string"}}}}
CITED = {"citations": {"enabled": True}}
REFERENCE = {"type": "tool_reference", "tool_name": "a"}
SEARCHES = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}}
SEARCHED = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}

#: Rule, element, and what differs from claude-haiku-5-5 under the newest API version.
TEXT = {"type": "string"}
CLOSED = {"type": "object", "additionalProperties": False}
REFUSED_SCHEMAS: list[Any] = [
    {"type": "objekt"},
    {"type": "object", "properties": {"a": TEXT}},
    {**CLOSED, "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]},
    {"type": "array", "items": {**TEXT, "maxLength": 5}},
    {"type": "array", "items": TEXT, "minItems": 2},
    {"type": ["array", "null"], "items": TEXT, "uniqueItems": True},
    {"enum": [["a"]]},
    {"$ref": "https://example.com/schema"},
    {"$ref": "#/$defs/A"},
    {**CLOSED, "properties": {"a": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}},
    {**CLOSED, "properties": {f"p{n}": TEXT for n in range(25)}},
    {**CLOSED, "properties": {f"p{n}": {"anyOf": [TEXT]} for n in range(17)}, "required": [f"p{n}" for n in range(17)]},
    {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object"}}},
]
TAKEN_SCHEMAS: list[Any] = [
    {},
    {"type": "array", "items": {"$ref": "#/$defs/A"}, "minItems": 1, "$defs": {"A": {**TEXT, "pattern": "^a"}}},
    {**CLOSED, "properties": {"minimum": TEXT, "$ref": TEXT, "a": {"$ref": "#/$defs/A"}}, "$defs": {"A": CLOSED}},
    {**TEXT, "default": {"$ref": "https://example.com"}, "not": {"type": "object"}},
    {**CLOSED, "properties": {f"p{n}": TEXT for n in range(24)}},
]

REFUSED: list[tuple[str, Any, dict[str, Any]]] = [
    ("model", {"prompt": "hi", "model": " "}, {}),
    ("max_tokens", {"prompt": "hi", "max_tokens": 0}, {}),
    ("max_tokens", {"prompt": "hi", "max_tokens": True}, {}),
    ("unknown_parameter", params(temprature=1), {}),
    ("unknown_parameter", params(stop=["a"]), {}),
    ("unknown_parameter", params(max_completion_tokens=9), {}),
    ("unknown_parameter", params(response_format={"type": "json_object"}), {}),
    ("unknown_parameter", params(betas=["a"]), BETA),
    ("unknown_parameter", params(temprature=1), BETA),
    ("unknown_parameter", params(temprature=1), {"betas": ("output-300k-2026-03-24",)}),
    ("beta_parameter", params(context_management={"edits": []}), {}),
    ("beta_parameter", params(mcp_servers=[]), {}),
    *(
        ("batch_parameter", params(**{name: value}), {})
        for name, value in (("stream", True), ("speed", "fast"), ("store", True), ("fallbacks", []), ("cache_hint", 1))
    ),
    ("batch_parameter", params(research_preview_2026_02="active"), BETA),
    ("billing_policy", params(billing_policy={"type": "billing_policy", "bill_to": "user_profile"}), BETA),
    ("sampling_version", params(temperature=1), {}),
    ("sampling_range", params(temperature=1.5), OLD),
    ("sampling_range", params(temperature="0.5"), OLD),
    ("sampling_range", params(top_p=-0.1), OLD),
    ("sampling_range", params(top_k=1.5), OLD),
    ("system", {"prompt": "hi", "system": {"type": "text"}}, {}),
    ("system", {"prompt": "hi", "system": [image()]}, {}),
    ("system", {"prompt": "hi", "system": ["be brief"]}, {}),
    ("stop_sequences", params(stop_sequences="END"), {}),
    ("stop_sequences", params(stop_sequences=["END", "\n"]), {}),
    ("stop_sequences", params(stop_sequences=[""]), {}),
    ("stop_sequences", params(stop_sequences=[7]), {}),
    ("metadata", params(metadata={"user_id": 42}), {}),
    ("metadata", params(metadata={"user_id": "x" * 513}), {}),
    ("metadata", params(metadata={"run": "a"}), {}),
    ("metadata", params(metadata="a"), {}),
    ("service_tier", params(service_tier="batch"), {}),
    ("service_tier", params(service_tier=7), {}),
    ("text_parameter", params(inference_geo=5), OPUS_5),
    ("output_config", params(output_config={"efort": "low"}), {}),
    ("output_config", params(output_config="json"), {}),
    ("effort_name", params(output_config={"effort": "hihg"}), {}),
    ("effort_name", params(output_config={"effort": 3}), {}),
    ("output_format", params(output_config={"format": {"type": "json_object"}}), {}),
    ("output_format", params(output_config={"format": {"type": "json_schema"}}), {}),
    ("output_format", params(output_config={"format": "json"}), {}),
    *(
        ("output_format_schema", params(output_config={"format": {"type": "json_schema", "schema": schema}}), {})
        for schema in REFUSED_SCHEMAS
    ),
    ("task_budget", params(output_config={"task_budget": {"type": "tokens", "total": 500}}), OPUS_5),
    ("prefill_with_schema", {"messages": [HI, assistant("{")], "params": SCHEMA}, OLD),
    ("citations_with_schema", {"messages": [user(document(**CITED))], "params": SCHEMA}, {}),
    ("citations_with_schema", {"messages": [HI, assistant(use()), user(result(content=[found(**CITED)]))],
                               "params": SCHEMA}, {}),
    ("messages", {"messages": []}, {}),
    ("messages", {"messages": "hi"}, {}),
    ("messages", {"messages": [HI] * 100_001}, {}),
    ("messages", {"custom_id": "a", "params": {}}, {}),
    ("message", [{"role": "user", "content": "hi", "name": "bob"}], {}),
    ("message", [{"role": "user", "content": "hi", "cache_control": {"type": "ephemeral"}}], {}),
    ("message", [HI, {"role": "assistant", "content": "x", "tool_calls": []}, HI], {}),
    ("message", [{"role": "user"}], {}),
    ("message", [HI, {"content": "hi"}], {}),
    ("message", {"messages": ["hi"]}, {}),
    ("role", [{"role": "tool", "content": "hi"}], {}),
    ("role", [{"role": "User", "content": "hi"}], {}),
    ("content", "", {}),
    ("content", " \n", {}),
    ("content", [user("a"), assistant(""), user("b")], {}),
    ("content", [{"role": "user", "content": []}], {}),
    ("content", [{"role": "user", "content": 5}], {}),
    ("first_message", [{"role": "system", "content": "be brief"}, HI], {}),
    ("first_message", [assistant("x"), HI], {}),
    ("system_placement", [HI, {"role": "system", "content": "s"}, HI], OPUS_5),
    ("system_placement", [HI, assistant("x"), {"role": "system", "content": "s"}], OPUS_5),
    ("system_placement", [HI, assistant(use()), {"role": "system", "content": "s"}, user(result())], OPUS_5),
    ("prefill_blank", [HI, assistant("Sure: ")], OLD),
    ("prefill_blank", [HI, assistant(text("Sure:\n"))], OLD),
    ("prefill_with_thinking", {"messages": [HI, assistant("Sure")], "max_tokens": 2000,
                               "params": {"thinking": {"type": "enabled", "budget_tokens": 1024}}}, OLD),
    ("block", [user({"text": "hi"})], {}),
    ("block", [user("hi", "there")], {}),
    ("block", [user({"type": "image_url", "image_url": {"url": "https://x"}})], {}),
    ("block", [user({"type": "txt", "text": "hi"})], {}),
    ("block", [HI, assistant(use()), user(result(content=[use()]))], {}),
    ("block", [user(document({"type": "content", "content": [found()]}))], {}),
    ("block_fields", [user({"type": "text", "content": "hi"})], {}),
    ("block_fields", [user(text("hi", id=5))], {}),
    ("block_fields", [user({"type": "text", "text": 5})], {}),
    ("block_fields", [HI, assistant(use(arguments="{}")), user(result())], {}),
    ("block_fields", [HI, assistant(use(input="{}")), user(result())], {}),
    ("block_fields", [user({"type": "image"})], {}),
    ("block_fields", [user(document(title=""))], {}),
    ("block_fields", [user(document(title="t" * 501))], {}),
    ("block_fields", [user(document(context=""))], {}),
    ("block_role", [user(use())], {}),
    ("block_role", [HI, assistant(result())], {}),
    ("block_role", [HI, assistant(found()), HI], {}),
    ("block_role", [HI, assistant(text("a"), image()), HI], {}),
    ("block_role", [HI, assistant({"type": "container_upload", "file_id": "file_1"}), HI], {}),
    ("block_role", [user({"type": "thinking", "thinking": "Hm.", "signature": "s"})], {}),
    ("block_role", [user({"type": "redacted_thinking", "data": "s"})], {}),
    ("block_role", [user({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}})], {}),
    ("block_fields", [user(document(citations=True))], {}),
    ("block_fields", [user(found(citations=True))], {}),
    ("block_role", [HI, {"role": "system", "content": [image()]}], OPUS_5),
    ("text_empty", [user(text(""))], {}),
    ("text_empty", [user(text("a"), text(""))], {}),
    ("text_empty", [HI, assistant(use()), user(result(content=[text("")]))], {}),
    ("text_empty", [user(found(content=[text("")]))], {}),
    ("text_empty", {"prompt": "hi", "system": [text("")]}, {}),
    ("text_blank", [user(text(" \n"))], {}),
    ("text_blank", [HI, assistant(SEARCHES, SEARCHED, text("\n\n")), HI], {}),
    ("text_blank", {"prompt": "hi", "system": [text(" ")]}, {}),
    ("document_of_assistant", [HI, assistant(document()), HI], {}),
    ("citations_of_user", [user(text("a", citations=[{"type": "char_location"}]))], {}),
    ("citations", [user(document(**CITED), document())], {}),
    ("citations", [user(found(**CITED), found())], {}),
    ("source", [user({"type": "image", "source": "https://x"})], {}),
    ("source", [user({"type": "image", "source": {"type": "path", "path": "a.png"}})], {}),
    ("source", [user({"type": "image", "source": {"type": "base64", "data": PNG}})], {}),
    ("source", [user({"type": "image", "source": {"type": "text", "media_type": "text/plain", "data": "a"}})], {}),
    ("source", [user(document({"type": "text", "media_type": "text/markdown", "data": "a"}))], {}),
    ("source_url", [user({"type": "image", "source": {"type": "url", "url": f"data:image/png;base64,{PNG}"}})], {}),
    ("source_url", [user({"type": "image", "source": {"type": "url", "url": "/tmp/cat.png"}})], {}),
    ("source_url", [user(document({"type": "url", "url": "s3://bucket/a.pdf"}))], {}),
    ("media_type", [user(image(JPEG, "image/jpg"))], {}),
    ("media_type", [user(image(PNG, "image/svg+xml"))], {}),
    ("media_type", [user(image(PNG, "PNG"))], {}),
    ("media_type", [user(document({"type": "base64", "media_type": "text/csv", "data": "YQ=="}))], {}),
    ("base64", [user(image(f"data:image/png;base64,{PNG}"))], {}),
    ("base64", [user(image("no base64!"))], {}),
    ("base64", [user(image(repr(PNG.encode())))], {}),
    ("base64", [user(image(png()))], {}),
    ("base64", [user(image(PNG[:41]))], {}),
    ("base64", [user(image("é" + PNG))], {}),
    ("data_of_media_type", [user(image(JPEG, "image/png"))], {}),
    ("data_of_media_type", [user(image(PNG, "image/webp"))], {}),
    ("data_of_media_type", [user(image(PDF, "image/png"))], {}),
    ("data_of_media_type", [user(image(encoded(b"BM" + bytes(40))))], {}),
    ("data_of_media_type", [user(image(""))], {}),
    ("data_of_media_type", [user(document({"type": "base64", "media_type": "application/pdf", "data": PNG}))], {}),
    ("data_of_media_type", [HI, assistant(use()), user(result(content=[image(GIF)]))], {}),
    ("image_size", [user(image(PNG + "A" * 10 * 1024 * 1024))], {}),
    ("image_edge", [user(image(encoded(png(9000, 10))))], {}),
    ("image_edge", [user(image(encoded(media_files.jpeg(10, 8001)), "image/jpeg"))], {}),
    ("image_edge", [user(image(encoded(media_files.webp(8001, 10)), "image/webp"))], {}),
    ("base64", [user(image(PNG + "A" * 2_000_000 + "=" + "A" * 3))], {}),
    ("image_count", [user(*[{"type": "image", "source": {"type": "file", "file_id": "f"}}] * 101)], OLD),
    ("image_count", [user(*[{"type": "image", "source": {"type": "file", "file_id": "f"}}] * 601)], {}),
    ("tools", params(tools={"name": "a"}), {}),
    ("tools", params(tools=["look"]), {}),
    ("tools", params(tools=[{"type": "function", "function": {"name": "a", "parameters": {}}}]), {}),
    ("tools", params(tools=[{"name": "a", "parameters": {}}]), {}),
    ("tool_type", params(tools=[{"type": "web_search", "name": "web_search"}]), {}),
    ("tool_type", params(tools=[{"type": "mcp_toolset", "mcp_server_name": "a"}]), {}),
    ("tool_fields", params(tools=[{"name": "a"}]), {}),
    ("tool_fields", params(tools=[tool(descripton="d")]), {}),
    ("tool_fields", params(tools=[{"type": "web_search_20250305", "name": "web_search", "max_use": 3}]), {}),
    *(
        ("tool_fields", params(tools=[{"type": "web_search_20250305", "name": "web_search", **more}]), {})
        for more in (
            {"max_uses": 0},
            {"user_location": {"country": "DE"}},
            {"user_location": {"type": "approximate", "country": "Germany"}},
        )
    ),
    ("tool_name", params(tools=[tool("look up")]), {}),
    ("tool_name", params(tools=[tool("")]), {}),
    ("tool_name", params(tools=[{"type": "web_search_20250305", "name": "search"}]), {}),
    ("tool_schema", params(tools=[tool(input_schema={"properties": {}})]), {}),
    ("tool_schema", params(tools=[tool(input_schema={"type": "object", "anyOf": []})]), {}),
    ("tool_schema", params(tools=[tool(input_schema={"type": "object", "properties": {"filter[id]": {}}})]), {}),
    ("tool_schema", params(tools=[tool(input_schema={"type": "object", "properties": {"a": {"type": "str"}}})]), {}),
    ("tool_schema", params(tools=[tool(input_schema={"type": "object", "properties": {"a": "number"}})]), {}),
    ("tool_schema", params(tools=[tool(input_schema={"type": "object", "required": True})]), {}),
    ("tool_names", params(tools=[tool(), tool()]), {}),
    ("tool_names", params(tools=[tool("web_search"), {"type": "web_search_20250305", "name": "web_search"}]), {}),
    ("tool_names", params(tools=[tool("computer"), {"type": "computer_toolset_20260801"}]), {}),
    ("tool_domains", params(tools=[{"type": "web_search_20250305", "name": "web_search",
                                    "allowed_domains": ["a.org"], "blocked_domains": ["b.org"]}]), {}),
    ("tool_domains", params(tools=[{"type": "web_fetch_20250910", "name": "web_fetch",
                                    "allowed_domains": ["https://a.org"]}]), {}),
    ("strict_tools", params(tools=[tool(f"t{n}", strict=True) for n in range(21)]), {}),
    ("deferred_tools", params(tools=[tool(defer_loading=True)]), {}),
    ("tool_choice", params(tools=[tool()], tool_choice="auto"), {}),
    ("tool_choice", params(tools=[tool()], tool_choice={"type": "required"}), {}),
    ("tool_choice", params(tools=[tool()], tool_choice={"type": "tool"}), {}),
    ("tool_choice", params(tools=[tool()], tool_choice={"type": "any", "name": "look"}), {}),
    ("tool_choice_of_no_tool", params(tools=[tool()], tool_choice={"type": "tool", "name": "lok"}), {}),
    ("tool_choice_of_no_tool", params(tool_choice={"type": "any"}), {}),
    ("mcp_servers", params(mcp_servers=[{"type": "url", "name": "a", "url": "https://a"}],
                           tools=[{"type": "mcp_toolset", "mcp_server_name": "b"}]), BETA),
    ("mcp_servers", params(mcp_servers=["https://a"]), BETA),
    ("tool_use_without_result", [HI, assistant(use()), HI], {}),
    ("tool_use_without_result", [HI, assistant(use(), use("toolu_2")), user(result())], {}),
    ("tool_use_without_result", [HI, assistant(use())], OLD),
    ("tool_result_without_use", [user(result())], {}),
    ("tool_result_without_use", [HI, assistant("x"), user(result())], {}),
    ("tool_result_without_use", [HI, assistant(use()), user(result(), result("toolu_9"))], {}),
    ("tool_result_without_use", [HI, assistant(SEARCHES, SEARCHED), user(result("srvtoolu_1"))], {}),
    ("tool_reference", {"messages": [HI, assistant(use()), user(result(content=[REFERENCE]))],
                        "params": {"tools": [tool()]}}, {}),
    ("tool_result_first", [HI, assistant(use()), user(text("Here:"), result())], {}),
    ("tool_result_content", [HI, assistant(use()), user(result(content={"a": 1}))], {}),
    ("tool_result_content", [HI, assistant(use()), user(result(content=[found(), text("x")]))], {}),
    ("tool_ids", [HI, assistant(use("a.b")), user(result("a.b"))], {}),
    ("tool_ids", [HI, assistant(use()), user(result(), result())], {}),
    ("tool_ids", [HI, assistant(use()), user(result()), assistant(use()), user(result())], {}),
    ("cache_mark", [user(text("a", cache_control=True))], {}),
    ("cache_mark", [user(text("a", cache_control={"type": "persistent"}))], {}),
    ("cache_mark", [user(text("a", **cached("2h")))], {}),
    ("cache_mark", [user(found(content=[text("a", **cached("2h"))]))], {}),
    ("cache_mark", [user(document({"type": "content", "content": [text("a", cache_control=True)]}))], {}),
    ("cache_mark", [user(text("a", cache_control={"type": "ephemeral", "scope": "global"}))], {}),
    ("cache_marks_count", [user(*[text(str(n), **cached()) for n in range(5)])], {}),
    ("cache_marks_count", {"prompt": [text("a", **cached())] * 3, "system": [text("s", **cached())],
                           "params": {"tools": [tool(**cached())]}}, {}),
    ("cache_marks_count", [HI, assistant(use()), user(result(content=[text("a", **cached())] * 5))], {}),
    ("cache_marks_order", {"prompt": "hi", "system": [text("s", **cached("1h"))],
                           "params": {"tools": [tool(**cached())]}}, {}),
    ("cache_marks_order", [user(text("a", **cached()), text("b", **cached("1h")))], {}),
    ("cache_marks_order", {"prompt": "hi", "system": [text("s", **cached())],
                           "params": {"cache_control": {"type": "ephemeral", "ttl": "1h"}}}, {}),
    ("cache_mark_on_empty_text", [user(text("x"), text("", **cached()))], {}),
    ("cache_mark_on_thinking", [HI, assistant({"type": "thinking", "thinking": "t", "signature": "s", **cached()}), HI],
     {"betas": ("a-beta-2026-01-01",)}),
    ("automatic_cache_mark", {"prompt": [text(str(n), **cached()) for n in range(4)] + [text("end")],
                              "params": cached()}, {}),
    ("automatic_cache_mark", {"prompt": [text("a", **cached("1h"))], "params": cached()}, {}),
    ("thinking", params(thinking="adaptive"), {}),
    ("thinking", params(thinking={"type": "auto"}), {}),
    ("thinking", params(thinking={"type": "enabled"}), OLD),
    ("thinking", params(thinking={"type": "adaptive", "budget_tokens": 2000}), {}),
    ("thinking", params(thinking={"type": "between_tools", "display": "omitted"}), {"model": "claude-sonnet-5-5"}),
    ("budget_minimum", params(thinking={"type": "enabled", "budget_tokens": 1023}), OLD),
    ("budget_minimum", params(thinking={"type": "enabled", "budget_tokens": "2000"}), OLD),
    ("budget_maximum", params(thinking={"type": "enabled", "budget_tokens": 2048}, max_tokens=2048), OLD),
    ("forced_tool_with_thinking", {"prompt": "hi", "max_tokens": 2000, "params": {
        "thinking": {"type": "enabled", "budget_tokens": 1024}, "tools": [tool()], "tool_choice": {"type": "any"}}},
     OLD),
    ("sampling_with_thinking", params(thinking={"type": "adaptive"}, temperature=0.5), SONNET_46),
    ("sampling_with_thinking", params(thinking={"type": "adaptive"}, top_k=5), SONNET_46),
    ("sampling_with_thinking", params(thinking={"type": "adaptive"}, top_p=0.9), SONNET_46),
    ("max_tokens_of_model", {"prompt": "hi", "max_tokens": 64_001}, OLD),
    ("max_tokens_of_model", {"prompt": "hi", "max_tokens": 300_000}, {}),
    ("forced_tool_use", params(tools=[tool()], tool_choice={"type": "any"}), {"model": "claude-opus-5-5"}),
    ("forced_tool_use", params(tools=[tool()], tool_choice={"type": "tool", "name": "look"}),
     {"model": "claude-sonnet-5-5"}),
    ("prefill", [HI, assistant("Sure")], {}),
    ("prefill", [HI, assistant(text("Sure"))], SONNET_46),
    ("sampling_parameters", params(temperature=0.5), {**OPUS_5, "api_version": "2023-06-01"}),
    ("sampling_parameters", params(top_k=5), {**OPUS_5, "api_version": "2023-06-01"}),
    ("sampling_parameters", params(top_p=0.98), {"api_version": "2023-06-01"}),
    ("temperature_and_top_p", params(temperature=0.5, top_p=0.5), OLD),
    ("thinking_enabled", {"prompt": "hi", "max_tokens": 2000,
                          "params": {"thinking": {"type": "enabled", "budget_tokens": 1024}}}, {}),
    ("thinking_disabled", params(thinking={"type": "disabled"}), {"model": "claude-opus-5-5"}),
    ("thinking_disabled", params(thinking={"type": "disabled"}), {"model": "claude-sonnet-5-5"}),
    ("thinking_adaptive", params(thinking={"type": "adaptive"}), OLD),
    ("thinking_between_tools", params(thinking={"type": "between_tools"}), OPUS_5),
    ("no_thinking_at_high_effort", params(thinking={"type": "disabled"}, output_config={"effort": "max"}), OPUS_5),
    ("no_thinking_at_high_effort", params(thinking={"type": "between_tools"}, output_config={"effort": "xhigh"}),
     {"model": "claude-sonnet-5-5"}),
    ("effort", params(output_config={"effort": "low"}), OLD),
    ("effort_xhigh", params(output_config={"effort": "xhigh"}), SONNET_46),
    ("effort_max", params(output_config={"effort": "max"}), {"model": "claude-opus-4-5"}),
    ("system_messages", [HI, {"role": "system", "content": "s"}], {"model": "claude-sonnet-5"}),
    ("inference_geo", params(inference_geo="us"), OLD),
    ("dated_computer_tools", params(tools=[{"type": "computer_20251124", "name": "computer", "display_width_px": 1,
                                            "display_height_px": 1}]), {**OPUS_5, "model": "claude-opus-5-5", **BETA}),
]  # fmt: skip

#: Valid requests, most of them at the edge of a rule: they pass.
PASSES: list[tuple[Any, dict[str, Any]]] = [
    *(
        (params(output_config={"format": {"type": "json_schema", "schema": schema}}), {})
        for schema in TAKEN_SCHEMAS
    ),
    ("hi", {}),
    ("hi", {"model": "claude-of-the-future"}),
    (params(new_parameter=1), {"allow_unknown": True}),
    (params(new_parameter=1), BETA),
    (params(new_parameter=1), {"api_version": "2027-01-01"}),
    ([user({"type": "new_block", "anything": 1})], BETA),
    (params(tools=[{"type": "new_tool_20270101", "name": "new"}]), BETA),
    (params(thinking={"type": "new"}, output_config={"effort": "ultra", "new": 1}), {"allow_unknown": True}),
    (params(context_management={"edits": []}), BETA),
    (params(speed=None, stream=False, cache_control=None, container=None), {}),
    (params(stop_sequences=[], metadata={"user_id": None}, service_tier=None, user_profile_id="p"), {}),
    ([user(*[{"type": "image", "source": {"type": "file", "file_id": "f"}}] * 101)], {}),
    (params(inference_geo="us", diagnostics={"previous_message_id": None}), OPUS_5),
    (params(output_config={"effort": "xhigh"}), {}),
    (params(output_config={"effort": "max"}), SONNET_46),
    (params(output_config={"effort": "high"}), {"model": "claude-opus-4-5"}),
    (params(temperature=1, top_k=5), OLD),
    (params(temperature=0), OLD),
    (params(temperature=1), {**OPUS_5, "api_version": "2023-06-01"}),
    (params(top_p=0.99), {"api_version": "2023-06-01"}),
    (params(top_p=1), {"api_version": "2023-06-01"}),
    (params(thinking={"type": "adaptive"}, top_p=0.95), SONNET_46),
    (params(thinking={"type": "adaptive", "display": "omitted"}), {}),
    (params(thinking={"type": "disabled"}, output_config={"effort": "high"}), OPUS_5),
    (params(thinking={"type": "disabled"}, output_config={"effort": "max"}), SONNET_46),
    (params(thinking={"type": "between_tools"}), {"model": "claude-sonnet-5-5"}),
    (params(thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=1025), OLD),
    (params(thinking={"type": "enabled", "budget_tokens": 9000}, max_tokens=2000),
     {**OLD, "betas": ("interleaved-thinking-2025-05-14",)}),
    (params(thinking={"type": "adaptive"}, tools=[tool()], tool_choice={"type": "any"}), {}),
    ({"prompt": "hi", "max_tokens": 300_000}, {"betas": ("output-300k-2026-03-24",)}),
    ({"prompt": "hi", "system": ""}, {}),
    ({"prompt": "hi", "system": [text("s"), text(" ")]}, {}),
    ([HI, HI, assistant("a"), assistant("b"), HI], {}),
    ([HI, assistant("Sure:")], OLD),
    ([HI, assistant("Sure: "), HI], {}),
    ([HI, assistant("")], OLD),
    ([HI, {"role": "system", "content": "s"}], {}),
    ([HI, {"role": "system", "content": [text("s")]}, {"role": "system", "content": "t"}, assistant("x"), HI], OPUS_5),
    ([HI, assistant(use()), user(result()), {"role": "system", "content": "s"}, assistant("x"), HI], OPUS_5),
    ([HI, assistant(SEARCHES, SEARCHED), {"role": "system", "content": "s"}], OPUS_5),
    ([HI, assistant(text("I search."), SEARCHES)], {}),
    ([HI, assistant(SEARCHES, SEARCHED, text("So "))], {}),
    ([{"role": "assistant", "content": [{"type": "compaction", "content": "c"}]}, user(result())], BETA),
    ([user(text(" "), text("real"))], {}),
    ([user(image(), text("What?"))], {}),
    ([user(image(JPEG, "image/jpeg"), image(GIF, "image/gif"), image(WEBP, "image/webp"))], {}),
    ([user(image(PNG.rstrip("=")), image("\n".join((PNG[:40], PNG[40:]))))], {}),
    ([user(image(encoded(png(8000, 8000))))], {}),
    ([user({"type": "image", "source": {"type": "url", "url": "https://example.org/cat.png"}})], {}),
    ([user({"type": "image", "source": {"type": "file", "file_id": "f"}, "transformations": {}})], {}),
    ([user(document({"type": "base64", "media_type": "application/pdf", "data": PDF}, title="t", context=None))], {}),
    ([user(document({"type": "text", "media_type": "text/plain", "data": "words"}, **CITED))], {}),
    ([user(document({"type": "content", "content": [text("a"), image()]}))], {}),
    ([user(document({"type": "content", "content": "words"}))], {}),
    ([user(found(**CITED), found(**CITED), text("q"))], {}),
    ([HI, assistant(document()), HI], OLD),
    ([HI, assistant(text("a", citations=[{"type": "char_location"}])), HI], {}),
    ([HI, assistant(text("Let me look."), use()), user(result())], {}),
    ([HI, assistant(use(), use("toolu_2")), user(result("toolu_2"), result(), text("and?"))], {}),
    ([HI, assistant(use()), user(result(content=[text("a"), image()], is_error=True))], {}),
    ([HI, assistant(use()), user(result(content=""))], {}),
    ([HI, assistant(use()), user({"type": "tool_result", "tool_use_id": "toolu_1"})], {}),
    ([HI, assistant(use()), user(result(content=[found(), found()]))], {}),
    ({"messages": [HI, assistant(use()), user(result(content=[REFERENCE]))], "params": {"tools": [tool("a")]}}, {}),
    ([HI, assistant("I look."), assistant(use()), user(result())], {}),
    ([HI, assistant({"type": "thinking", "thinking": "", "signature": "s"}, {"type": "redacted_thinking", "data": "d"},
                    text("a")), HI], {}),
    (params(tools=[]), {}),
    (params(tools=[tool(), tool("b", type="custom", strict=True, cache_control=None)],
            tool_choice={"type": "none"}), {}),
    (params(tools=[tool(input_schema={"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}]}}})]), {}),
    (params(tools=[{"type": "web_search_20260318", "name": "web_search", "max_uses": 3, "blocked_domains": [],
                    "allowed_domains": ["example.org/blog/*"]}, {"type": "bash_20250124", "name": "bash"}]), {}),
    (params(tools=[{"type": "computer_toolset_20260801"}, {"type": "browser_toolset_20260801"}]), {}),
    (params(tools=[tool(defer_loading=True),
                   {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}]), {}),
    (params(tools=[tool()], tool_choice={"type": "tool", "name": "look", "disable_parallel_tool_use": True}), {}),
    (params(tool_choice={"type": "tool", "name": "of_the_server"},
            tools=[{"type": "mcp_toolset", "mcp_server_name": "a"}],
            mcp_servers=[{"type": "url", "name": "a", "url": "https://a"}]), BETA),
    (params(tools=[{"type": "computer_20251124", "name": "computer", "display_width_px": 1, "display_height_px": 1}]),
     {**OPUS_5, **BETA}),
    ({"prompt": [text(str(n), **cached()) for n in range(4)]}, {}),
    ({"prompt": [text("a", **cached("5m"))], "system": [text("s", **cached("1h"))],
      "params": {"tools": [tool(**cached("1h"))], "cache_control": {"type": "ephemeral"}}}, {}),
    ({"prompt": [text("a", **cached("1h"))], "params": cached("1h")}, {}),
    ({"prompt": [text("a", **cached()), text("b")], "params": cached()}, {}),
]  # fmt: skip
