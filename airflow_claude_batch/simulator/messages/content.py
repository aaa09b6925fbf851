"""Rules for ``messages`` and ``system``: roles, content blocks, ``cache_control``.

Every ``…_problem`` function returns the API's error message, or None when the value is valid.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

CURRENT_VERSION = "2026-10-21"
_ROLES = ("user", "assistant", "system")
_BLOCK_TYPES = frozenset(
    {
        "text",
        "image",
        "document",
        "search_result",
        "thinking",
        "redacted_thinking",
        "tool_use",
        "tool_result",
        "server_tool_use",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "mcp_tool_use",
        "mcp_tool_result",
        "container_upload",
        "compaction",
        "advisor_tool_result",
        "fallback",
        "mcp_tool_listing",
        "tool_addition",
        "tool_removal",
    }
)
_FIELDS = ("role", "content")
_SYSTEM_FIELDS = (*_FIELDS, "clear_at", "output_config")  # under betas
# What a turn holds that the API paused, to be sent back as it is: handling-stop-reasons and compaction pages.
_PAUSED = frozenset({"server_tool_use", "mcp_tool_use", "compaction"})
_OF_ASSISTANT = frozenset({"tool_use", "server_tool_use", "thinking", "redacted_thinking"})
_OF_USER = frozenset({"image", "container_upload"})
_MAX_CACHE_CONTROLS = 4


def messages_problem(messages: Any, *, version: str, has_betas: bool = False) -> str | None:
    """Check the messages of a request."""
    if not isinstance(messages, list):
        return "messages: Input should be a valid list"
    if not messages:
        return "messages: at least one message is required"
    last = len(messages) - 1
    for index, message in enumerate(messages):
        problem = _fields_problem(f"messages.{index}", message, has_betas=has_betas) or _message_problem(
            f"messages.{index}", message, version=version, is_last=index == last
        )
        if problem is not None:
            return problem
    if messages[0]["role"] == "assistant" and "compaction" not in _kinds(messages[0]):
        return 'messages: first message must use the "user" role'
    return None


def is_prefill(message: dict[str, Any]) -> bool:
    """Tell whether a last message is the beginning of the answer, and no turn that the API paused."""
    if message["role"] != "assistant":
        return False
    return not any(kind in _PAUSED or kind.endswith("_tool_result") for kind in _kinds(message))


def _kinds(message: dict[str, Any]) -> list[str]:
    return [block["type"] for block in _blocks(message.get("content"))]


def system_problem(system: Any) -> str | None:
    """Check a ``system`` that is given. Null is refused, as it is by the API."""
    if isinstance(system, str):
        return None
    if not isinstance(system, list):
        return "system: Input should be a valid string or list"
    for index, block in enumerate(system):
        if not isinstance(block, dict) or block.get("type") != "text":
            return f"system.{index}.type: Input should be 'text'"
        if not isinstance(block.get("text"), str):
            return f"system.{index}.text: Field required"
    return None


def cache_problem(params: dict[str, Any]) -> str | None:
    """Check every ``cache_control``: four at most, longer lifetimes first."""
    ttls = []
    for control in cache_controls(params):
        if not isinstance(control, dict) or control.get("type") != "ephemeral":
            return "cache_control.type: Input should be 'ephemeral'"
        if control.get("ttl", "5m") not in ("5m", "1h"):
            return "cache_control.ttl: Input should be '5m' or '1h'"
        ttls.append(control.get("ttl", "5m"))
    if len(ttls) > _MAX_CACHE_CONTROLS:
        return f"A maximum of 4 blocks with cache_control may be provided. Found {len(ttls)}."
    if ttls != sorted(ttls):  # "1h" sorts before "5m"
        return "cache_control: a ttl='1h' block must not come after a ttl='5m' block"
    return None


def cache_controls(params: dict[str, Any]) -> Iterator[Any]:
    """Yield every ``cache_control`` in the order of the prompt: tools, system, messages, the request itself."""
    blocks = [*_blocks(params.get("tools")), *_blocks(params.get("system"))]
    for message in params.get("messages") or ():
        blocks.extend(_blocks(message.get("content")))
    controls = (block.get("cache_control") for block in (*blocks, params) if isinstance(block, dict))
    return (control for control in controls if control is not None)


def _blocks(content: Any) -> list[Any]:
    return content if isinstance(content, list) else []


def _fields_problem(place: str, message: Any, *, has_betas: bool) -> str | None:
    if not isinstance(message, dict):
        return f"{place}: Input should be a valid dictionary or object to extract fields from"
    role = message.get("role")
    known = _SYSTEM_FIELDS if has_betas and role == "system" else _FIELDS
    if role is None:
        return f"{place}.role: Field required"
    if message.get("content") is None and not (known is _SYSTEM_FIELDS and message.get("output_config")):
        return f"{place}.content: Field required"
    extra = next((key for key in message if key not in known), None)
    return None if extra is None else f"{place}.{extra}: Extra inputs are not permitted"


def _message_problem(place: str, message: dict[str, Any], *, version: str, is_last: bool) -> str | None:
    role, content = message["role"], message.get("content")
    if role not in _ROLES:
        return f"{place}.role: Input should be 'user', 'assistant' or 'system'"
    if content is None:
        return None
    if isinstance(content, str):
        return None if content or (is_last and role == "assistant") else _empty(place)
    if not isinstance(content, list):
        return f"{place}.content: Input should be a valid string or list"
    if not content and not (is_last and role == "assistant"):
        return _empty(place)
    problems = (
        _block_problem(f"{place}.content.{index}", block, role=role, version=version)
        for index, block in enumerate(content)
    )
    return next((problem for problem in problems if problem is not None), None)


def _empty(place: str) -> str:
    return f"{place}: all messages must have non-empty content except for the optional final assistant message"


def _block_problem(place: str, block: Any, *, role: str, version: str) -> str | None:
    if not isinstance(block, dict):
        return f"{place}: Input should be a valid dictionary or object to extract fields from"
    kind = block.get("type")
    if kind is None:
        return f"{place}.type: Field required"
    if not isinstance(kind, str) or kind not in _BLOCK_TYPES:
        return f"{place}: Input tag '{kind}' found using 'type' does not match any of the expected tags"
    if kind == "text":
        return _text_problem(place, block, role=role, version=version)
    if kind in _OF_ASSISTANT and role == "user":
        return f"{place}: `{kind}` blocks can only be in `assistant` messages"
    if kind in _OF_USER and role == "assistant":
        return f"{place}: '{kind}' blocks are not permitted within assistant turns"
    if kind == "document" and role == "assistant" and version >= CURRENT_VERSION:
        return f"{place}: `document` blocks are not permitted in assistant messages"
    if kind in ("image", "document"):
        return _source_problem(f"{place}.{kind}", block.get("source"))
    return None


def _text_problem(place: str, block: dict[str, Any], *, role: str, version: str) -> str | None:
    text = block.get("text")
    if not isinstance(text, str):
        return f"{place}.text.text: Field required"
    if not text:
        return "messages: text content blocks must be non-empty"
    if block.get("citations") and role == "user" and version >= CURRENT_VERSION:
        return f"{place}.text.citations: citations are not permitted in user messages"
    return None


def _source_problem(place: str, source: Any) -> str | None:
    if not isinstance(source, dict):
        return f"{place}.source: Field required"
    if source.get("type") == "url" and _host(source.get("url")).endswith(".invalid"):
        return "Unable to download the file. Please verify the URL and try again."
    return None


def _host(url: Any) -> str:
    return str(url).partition("://")[2].partition("/")[0]
