"""Tools of a request: their names, and the one that an answer has to use."""

from __future__ import annotations

from typing import Any

from airflow_claude_batch.simulator.messages.prompts import Params

# Tools that the caller runs: its own, and those that the API defines.
_CLIENT_TOOLS = ("custom", "bash_", "text_editor_", "computer_", "memory_", "browser_")


def name_of(tool: dict[str, Any]) -> str:
    """Return the name of a tool, or of the server that a set of tools belongs to. Empty: it has none."""
    name: str | None = tool.get("name") or tool.get("mcp_server_name")
    return name or ""


def forced_tool(params: Params) -> dict[str, Any] | None:
    """Return the tool that the answer has to use. None: there is none, or the API would run it itself."""
    choice = params.get("tool_choice") or {}
    tools: list[dict[str, Any]] = params.get("tools") or []
    match choice.get("type"):
        case "tool":
            wanted = [tool for tool in tools if name_of(tool) == choice["name"]]
        case "any":
            wanted = tools
        case _:
            wanted = []
    return next((tool for tool in wanted if _is_the_callers(tool)), None)


def _is_the_callers(tool: dict[str, Any]) -> bool:
    kind: str = tool.get("type") or "custom"
    return "name" in tool and kind.startswith(_CLIENT_TOOLS)
