"""Checks ``tools``, ``tool_choice`` and ``mcp_servers``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from airflow_claude_batch.batch.input.element_errors import short_repr, type_name
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.preflight.conditions import Conditions
from airflow_claude_batch.batch.input.preflight.json_schema import what_is_wrong
from airflow_claude_batch.batch.input.preflight.known_fields import TOOL_CHOICES, TOOLS, ToolKind
from airflow_claude_batch.batch.input.preflight.refusal import IF_NEW, check_shape, did_you_mean, kind_of, refuse

MOST_STRICT_TOOLS: Final = 20
_COUNTRY_LETTERS: Final = 2
_LIMITS: Final = ("max_uses", "max_content_tokens", "max_characters", "max_tokens")
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}", re.ASCII)
_PROPERTY: Final = re.compile(r"[a-zA-Z0-9_.-]{1,64}", re.ASCII)
_SHAPE: Final = "Write a tool as {'name': …, 'description': …, 'input_schema': {'type': 'object', …}}."
_FLAT: Final = "Write it as {'name': …, 'description': …, 'input_schema': …}: what 'function' and 'parameters' have."
_CHOICES: Final = {
    "required": "Use {'type': 'any'}.",
    "function": "Use {'type': 'tool', 'name': …}.",
    "auto": "Use {'type': 'auto'}.",
    "any": "Use {'type': 'any'}.",
    "none": "Use {'type': 'none'}.",
}


def check_tools(request: Request, tools: Any, conditions: Conditions) -> None:
    """Raise if a tool is one that the API refuses, or if the tools do not go together."""
    if tools is None:
        return
    if not isinstance(tools, list | tuple):
        refuse(request, "tools", f"'tools' must be a list, not {type_name(tools)}.", _SHAPE)
    for number, tool in enumerate(tools):
        _check_tool(request, tool, f"'tools[{number}]'", conditions)
    _check_names(request, tools)
    if sum(tool.get("strict") is True for tool in tools) > MOST_STRICT_TOOLS:
        problem = f"more than {MOST_STRICT_TOOLS} tools are strict."
        refuse(request, "strict_tools", problem, "Remove 'strict' from some.")
    if tools and all(tool.get("defer_loading") is True for tool in tools):
        problem = "all tools have 'defer_loading'."
        refuse(request, "deferred_tools", problem, "Leave it out of one at least, such as the tool search tool.")


def _check_tool(request: Request, tool: Any, place: str, conditions: Conditions) -> None:
    if not isinstance(tool, Mapping):
        refuse(request, "tools", f"{place} must be a mapping, not {type_name(tool)}.", _SHAPE)
    kind = tool.get("type")
    kind = "custom" if kind is None else kind
    known = TOOLS.get(kind) if isinstance(kind, str) else None
    if _is_text(kind, "function") or "function" in tool or _has_parameters(tool, known):
        refuse(request, "tools", f"{place} has the shape of OpenAI's API.", _FLAT)
    if known is None:
        if isinstance(kind, str) and conditions.takes_unknown:
            return
        problem = f"{place} is of type {short_repr(kind, 40)}, which the API does not have."
        refuse(request, "tool_type", problem, f"{did_you_mean(kind, TOOLS)}{IF_NEW}")
    if known.is_beta and not conditions.takes_unknown:
        remedy = "Add the name of its beta to betas in the connection's extra."
        refuse(request, "tool_type", f"{place} is a tool of a beta, {kind}.", remedy)
    check_shape(request, "tool_fields", tool, known.shape, place, strict=not conditions.takes_unknown)
    if known.name is not None and not _is_text(tool["name"], known.name):
        problem = f"{place} of type {kind} must have the name {known.name!r}."
        refuse(request, "tool_name", problem, f"Set its 'name' to {known.name!r}.")
    if kind == "custom":
        _check_custom(request, tool, place)
    elif kind.startswith("web_"):
        _check_domains(request, tool, place)
        _check_location(request, tool, place)
    for limit in _LIMITS:
        _check_limit(request, tool, limit, place)


def _is_text(value: Any, text: str) -> bool:
    return isinstance(value, str) and value == text


def _has_parameters(tool: Mapping[str, Any], kind: ToolKind | None) -> bool:
    return kind is TOOLS["custom"] and "parameters" in tool and "input_schema" not in tool


def _check_custom(request: Request, tool: Mapping[str, Any], place: str) -> None:
    name, schema = tool["name"], tool["input_schema"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        problem = f"{place} has the name {short_repr(name, 30)}, which the API does not take."
        refuse(request, "tool_name", problem, "Use 1 to 128 letters of a to z, digits, - and _.")
    if not isinstance(schema, Mapping) or not _is_text(schema.get("type"), "object"):
        problem = f"'input_schema' of {place} must be a mapping with 'type': 'object'."
        refuse(request, "tool_schema", problem, "Give {'type': 'object', 'properties': {…}}.")
    for word in ("oneOf", "anyOf", "allOf"):
        if word in schema:
            problem = f"'input_schema' of {place} has {word!r} at its top."
            refuse(request, "tool_schema", problem, "Move it into a property, or describe the tools one by one.")
    properties = schema.get("properties")
    for key in properties if isinstance(properties, Mapping) else ():
        if not isinstance(key, str) or not _PROPERTY.fullmatch(key):
            problem = f"'input_schema' of {place} has the property {short_repr(key, 30)}."
            refuse(request, "tool_schema", problem, "Name properties with 1 to 64 letters of a to z, digits, _ - and .")
    if wrong := what_is_wrong(schema):
        problem = f"'input_schema' of {place} is no JSON Schema of draft 2020-12."
        refuse(request, "tool_schema", problem, f"Correct it: {wrong}.")


def _check_domains(request: Request, tool: Mapping[str, Any], place: str) -> None:
    lists = [tool.get(name) for name in ("allowed_domains", "blocked_domains")]
    if all(isinstance(domains, list | tuple) and domains for domains in lists):
        problem = f"{place} has both 'allowed_domains' and 'blocked_domains'."
        refuse(request, "tool_domains", problem, "Give one of them.")
    for name in ("allowed_domains", "blocked_domains"):
        domains = tool.get(name)
        for domain in domains if isinstance(domains, list | tuple) else ():
            if not isinstance(domain, str) or "://" in domain or "*" in domain.partition("/")[0]:
                problem = f"{place} has the domain {short_repr(domain, 40)} in {name!r}."
                refuse(request, "tool_domains", problem, "Give domains such as example.com, without a scheme or a *.")


def _check_location(request: Request, tool: Mapping[str, Any], place: str) -> None:
    location = tool.get("user_location")
    if location is None:
        return
    country = location.get("country") if isinstance(location, Mapping) else None
    is_country = country is None or (isinstance(country, str) and len(country) == _COUNTRY_LETTERS)
    if kind_of(location) != "approximate" or not is_country:
        problem = f"'user_location' of {place} must be of type approximate, with a country of two letters."
        refuse(request, "tool_fields", problem, "Give {'type': 'approximate', 'country': 'DE'}.")


def _check_limit(request: Request, tool: Mapping[str, Any], name: str, place: str) -> None:
    value = tool.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        problem = f"{name!r} of {place} must be a whole number of at least 1, not {short_repr(value, 20)}."
        refuse(request, "tool_fields", problem, f"Correct or remove {name!r}.")


def _check_names(request: Request, tools: Sequence[Any]) -> None:
    seen: set[str] = set()
    for tool in tools:
        kind = tool.get("type")
        name = kind.partition("_toolset_")[0] if isinstance(kind, str) and "_toolset_" in kind else tool.get("name")
        if isinstance(name, str):
            if name in seen:
                problem = f"two tools have the name {short_repr(name, 60)}."
                refuse(request, "tool_names", problem, "Give each tool a name of its own.")
            seen.add(name)


def check_tool_choice(request: Request, choice: Any, conditions: Conditions) -> None:
    """Raise if ``tool_choice`` is of no kind that the API has, or names a tool that is not there."""
    if choice is None:
        return
    kind = kind_of(choice)
    if kind is None or kind not in TOOL_CHOICES:
        if kind is not None and conditions.takes_unknown:
            return
        found = choice if isinstance(choice, str) else kind
        problem = f"'tool_choice' must be a mapping of type auto, any, tool or none, not {short_repr(found, 20)}."
        meant = _CHOICES.get(found) if isinstance(found, str) else None
        refuse(request, "tool_choice", problem, meant or "Use {'type': 'auto'}.")
    what = f"'tool_choice' of type {kind!r}"
    check_shape(request, "tool_choice", choice, TOOL_CHOICES[kind], what, strict=not conditions.takes_unknown)
    if kind in ("any", "tool"):
        _check_forced(request, kind, choice)


def _check_forced(request: Request, kind: str, choice: Mapping[str, Any]) -> None:
    tools = request.params.get("tools")
    if tools is None or (isinstance(tools, list | tuple) and not tools):
        problem = f"'tool_choice' of type {kind!r} needs 'tools'."
        refuse(request, "tool_choice_of_no_tool", problem, "Give the tools, or leave 'tool_choice' out.")
    if kind != "tool" or not isinstance(tools, list | tuple) or not all(isinstance(tool, Mapping) for tool in tools):
        return
    if any("_toolset" in str(tool.get("type")) for tool in tools):
        return  # its members have names that only the API knows
    names = [name for tool in tools if isinstance(name := tool.get("name"), str)]
    if not isinstance(choice["name"], str) or choice["name"] not in names:
        problem = f"'tool_choice' names {short_repr(choice['name'], 40)}, which is no tool of the request."
        refuse(request, "tool_choice_of_no_tool", problem, f"{did_you_mean(choice['name'], names)}Give its definition.")


def check_mcp_servers(request: Request, servers: Any, conditions: Conditions) -> None:
    """Raise if MCP servers are given without a beta, or if a toolset names one that is not there."""
    if servers is None:
        return
    if not conditions.takes_unknown:
        remedy = "Add the name of its beta to betas in the connection's extra."
        refuse(request, "beta_parameter", "'mcp_servers' is a parameter of a beta.", remedy)
    if not isinstance(servers, list | tuple) or not all(isinstance(server, Mapping) for server in servers):
        refuse(request, "mcp_servers", "'mcp_servers' must be a list of mappings.", "Give such a list.")
    names = [name for server in servers if isinstance(name := server.get("name"), str)]
    tools = request.params.get("tools")
    for tool in tools if isinstance(tools, list | tuple) else ():
        if kind_of(tool) != "mcp_toolset":
            continue
        name = tool.get("mcp_server_name")
        if not isinstance(name, str) or name not in names:
            problem = f"a toolset names the MCP server {short_repr(name, 40)}, which is not there."
            refuse(request, "mcp_servers", problem, "Give the server in 'mcp_servers', under the same name.")
