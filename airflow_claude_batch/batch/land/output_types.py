"""Choose the type of the column ``output`` by the JSON Schema that the API was asked to follow.

It depends on the schema alone: a table of another day has the same columns. The rules:

* Objects are structs, with the required properties first: the API writes them in this order. Arrays are lists.
* Integers are 64-bit integers, numbers are doubles, texts with the format ``date`` are dates.
* All other texts are texts, also with the format ``date-time``: it may have any offset or none, and a timestamp would
  have to guess or forget it.
* A value that may be null has the type of the rest. What has several types otherwise, or none, is JSON text; so is an
  object whose names some readers of tables refuse: empty ones, and those that differ in case only.
"""

from __future__ import annotations

from typing import Any, Final

from airflow_claude_batch.batch.input.schema_references import follow
from airflow_claude_batch.batch.land.table_types import (
    JSON,
    ColumnType,
    ListType,
    ScalarType,
    StructField,
    StructType,
    has_usable_names,
)

#: Structs and lists inside each other. BigQuery takes 15 levels of columns.
_MOST_LEVELS: Final = 12
_SCALARS: Final = {name: ScalarType(name) for name in ("boolean", "integer", "number")}
_TEXT: Final = ScalarType("text")
_DATE: Final = ScalarType("date")
_NULL: Final = "null"
_TYPE_OF_VALUE: Final = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): _NULL}


def output_type(schema: dict[str, Any]) -> ColumnType:
    """Return the column type of a schema.

    >>> output_type({"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "null"}]}})
    ListType(items=ScalarType(kind='integer'))

    :param schema: as :func:`~.schema_adapter.adapt` returns it.
    """
    return _Types(schema).type_of(schema, 0)


class _Types:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root

    def type_of(self, node: Any, level: int) -> ColumnType:
        if level > _MOST_LEVELS:
            return JSON
        return _common([self._type_of_branch(each, level) for each in self._branches(node) if each["type"] != _NULL])

    def _branches(self, node: Any) -> list[dict[str, Any]]:
        """Return the schemas that a value may satisfy. Each of them has one type."""
        node = self._resolved(node)
        if "anyOf" in node:
            return [branch for each in node["anyOf"] for branch in self._branches(each)]
        values = node.get("enum", [node["const"]] if "const" in node else None)
        if values is not None:
            return [{"type": _TYPE_OF_VALUE.get(type(value), "")} for value in values]
        types = node.get("type", "")
        return [{**node, "type": name} for name in (types if isinstance(types, list) else [types])]

    def _resolved(self, node: Any) -> dict[str, Any]:
        for _ in range(_MOST_LEVELS):
            if not isinstance(node, dict) or "$ref" not in node:
                break
            node = follow(self._root, node["$ref"])
        return node if isinstance(node, dict) and "$ref" not in node else {}

    def _type_of_branch(self, branch: dict[str, Any], level: int) -> ColumnType:
        name = branch["type"]
        if name == "string":
            return _DATE if branch.get("format") == "date" else _TEXT
        if name == "object":
            return self._struct(branch, level)
        if name == "array" and "items" in branch:
            return ListType(self.type_of(branch["items"], level + 1))
        return _SCALARS.get(name, JSON)

    def _struct(self, branch: dict[str, Any], level: int) -> ColumnType:
        properties = branch.get("properties", {})
        if not has_usable_names(list(properties)):
            return JSON
        required = set(branch.get("required", ()))
        return StructType(
            tuple(
                StructField(
                    name,
                    self.type_of(properties[name], level + 1),
                    absent=name not in required and not self._may_be_null(properties[name]),
                )
                for name in sorted(properties, key=lambda name: name not in required)
            )
        )

    def _may_be_null(self, node: Any) -> bool:
        return any(branch["type"] == _NULL for branch in self._branches(node))


def _common(types: list[ColumnType]) -> ColumnType:
    """Return the type that holds the values of all these types."""
    found = set(types)
    if len(found) == 1:
        return types[0]
    if found == {_TEXT, _DATE}:
        return _TEXT
    return _SCALARS["number"] if found == {_SCALARS["integer"], _SCALARS["number"]} else JSON
