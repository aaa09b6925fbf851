"""Adapts a JSON Schema to the part of JSON Schema that the API takes for outputs.

Sources: structured-outputs docs, 2026-10-08; the vendor's SDK 2.12.0, ``lib/_parse/_transform.py``. Three rules:

* What the API takes is left as it is, except that objects are closed.
* What the API does not take, but words can say (bounds, lengths, patterns), goes into the description. Answers are
  validated against the author's own schema, so it is enforced nevertheless.
* What would get another meaning is an error, which names the place and the remedy.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from airflow_claude_batch.exceptions import OutputSchemaError

MAX_OPTIONAL_PROPERTIES: Final = 24  # in a whole request; structured-outputs docs
MAX_UNIONS: Final = 16  # anyOf and lists of types, in a whole request; same
MAX_MIN_ITEMS: Final = 1  # same

FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
#: Keywords that describe a value and do not restrict it. The API takes these.
ANNOTATIONS: Final = ("title", "description", "default")
#: Keywords that the API does not take, and that a model does not need.
_DROPPED: Final = frozenset(
    {"$schema", "$id", "$comment", "$defs", "definitions", "deprecated", "readOnly", "writeOnly", "discriminator"}
)
_DEFINITIONS: Final = ("$defs", "definitions")
_SAY_THE_TYPE: Final = "Give type, enum, const or anyOf."

Schema = dict[str, Any]


def adapt(schema: Schema) -> Schema:
    """Return the schema in the form that the API takes.

    >>> adapt({"type": "array", "items": {"type": "string"}, "maxItems": 3})
    {'type': 'array', 'items': {'type': 'string'}, 'description': '{maxItems: 3}'}

    :param schema: a valid JSON Schema.
    :raises OutputSchemaError: it cannot be adapted without a change of its meaning.
    """
    adapter = _Adapter(schema)
    adapted = adapter.adapt(schema, "output_schema", (), inline=True)
    adapter.check_size()
    return {**adapted, **adapter.definitions}


def resolve_reference(root: Schema, reference: str, where: str) -> Any:
    """Return the target of a reference.

    :raises OutputSchemaError: the target is not in the schema.
    """
    node: Any = root if reference == "#" or reference.startswith("#/") else None
    for part in _reference_parts(reference):
        node = node.get(part) if isinstance(node, dict) else None
    if node is None:
        raise OutputSchemaError(
            f"{where}: refers to {reference!r}, which is not in the schema.",
            "Copy the target under $defs and refer to it by '#/$defs/<name>'.",
        )
    return node


class _Adapter:
    """One pass over a schema. ``inside`` has the references that led to a place, to find recursion."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._optional = 0
        self._unions = 0
        #: The adapted definitions that are referred to, by section and name.
        self.definitions: dict[str, dict[str, Schema]] = {}

    def adapt(self, node: Any, where: str, inside: tuple[str, ...], *, inline: bool = False) -> Schema:
        node = _require_object(node, where)
        if not inline and _is_only_reference(node):
            self._define(node["$ref"], where, inside)
            return {"$ref": node["$ref"]}
        flat, inside = self._flatten(node, where, inside)
        rest = {key: value for key, value in flat.items() if key not in _DROPPED and key not in ANNOTATIONS}
        adapted = self._adapt_value(rest, where, inside)
        return {**adapted, **_annotations(flat, rest)}

    def check_size(self) -> None:
        """Raise if the API would call the schema too complex.

        :raises OutputSchemaError: says by how much.
        """
        if self._optional > MAX_OPTIONAL_PROPERTIES:
            raise OutputSchemaError(
                f"output_schema: {self._optional} properties are optional; the API takes {MAX_OPTIONAL_PROPERTIES}.",
                "Make some of them required, with a value that stands for nothing, or ask for less in one request.",
            )
        if self._unions > MAX_UNIONS:
            raise OutputSchemaError(
                f"output_schema: {self._unions} values are unions (anyOf, oneOf, several types); the API takes "
                f"{MAX_UNIONS}.",
                "Give some of them one type, such as an empty string instead of null, or ask for less in one request.",
            )

    # ------------------------------------------------------------------ references

    def _define(self, reference: str, where: str, inside: tuple[str, ...]) -> None:
        """Adapt the target of a reference, once."""
        target = self._resolve(reference, where, inside)
        section, name = _reference_parts(reference)
        known = self.definitions.setdefault(section, {})
        if name not in known:
            known[name] = self.adapt(target, f"output_schema.{section}.{name}", (*inside, reference), inline=True)

    def _resolve(self, reference: str, where: str, inside: tuple[str, ...]) -> Any:
        if reference in inside:
            raise OutputSchemaError(
                f"{where}: contains itself, by {reference}; the API takes no recursive schemas.",
                "Write out the levels that you need, one inside the other.",
            )
        return resolve_reference(self._root, reference, where)

    def _flatten(self, node: Schema, where: str, inside: tuple[str, ...]) -> tuple[Schema, tuple[str, ...]]:
        """Merge ``$ref`` and ``allOf`` into one schema: the API takes no keyword beside them and no nesting."""
        own = {key: value for key, value in node.items() if key not in ("$ref", "allOf")}
        parts = []
        if "$ref" in node:
            target = self._resolve(node["$ref"], where, inside)
            inside = (*inside, node["$ref"])
            part, inside = self._flatten(_require_object(target, where), where, inside)
            parts.append(part)
        for number, branch in enumerate(node.get("allOf", ())):
            place = f"{where}.allOf[{number}]"
            part, inside = self._flatten(_require_object(branch, place), place, inside)
            parts.append(part)
        return (_merge([*parts, own], where) if parts else own), inside

    # ------------------------------------------------------------------ values

    def _adapt_value(self, rest: Schema, where: str, inside: tuple[str, ...]) -> Schema:
        """Move what the API takes out of ``rest``. What stays in it goes into the description."""
        if "enum" in rest:
            rest.pop("type", None)
            return {"enum": _scalars(rest.pop("enum"), where)}
        if "const" in rest:
            rest.pop("type", None)
            return {"const": _scalars([rest.pop("const")], where)[0]}
        for keyword in ("anyOf", "oneOf"):
            if keyword in rest:
                return self._union(rest, keyword, where, inside)
        if "if" in rest or "dependentSchemas" in rest:
            raise OutputSchemaError(
                f"{where}: conditions (if, dependentSchemas) cannot be sent.", "Write the cases as anyOf."
            )
        return self._typed(rest, where, inside)

    def _union(self, rest: Schema, keyword: str, where: str, inside: tuple[str, ...]) -> Schema:
        """Apply the keywords beside a union to each branch. Answers are checked for oneOf: it is sent as anyOf."""
        branches = rest.pop(keyword)
        beside = dict(rest)
        rest.clear()
        self._unions += 1
        return {
            "anyOf": [
                self.adapt({"allOf": [beside, branch]} if beside else branch, f"{where}.{keyword}[{number}]", inside)
                for number, branch in enumerate(branches)
            ]
        }

    def _typed(self, rest: Schema, where: str, inside: tuple[str, ...]) -> Schema:
        types = _pop_types(rest, where)
        adapted: Schema = {"type": types[0] if len(types) == 1 else types}
        self._unions += len(types) > 1
        if "object" in types:
            adapted.update(self._object(rest, where, inside))
        if "array" in types:
            adapted.update(self._array(rest, where, inside))
        if "string" in types and rest.get("format") in FORMATS:
            adapted["format"] = rest.pop("format")
        return adapted

    def _object(self, rest: Schema, where: str, inside: tuple[str, ...]) -> Schema:
        properties = rest.pop("properties", {})
        extra = [rest.pop(keyword, None) for keyword in ("additionalProperties", "unevaluatedProperties")]
        is_listed = properties or False in extra
        if not is_listed or "patternProperties" in rest or any(isinstance(schema, dict) for schema in extra):
            raise OutputSchemaError(
                f"{where}: an object with properties of any name; the API takes only listed properties.",
                "List them, or use an array of objects with a property for the name and one for the value.",
            )
        required = rest.pop("required", [])
        unknown = [name for name in required if name not in properties]
        if unknown:
            raise OutputSchemaError(
                f"{where}: requires {unknown[0]!r}, which its properties do not list.", "Add it to the properties."
            )
        self._optional += len(properties) - len(set(required))
        return {
            "properties": {
                name: self.adapt(value, f"{where}.properties.{name}", inside) for name, value in properties.items()
            },
            **({"required": required} if required else {}),
            "additionalProperties": False,
        }

    def _array(self, rest: Schema, where: str, inside: tuple[str, ...]) -> Schema:
        adapted: Schema = {}
        items = rest.pop("items", {})
        item_schemas = [
            self.adapt(item, f"{where}.prefixItems[{number}]", inside)
            for number, item in enumerate(rest.get("prefixItems", ()))
        ]
        if items not in ({}, True, False):
            item_schemas.append(self.adapt(items, f"{where}.items", inside))
        if distinct := [item for number, item in enumerate(item_schemas) if item not in item_schemas[:number]]:
            adapted["items"] = distinct[0] if len(distinct) == 1 else {"anyOf": distinct}
            self._unions += len(distinct) > 1
        if "minItems" in rest:
            adapted["minItems"] = min(rest["minItems"], MAX_MIN_ITEMS)
            if rest["minItems"] <= MAX_MIN_ITEMS:
                del rest["minItems"]
        return adapted


