"""Says what the API refuses in the schema of a request's own ``output_config.format``.

``output_schema`` is adapted to what the API takes. A schema in a request's parameters is sent as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

from airflow_claude_batch.batch.input.element_errors import short_repr
from airflow_claude_batch.batch.input.preflight.json_schema import what_is_wrong
from airflow_claude_batch.batch.input.schema_adapter import MAX_MIN_ITEMS, MAX_OPTIONAL_PROPERTIES, MAX_UNIONS
from airflow_claude_batch.batch.input.schema_places import is_value_place, subschemas
from airflow_claude_batch.batch.input.schema_references import DEFINITIONS, follow, is_recursive

Schema = dict[str, Any]

_SECTIONS: Final = tuple(f".{section}." for section in DEFINITIONS)
#: structured-outputs, 2026-10-08: constraints of numbers, strings and arrays.
_UNSUPPORTED: Final = {
    **dict.fromkeys(
        ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), ("integer", "number")
    ),
    **dict.fromkeys(("minLength", "maxLength"), ("string",)),
    **dict.fromkeys(("maxItems", "uniqueItems"), ("array",)),
}


def what_the_api_refuses(schema: Mapping[str, Any]) -> str | None:
    """Return what the API refuses in a schema, and where. None if nothing is known, or if it is no JSON.

    >>> what_the_api_refuses({"type": "integer", "minimum": 1})
    "the schema has 'minimum', which the API does not take"
    """
    try:
        return what_is_wrong(schema) or _verdict(msgspec.json.encode(schema))
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        return None  # the writer says what is no JSON


@lru_cache(maxsize=256)
def _verdict(encoded: bytes) -> str | None:
    """Requests of a submission mostly have the same schema, so it is judged once."""
    root: Schema = msgspec.json.decode(encoded)
    nodes = list(_nodes(root))
    for place, node in nodes:
        if problem := _problem(root, node):
            return f"{place[-24:].lstrip('.') or 'the schema'} {problem}"
    optional = sum(len(set(node.get("properties", ())) - set(node.get("required", ()))) for _, node in nodes)
    if optional > MAX_OPTIONAL_PROPERTIES:
        return f"{optional} properties are optional, and the API takes {MAX_OPTIONAL_PROPERTIES}"
    unions = sum("anyOf" in node or isinstance(node.get("type"), list) for _, node in nodes)
    return f"{unions} values are unions, and the API takes {MAX_UNIONS}" if unions > MAX_UNIONS else None


def _nodes(root: Schema) -> Iterator[tuple[str, Schema]]:
    pending: list[tuple[str, Any]] = [("", root)]
    while pending:
        place, node = pending.pop()
        if isinstance(node, dict):
            yield place, node
            inner = [each for each in subschemas(node) if is_value_place(each[0]) or each[0].startswith(_SECTIONS)]
            pending += [(f"{place}{where}", schema) for where, schema in reversed(inner)]


def _problem(root: Schema, node: Schema) -> str | None:
    kinds = node.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "object" in kinds and node.get("additionalProperties") is not False:
        return "is an object without 'additionalProperties': false"
    for keyword, concerned in _UNSUPPORTED.items():
        if keyword in node and not set(kinds).isdisjoint(concerned):
            return f"has {keyword!r}, which the API does not take"
    if "array" in kinds and node.get("minItems", 0) > MAX_MIN_ITEMS:
        return "has 'minItems' above 1, which the API does not take"
    if any(isinstance(value, dict | list) for value in node.get("enum", ())):
        return "has an object or an array in 'enum', which the API does not take"
    return _reference_problem(root, node["$ref"]) if "$ref" in node else None


def _reference_problem(root: Schema, reference: str) -> str | None:
    shown = short_repr(reference, 30)
    is_pointer = reference == "#" or reference.startswith("#/")
    if "://" in reference or (is_pointer and follow(root, reference) is None):
        return f"refers to {shown}, which is not in the schema"
    return f"contains itself, by {shown}" if is_pointer and is_recursive(root, reference) else None
