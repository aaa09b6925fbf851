"""The part of JSON Schema that the API takes for outputs, and how a schema is brought into it.

Sources: structured-outputs docs, 2026-10-08; the vendor's SDK 2.12.0, ``lib/_parse/_transform.py``. Three rules:

* What the API takes goes as it is, and objects are closed.
* What it does not take but words can say (bounds, lengths, patterns, conditions) is put into the description. The
  author's own schema is what answers are validated against, so that it is enforced nevertheless.
* What would come to mean something else is an error: it names the place and the remedy.
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
#: Said about a value, without any bearing on whether it is valid: these are taken.
ANNOTATIONS: Final = ("title", "description", "default")
#: These are not, and say nothing that a model needs.
_DROPPED: Final = frozenset(
    {"$schema", "$id", "$comment", "$defs", "definitions", "deprecated", "readOnly", "writeOnly", "discriminator"}
)
_DEFINITIONS: Final = ("$defs", "definitions")

Schema = dict[str, Any]


def adapt(schema: Schema) -> Schema:
    """The schema as the API takes it.

    :param schema: a valid JSON Schema.
    :raises OutputSchemaError: it cannot be adapted without changing what it means.
    """
    adapter = _Adapter(schema)
    adapted = adapter.adapt(schema, "output_schema", (), inline=True)
    adapter.check_size()
    return {**adapted, **adapter.definitions}


def referred(root: Schema, reference: str, where: str) -> Any:
    """What a reference leads to.

    :raises OutputSchemaError: it leads nowhere, or out of the schema.
    """
    node: Any = root if reference == "#" or reference.startswith("#/") else None
    for part in _parts(reference):
        node = node.get(part) if isinstance(node, dict) else None
    if node is None:
        raise OutputSchemaError(
            f"{where} refers to {reference!r}, which is not in the schema. Copy it under $defs and refer to "
            "'#/$defs/<name>'."
        )
    return node


class _Adapter:
    """One pass over a schema. ``inside`` are the references that led to a place: none may lead there again."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._optional = 0
        self._unions = 0
        #: What is referred to, by section and name, adapted.
        self.definitions: dict[str, dict[str, Schema]] = {}

    def adapt(self, node: Any, where: str, inside: tuple[str, ...], *, inline: bool = False) -> Schema:
        node = _checked(node, where)
        if not inline and _is_plain_reference(node):
            self._define(node["$ref"], where, inside)
            return {"$ref": node["$ref"]}
        flat, inside = self._flatten(node, where, inside)
        rest = {key: value for key, value in flat.items() if key not in _DROPPED and key not in ANNOTATIONS}
        adapted = self._adapt_value(rest, where, inside)
        return {**adapted, **_annotated(flat, rest)}

    def check_size(self) -> None:
        """Refuse what the API calls too complex.

        :raises OutputSchemaError: says by how much.
        """
        if self._optional > MAX_OPTIONAL_PROPERTIES:
            raise OutputSchemaError(
                f"{self._optional} properties may be left out; the API takes {MAX_OPTIONAL_PROPERTIES}. Make some of "
                "them required, with a value of theirs that stands for nothing, or ask for less at once."
            )
        if self._unions > MAX_UNIONS:
            raise OutputSchemaError(
                f"{self._unions} values are unions (anyOf, oneOf or several types); the API takes {MAX_UNIONS}. Give "
                "some of them one type: an empty string instead of null, say. Or ask for less at once."
            )

    # ------------------------------------------------------------------ references

    def _define(self, reference: str, where: str, inside: tuple[str, ...]) -> None:
        """Adapt what a reference leads to, once."""
        target = self._resolve(reference, where, inside)
        section, name = _parts(reference)
        known = self.definitions.setdefault(section, {})
        if name not in known:
            known[name] = self.adapt(target, f"output_schema.{section}.{name}", (*inside, reference), inline=True)

    def _resolve(self, reference: str, where: str, inside: tuple[str, ...]) -> Any:
        if reference in inside:
            raise OutputSchemaError(
                f"{where} contains itself, by {reference}; the API takes no recursive schemas. Write the levels that "
                "you need one in the other."
            )
        return referred(self._root, reference, where)

    def _flatten(self, node: Schema, where: str, inside: tuple[str, ...]) -> tuple[Schema, tuple[str, ...]]:
        """One schema without ``$ref`` and ``allOf``: the API takes nothing beside the one, nor the one in the other."""
        own = {key: value for key, value in node.items() if key not in ("$ref", "allOf")}
        parts = []
        if "$ref" in node:
            target = self._resolve(node["$ref"], where, inside)
            inside = (*inside, node["$ref"])
            part, inside = self._flatten(_checked(target, where), where, inside)
            parts.append(part)
        for number, branch in enumerate(node.get("allOf", ())):
            place = f"{where}.allOf[{number}]"
            part, inside = self._flatten(_checked(branch, place), place, inside)
            parts.append(part)
        return (_merge([*parts, own], where) if parts else own), inside

    # ------------------------------------------------------------------ values

    def _adapt_value(self, rest: Schema, where: str, inside: tuple[str, ...]) -> Schema:
        """Take out of ``rest`` what the API takes; what stays in it is for the description."""
        if "enum" in rest:
            rest.pop("type", None)
            return {"enum": _plain_values(rest.pop("enum"), where)}
        if "const" in rest:
            rest.pop("type", None)
            return {"const": _plain_values([rest.pop("const")], where)[0]}
        for keyword in ("anyOf", "oneOf"):
            if keyword in rest:
                return self._union(rest, keyword, where, inside)
        if "if" in rest or "dependentSchemas" in rest:
            raise OutputSchemaError(f"{where} has conditions (if, dependentSchemas). Write the cases as anyOf.")
        return self._typed(rest, where, inside)

    def _union(self, rest: Schema, keyword: str, where: str, inside: tuple[str, ...]) -> Schema:
        """What stands beside a union holds for each branch. That no two branches of oneOf hold is for the landing."""
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
        types = _types(rest, where)
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
        named = properties or False in extra
        if not named or "patternProperties" in rest or any(isinstance(schema, dict) for schema in extra):
            raise OutputSchemaError(
                f"{where} is an object whose properties may have any name; the API takes only objects that list them. "
                "List them, or make it an array of objects with a property for the name and one for the value."
            )
        required = rest.pop("required", [])
        unknown = [name for name in required if name not in properties]
        if unknown:
            raise OutputSchemaError(f"{where} requires {unknown[0]!r}, which its properties do not list. Add it there.")
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
        kinds = [
            self.adapt(item, f"{where}.prefixItems[{number}]", inside)
            for number, item in enumerate(rest.get("prefixItems", ()))
        ]
        if items not in ({}, True, False):
            kinds.append(self.adapt(items, f"{where}.items", inside))
        if kinds := [kind for number, kind in enumerate(kinds) if kind not in kinds[:number]]:
            adapted["items"] = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
            self._unions += len(kinds) > 1
        if "minItems" in rest:
            adapted["minItems"] = min(rest["minItems"], MAX_MIN_ITEMS)
            if rest["minItems"] <= MAX_MIN_ITEMS:
                del rest["minItems"]
        return adapted


