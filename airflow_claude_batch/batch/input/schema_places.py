"""Tells where in a JSON Schema there are other schemas, rather than data, or names of properties."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from airflow_claude_batch.exceptions import OutputSchemaError

Schema = dict[str, Any]

#: Characters of the first line of an error.
_LINE: Final = 120
_ONE: Final = (
    "items",
    "additionalItems",
    "contains",
    "additionalProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "not",
    "if",
    "then",
    "else",
    "contentSchema",
)
_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_BY_NAME: Final = ("properties", "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions")


def subschemas(node: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every schema directly inside a schema, with its place. Keywords of all drafts are known."""
    for keyword in _ONE:
        if isinstance(node.get(keyword), dict):
            yield f".{keyword}", node[keyword]
    for keyword in _LISTS:
        branches = node.get(keyword)
        for number, branch in enumerate(branches if isinstance(branches, list) else ()):
            yield f".{keyword}[{number}]", branch
    for keyword in _BY_NAME:
        named = node.get(keyword)
        for name, schema in named.items() if isinstance(named, dict) else ():
            yield f".{keyword}.{name}", schema


def is_keyword(key: str) -> bool:
    """Tell whether a key of a schema is a keyword with schemas inside."""
    return key in {*_ONE, *_LISTS, *_BY_NAME}


def is_value_place(place: str) -> bool:
    """Tell whether the schema at a place, as :func:`subschemas` names it, describes a value or a part of it."""
    return place.startswith((".properties.", ".items", ".prefixItems[", ".anyOf[", ".oneOf[", ".allOf["))


def schema_error(where: str, problem: str, remedy: str) -> OutputSchemaError:
    """Build the error about a place in a schema. Of a place that is too long for one line, the end is shown."""
    room = _LINE - len(problem) - 2
    start = "output_schema…"
    shown = where if len(where) <= room else start + where[len(where) - max(room - len(start), 8) :]
    return OutputSchemaError(f"{shown}: {problem}", remedy)
