"""The model's answers: the message of a succeeded row, with its usage."""

from __future__ import annotations

import inspect
import json
import zlib
from collections.abc import Callable
from typing import Any

from airflow_claude_batch.simulator.messages.canned_answers import CannedAnswer
from airflow_claude_batch.simulator.messages.models import Model
from airflow_claude_batch.simulator.messages.outcomes import Outcome
from airflow_claude_batch.simulator.messages.prompts import (
    CHARACTERS_PER_TOKEN,
    CacheUse,
    Params,
    last_user_text,
    prompt_tokens,
    tokens,
)
from airflow_claude_batch.simulator.messages.schema_instances import schema_instance
from airflow_claude_batch.simulator.messages.thinking import as_shown, default_thinking, thinking_of
from airflow_claude_batch.simulator.messages.tools import ForcedTool, forced_tool

Scripted = str | dict[str, Any] | list[dict[str, Any]] | None
AnswerScript = Callable[..., Scripted]

_EXCERPT = 60
_LINE_SEPARATOR_EVERY = 5  # U+2028 breaks naive line readers. In some answers only, so that results stay readable


def default_answer(params: Params, n: int) -> str:
    """Write a readable answer from the last user message. The same request gets the same answer."""
    excerpt = last_user_text(params)[:_EXCERPT]
    suffix = "\u2028(second line)" if n % _LINE_SEPARATOR_EVERY == _LINE_SEPARATOR_EVERY - 2 else ""
    return f"Simulated answer to “{excerpt}”{suffix}"


class AnswerWriter:
    """Writes the messages of succeeded requests.

    :param script: the user's answer function. It takes the params, the request's position in its batch and, if it
        can, the ``custom_id``. It returns the text, content blocks, a dict of message fields (``content``,
        ``stop_reason``, ``usage`` and so on), or None for the default answer. It is called again for each download.
        None: the default answers.
    :param default_thinking: whether the models that think unless told otherwise do so.
    """

    def __init__(self, script: AnswerScript | None = None, *, default_thinking: bool = False) -> None:
        self._script = None if script is None else with_custom_id(script)
        self._default_thinking = default_thinking

    def message(
        self,
        params: Params,
        n: int,
        *,
        custom_id: str,
        model: Model,
        outcome: Outcome,
        cache_use: CacheUse,
        message_id: str,
        canned: CannedAnswer | None = None,
    ) -> dict[str, Any]:
        """Write the whole message, with its fields in the API's order."""
        answer = self._answer(params, n, custom_id, canned)
        thinking = self._thinking(params, model, canned) if isinstance(answer, str) else None
        fields = _limited(answer, thinking, params) if isinstance(answer, str) else _whole(answer)
        if outcome.stop_reason is not None:
            fields.update(_scripted_fields(outcome, fields["content"]))
        usage = {**count_usage(params, fields["content"], cache_use, model), **fields.get("usage", {})}
        fields["content"] = as_shown(fields["content"], params, model)  # counted before, with the text that is left out
        return {
            "model": model.id,
            "id": message_id,
            "type": "message",
            "role": "assistant",
            "content": [],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "stop_details": None,
            **fields,
            "usage": usage,
        }

    def _answer(self, params: Params, n: int, custom_id: str, canned: CannedAnswer | None) -> str | dict[str, Any]:
        if canned is not None and canned.answer is not None:
            return canned.answer
        scripted = None if self._script is None else self._script(params, n, custom_id)
        if scripted is not None:
            return {"content": scripted} if isinstance(scripted, list) else scripted
        tool = forced_tool(params)
        if tool is not None:
            return {"content": [_tool_use(tool, params, n)], "stop_reason": "tool_use"}
        schema = _output_schema(params)
        if schema is None:
            return default_answer(params, n)
        return json.dumps(_instance(schema, params, n), ensure_ascii=False)

    def _thinking(self, params: Params, model: Model, canned: CannedAnswer | None) -> str | None:
        """Return the thinking before an answer that is text. None: there is none."""
        thinks = thinking_of(params, model)
        if thinks == "off":
            return None
        if canned is not None and canned.thinking is not None:
            return canned.thinking
        return default_thinking(params) if thinks == "on" or self._default_thinking else None


def with_custom_id(script: AnswerScript) -> Callable[[Params, int, str], Scripted]:
    """Adapt an answer function that may, but need not, take the custom_id.

    It does if it has a parameter of that name, or three that have no default.
    """
    try:
        parameters = inspect.signature(script).parameters.values()
    except (TypeError, ValueError):  # of some callables written in C
        parameters = {}.values()
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    if len([each for each in positional if each.default is each.empty]) > 2:
        return script
    named = any(each.name == "custom_id" and each.kind is not each.POSITIONAL_ONLY for each in parameters)
    if named or any(each.kind is each.VAR_KEYWORD for each in parameters):
        return lambda params, n, custom_id: script(params, n, custom_id=custom_id)
    return lambda params, n, custom_id: script(params, n)