def _is_only_reference(node: Schema) -> bool:
    """Return whether a node is a reference to a definition and nothing else."""
    if set(node) != {"$ref"}:
        return False
    parts = _reference_parts(node["$ref"])
    return str(node["$ref"]).startswith("#/") and len(parts) == 2 and parts[0] in _DEFINITIONS


def _reference_parts(reference: str) -> list[str]:
    """Split a local reference (a JSON Pointer in a URI's fragment)."""
    return [part.replace("~1", "/").replace("~0", "~") for part in reference.split("/")[1:]]


def _require_object(node: Any, where: str) -> Schema:
    if not isinstance(node, dict):
        raise OutputSchemaError(f"{where}: {json.dumps(node)} does not describe a value.", _SAY_THE_TYPE)
    return node


def _pop_types(rest: Schema, where: str) -> list[str]:
    """Take the types out of ``rest``. Keywords that only objects or arrays have imply the type."""
    types = rest.pop("type", [])
    if not types and "properties" in rest:
        types = "object"
    if not types and ("items" in rest or "prefixItems" in rest):
        types = "array"
    if not types:
        raise OutputSchemaError(f"{where}: the type of the value is missing.", _SAY_THE_TYPE)
    return types if isinstance(types, list) else [types]


def _scalars(values: list[Any], where: str) -> list[Any]:
    if not values or any(isinstance(value, list | dict) for value in values):
        raise OutputSchemaError(
            f"{where}: enum or const lists an object, an array or nothing.",
            "List strings, numbers, booleans and null, and describe other values by anyOf.",
        )
    return values


def _merge(parts: Iterable[Schema], where: str) -> Schema:
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
            elif key not in _DROPPED and key != "additionalProperties":
                raise OutputSchemaError(
                    f"{where}: {key!r} is given twice, with different values, by $ref or allOf.", "Give it once."
                )
    return merged


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
            raise OutputSchemaError(
                f"{where}: joins an object without additionalProperties with one that has more; nothing can be both.",
                "Leave additionalProperties out: it is added to the whole before the schema is sent.",
            )


def _annotations(node: Schema, described: Schema) -> Schema:
    """Return the node's annotations. Keywords that the API does not take are in the description, in the SDK's form."""
    annotations: Schema = {key: node[key] for key in ANNOTATIONS if key in node}
    if described:
        words = ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in described.items())
        annotations["description"] = "\n\n".join(filter(None, (annotations.get("description"), f"{{{words}}}")))
    return annotations
