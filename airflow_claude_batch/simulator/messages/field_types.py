"""Types of the fields of params. The API names the first field whose value has another type.

Source: the SDK's types of 2026-11-24. Null stands for a missing field here, although the API refuses it in some fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_NOUNS: Mapping[type, str] = {
    str: "string",
    int: "integer",
    bool: "boolean",
    list: "list",
    dict: "dictionary",
}
# A path ends at its first missing or null value. "*" is each element of a list.
_TYPES: Mapping[tuple[str, ...], tuple[type, ...]] = {
    ("model",): (str,),
    ("stream",): (bool,),
    ("metadata",): (dict,),
    ("metadata", "user_id"): (str,),
    ("stop_sequences",): (list,),
    ("stop_sequences", "*"): (str,),
    ("inference_geo",): (str,),
    ("service_tier",): (str,),
    ("user_profile_id",): (str,),
    ("container",): (str, dict),
    ("container", "id"): (str,),
    ("diagnostics",): (dict,),
    ("context_management",): (dict,),
    ("mcp_servers",): (list,),
    ("mcp_servers", "*"): (dict,),
    ("mcp_servers", "*", "name"): (str,),
    ("mcp_servers", "*", "url"): (str,),
    ("thinking",): (dict,),
    ("thinking", "type"): (str,),
    ("thinking", "budget_tokens"): (int,),
    ("output_config",): (dict,),
    ("output_config", "effort"): (str,),
    ("output_config", "format"): (dict,),
    ("output_config", "format", "type"): (str,),
    ("tool_choice",): (dict,),
    ("tool_choice", "type"): (str,),
    ("tool_choice", "name"): (str,),
    ("tool_choice", "disable_parallel_tool_use"): (bool,),
    ("tools",): (list,),
    ("tools", "*"): (dict,),
    ("tools", "*", "type"): (str,),
    ("tools", "*", "name"): (str,),
    ("tools", "*", "description"): (str,),
    ("tools", "*", "strict"): (bool,),
    ("tools", "*", "mcp_server_name"): (str,),
    ("tools", "*", "input_schema"): (dict,),
}


def type_problem(params: Mapping[str, Any]) -> str | None:
    """Return the API's error message for the first field of another type, or None."""
    for path, types in _TYPES.items():
        if path[0] not in params:
            continue
        for place, value in _values("", params, path):
            if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
                return f"{place}: Input should be a valid {' or '.join(_NOUNS[each] for each in types)}"
    return None


def _values(place: str, holder: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Yield the values at a path, each with its place in the API's notation."""
    name, *rest = path
    found: Iterable[tuple[object, Any]] = ()
    if name == "*" and isinstance(holder, list):
        found = enumerate(holder)
    elif isinstance(holder, dict) and holder.get(name) is not None:
        found = [(name, holder[name])]
    for key, value in found:
        here = f"{place}.{key}" if place else str(key)
        if rest:
            yield from _values(here, value, tuple(rest))
        else:
            yield here, value