def _is_plain_reference(node: Schema) -> bool:
    """Whether it is a reference to a definition and nothing else."""
    if set(node) != {"$ref"}:
        return False
    parts = _parts(node["$ref"])
    return str(node["$ref"]).startswith("#/") and len(parts) == 2 and parts[0] in _DEFINITIONS


def _parts(reference: str) -> list[str]:
    """The steps of a local reference (a JSON Pointer in a URI's fragment)."""
    return [part.replace("~1", "/").replace("~0", "~") for part in reference.split("/")[1:]]


def _checked(node: Any, where: str) -> Schema:
    if not isinstance(node, dict):
        raise OutputSchemaError(f"{where} is {json.dumps(node)}, which tells no value. Say what it may be.")
    return node


def _types(rest: Schema, where: str) -> list[str]:
    """The node's types. What only objects or arrays have says so without ``type``."""
    given = rest.pop("type", [])
    if not given and "properties" in rest:
        given = "object"
    if not given and ("items" in rest or "prefixItems" in rest):
        given = "array"
    if not given:
        raise OutputSchemaError(f"{where} says nothing of the value's type. Give type, enum, const or anyOf.")
    return given if isinstance(given, list) else [given]


def _plain_values(values: list[Any], where: str) -> list[Any]:
    if not values or any(isinstance(value, list | dict) for value in values):
        raise OutputSchemaError(
            f"{where} lists values that are objects or arrays, or none at all; the API takes strings, numbers, "
            "booleans and null. Describe the others by anyOf."
        )
    return values


def _merge(parts: Iterable[Schema], where: str) -> Schema:
    """One schema that says what all parts say."""
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
                    f"{where} says {key!r} twice, itself or by $ref and allOf, and not the same. Write it once."
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
    """No answer could satisfy two closed objects with different properties."""
    for one, other in ((first, second), (second, first)):
        if one.get("additionalProperties") is False and set(other.get("properties", ())) - set(
            one.get("properties", ())
        ):
            raise OutputSchemaError(
                f"{where} joins an object without additionalProperties with another that has more: nothing can be "
                "both. Leave additionalProperties out; the API gets it on the whole."
            )


def _annotated(node: Schema, unsaid: Schema) -> Schema:
    """The node's annotations, with what the API does not take in the description, in the SDK's form."""
    annotations: Schema = {key: node[key] for key in ANNOTATIONS if key in node}
    if unsaid:
        words = ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in unsaid.items())
        annotations["description"] = "\n\n".join(filter(None, (annotations.get("description"), f"{{{words}}}")))
    return annotations
