"""Tools of a request: their names, and the one that an answer has to use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from airflow_claude_batch.simulator.messages.prompts import Params

# Tools that the caller runs: its own, and those that the API defines.
_CLIENT_TOOLS = ("custom", "bash_", "text_editor_", "computer_", "memory_", "browser_")
_TOOLSETS = ("computer", "browser")
_MEMBER = "screenshot"  # a tool of both toolsets, without a field that it requires


class ForcedTool(NamedTuple):
    """A tool that the answer has to use. One of a toolset also has the toolset's name."""

    name: str
    input_schema: dict[str, Any]
    toolset_name: str | None = None


def name_of(tool: dict[str, Any]) -> str:
    """Return the name of a tool, or of a toolset. Empty: it has none, as a set of tools of an MCP server."""
    name: str | None = tool.get("name")
    return toolset_of(tool) or name or ""


def server_of(tool: dict[str, Any]) -> str:
    """Return the name of the MCP server that a set of tools belongs to. Empty: it is another tool."""
    name: str | None = tool.get("mcp_server_name")
    return name or ""


def toolset_of(tool: dict[str, Any]) -> str:
    """Return the name of a toolset that the caller runs, which its type gives. Empty: it is another tool."""
    kind: str = tool.get("type") or ""
    return next((name for name in _TOOLSETS if kind.startswith(f"{name}_toolset_")), "")


def offers_tools(params: Params) -> bool:
    """Tell whether there is a tool: in ``tools``, of an MCP server, or defined in a message."""
    return bool(params.get("tools") or params.get("mcp_servers")) or any(_inline_tools(params))


def is_offered(name: str | None, params: Params) -> bool:
    """Tell whether ``tool_choice`` may name a tool. Only an MCP server knows its names. Tools of toolsets cannot be."""
    if not name:
        return False
    tools = [*(params.get("tools") or ()), *_inline_tools(params)]
    if params.get("mcp_servers") or any(server_of(tool) for tool in tools):
        return True
    return any(tool.get("name") == name for tool in tools)


def forced_tool(params: Params) -> ForcedTool | None:
    """Return the tool that the answer has to use. None: there is none, or the API would run it itself."""
    choice = params.get("tool_choice") or {}
    tools: list[dict[str, Any]] = params.get("tools") or []
    match choice.get("type"):
        case "tool":
            wanted = [tool for tool in tools if tool.get("name") == choice["name"]]
        case "any":
            wanted = tools
        case _:
            wanted = []
    return next(filter(None, map(_callers_tool, wanted)), None)


def _callers_tool(tool: dict[str, Any]) -> ForcedTool | None:
    toolset = toolset_of(tool)
    if toolset:
        return ForcedTool(_MEMBER, {"type": "object"}, toolset) if _has_member(tool) else None
    kind: str = tool.get("type") or "custom"
    if "name" not in tool or not kind.startswith(_CLIENT_TOOLS):
        return None
    return ForcedTool(tool["name"], tool.get("input_schema") or {"type": "object"})


def _has_member(toolset: dict[str, Any]) -> bool:
    configs = toolset.get("configs")
    config = configs.get(_MEMBER) if isinstance(configs, dict) else None
    return not isinstance(config, dict) or config.get("enabled") is not False


def _inline_tools(params: Params) -> Iterator[dict[str, Any]]:
    """Yield the tools that messages define, beta inline-tools."""
    for message in params["messages"]:
        content = message.get("content")
        for block in content if isinstance(content, list) else ():
            added = block.get("tool") if block["type"] == "tool_addition" else None
            definition = added.get("definition") if isinstance(added, dict) else None
            if isinstance(definition, dict):
                yield definition
