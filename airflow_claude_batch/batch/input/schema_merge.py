"""Merges schemas that a value must satisfy together into one: the members of ``allOf``, and the target of ``$ref``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from airflow_claude_batch.batch.input.schema_places import Schema, schema_error

#: Keywords that describe a value and do not restrict it. The API takes these.
ANNOTATIONS: Final = ("title", "description", "default")
#: Keywords that the API does not take, and that a model does not need.
DROPPED: Final = frozenset(
    {"$schema", "$id", "$comment", "$defs", "definitions", "deprecated", "readOnly", "writeOnly", "discriminator"}
)


def merge(parts: Iterable[Schema], where: str) -> Schema:
    """Merge schemas into one with the keywords of all."""
    merged: Schema = {}
    for part in parts:
        _check_closed(merged, part, where)
        for key, value in part.items():
            if key not in merged or key in ANNOTATIONS or merged[key] == value:
                merged[key] = value
            elif key == "required":
                merged[key] = [*merged[key], *(name for name in value if name not in merged[key])]
            elif key == "properties":
                merged[key] = _merge_properties(merged[key], value)
            elif key == "type" and (types := _common_types(merged[key], value)):
                merged[key] = types
            elif key == "enum" and (common := [option for option in merged[key] if option in value]):
                merged[key] = common
            elif key == "items" and isinstance(merged[key], dict) and isinstance(value, dict):
                merged[key] = {"allOf": [merged[key], value]}
            elif key in ("anyOf", "oneOf"):
                merged[key] = [{"allOf": [branch, {key: value}]} for branch in merged[key]]
            elif key not in DROPPED and key != "additionalProperties":
                raise schema_error(
                    where, f"{key!r:.40} is given twice, with different values, by $ref or allOf.", "Give it once."
                )
    return merged


def _common_types(one: Any, other: Any) -> Any:
    """Return the types that satisfy both, empty if there are none."""
    first, second = ([types] if isinstance(types, str) else types for types in (one, other))
    common = [kind for kind in first if kind in second or (kind == "integer" and "number" in second)]
    if "integer" in second and "number" in first and "integer" not in common:
        common.append("integer")
    return common[0] if len(common) == 1 else common


def _merge_properties(first: Mapping[str, Any], second: Mapping[str, Any]) -> Schema:
    return {
        **first,
        **{
            name: value if first.get(name, value) == value else {"allOf": [first[name], value]}
            for name, value in second.items()
        },
    }


def _check_closed(first: Schema, second: Schema, where: str) -> None:
    """Raise if no answer could satisfy both: one object is closed, and the other has more properties."""
    for one, other in ((first, second), (second, first)):
        if one.get("additionalProperties") is False and set(other.get("properties", ())) - set(
            one.get("properties", ())
        ):
            raise schema_error(
                where,
                "joins an object without additionalProperties with one that has more; nothing can be both.",
                "Leave additionalProperties out: it is added to the whole before the schema is sent.",
            )