def _whole(answer: dict[str, Any]) -> dict[str, Any]:
    fields = dict(answer)
    if isinstance(fields.get("content"), str):
        fields["content"] = [_text(fields["content"])]
    return {"content": [], **fields}


def count_usage(params: Params, content: list[dict[str, Any]], cache_use: CacheUse, model: Model) -> dict[str, Any]:
    """Count the tokens of one answer, as its ``usage``. ``input_tokens`` excludes what the cache read and wrote."""
    thinking = sum(tokens(len(block.get("thinking", ""))) for block in content)
    counted: dict[str, Any] = {
        "input_tokens": max(0, prompt_tokens(params) - cache_use.total),
        "cache_creation_input_tokens": cache_use.written_5m + cache_use.written_1h,
        "cache_read_input_tokens": cache_use.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": cache_use.written_5m,
            "ephemeral_1h_input_tokens": cache_use.written_1h,
        },
        "output_tokens": thinking + sum(_block_tokens(block) for block in content),
        "output_tokens_details": {"thinking_tokens": thinking},
        "service_tier": "batch",
        "inference_geo": params.get("inference_geo") or ("global" if model.supports_inference_geo else "not_available"),
    }
    server_tool_use = _server_tool_use(content)
    if server_tool_use:
        counted["server_tool_use"] = server_tool_use
    return counted


def _block_tokens(block: dict[str, Any]) -> int:
    match block.get("type"):
        case "text":
            return tokens(len(block["text"]))
        case "tool_use" | "server_tool_use":
            return tokens(len(json.dumps(block["input"])))
        case _:
            return 0


def _server_tool_use(content: list[dict[str, Any]]) -> dict[str, int]:
    names = [block["name"] for block in content if block.get("type") == "server_tool_use"]
    if not names:
        return {}
    return {f"{name}_requests": names.count(name) for name in ("web_search", "web_fetch")}


def _limited(text: str, thinking: str | None, params: Params) -> dict[str, Any]:
    """Put thinking before the text. Both count for ``max_tokens``, and either may be cut."""
    if thinking is None:
        return _apply_limits(text, params["max_tokens"], params)
    left = params["max_tokens"] - tokens(len(thinking))
    shown = thinking[: params["max_tokens"] * CHARACTERS_PER_TOKEN]
    fields = {"content": [], "stop_reason": "max_tokens"} if left < 1 else _apply_limits(text, left, params)
    return {**fields, "content": [{"type": "thinking", "thinking": shown}, *fields["content"]]}


def _apply_limits(text: str, max_tokens: int, params: Params) -> dict[str, Any]:
    """Cut the text where ``stop_sequences`` or the number of tokens end it."""
    stops = [stop for stop in params.get("stop_sequences") or () if stop in text]
    if stops:
        stop = min(stops, key=text.index)
        return {
            "content": [_text(text[: text.index(stop)])],
            "stop_reason": "stop_sequence",
            "stop_sequence": stop,
        }
    max_characters = max_tokens * CHARACTERS_PER_TOKEN
    if len(text) > max_characters:
        return {"content": [_text(text[:max_characters])], "stop_reason": "max_tokens"}
    return {"content": [_text(text)]}


def _scripted_fields(outcome: Outcome, content: list[dict[str, Any]]) -> dict[str, Any]:
    """Build the message fields of a scripted stop reason."""
    fields: dict[str, Any] = {"stop_reason": outcome.stop_reason}
    match outcome.stop_reason:
        case "refusal":
            fields["content"] = []
            fields["stop_details"] = {
                "type": "refusal",
                "category": outcome.category,
                "explanation": "This request was declined.",
            }
        case "max_tokens" | "model_context_window_exceeded":
            fields["content"] = [
                {**block, "text": block["text"][: len(block["text"]) // 2]} if block.get("type") == "text" else block
                for block in content
            ]
        case "pause_turn":
            search = {"query": "simulated"}
            block = {
                "type": "server_tool_use",
                "id": "srvtoolu_01Simulated",
                "name": "web_search",
                "input": search,
            }
            fields["content"] = [*content, block]
    return fields


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _tool_use(tool: ForcedTool, params: Params, n: int) -> dict[str, Any]:
    given = _instance(tool.input_schema, params, n)
    block = {
        "type": "tool_use",
        "id": f"toolu_01Simulated{n:06d}",
        "name": tool.name,
        "input": given if isinstance(given, dict) else {},
        "caller": {"type": "direct"},
    }
    return block if tool.toolset_name is None else {**block, "toolset_name": tool.toolset_name}


def _output_schema(params: Params) -> dict[str, Any] | None:
    wanted = (params.get("output_config") or {}).get("format")
    schema: dict[str, Any] | None = None if wanted is None else wanted["schema"]
    return schema


def _instance(schema: dict[str, Any], params: Params, n: int) -> Any:
    text = last_user_text(params)
    return schema_instance(schema, seed=zlib.crc32(text.encode()) + n, text=f"Simulated: {text[:_EXCERPT]}")
