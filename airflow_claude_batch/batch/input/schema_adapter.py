"""Adapts a JSON Schema to the part of JSON Schema that the API takes for outputs.

Sources: structured-outputs docs, 2026-10-08; the vendor's SDK 2.12.0, ``lib/_parse/_transform.py``. The rules:

* What the API takes is left as it is, except that objects are closed.
* What the API does not take, but words can say (bounds, lengths, patterns), goes into the description. Answers are
  validated against the author's own schema, so it is still enforced.
* What would get another meaning is an error, which names the place and the remedy.
* A new release must send the same text for the same schema. Another text would be another request, paid for again.
"""

from __future__ import annotations

import json
from typing import Any, Final

from airflow_claude_batch.batch.input.schema_merge import ANNOTATIONS, DROPPED, merge
from airflow_claude_batch.batch.input.schema_places import Schema, schema_error
from airflow_claude_batch.batch.input.schema_references import (
    DEFINITIONS,
    follow,
    is_recursive,
    libraries,
    pointer_parts,
    safe_name,
    used_again,
)
from airflow_claude_batch.exceptions import OutputSchemaError

MAX_OPTIONAL_PROPERTIES: Final = 24  # in a whole request; structured-outputs docs
MAX_UNIONS: Final = 16  # anyOf and lists of types, in a whole request; same
MAX_MIN_ITEMS: Final = 1  # same

FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
#: A ``$ref`` beside one of these keywords is replaced by a copy of its target: a description could not say them.
_STRUCTURE: Final = frozenset(
    {
        *("type", "enum", "const", "anyOf", "oneOf", "allOf", "format", "if", "dependentSchemas"),
        *("properties", "required", "additionalProperties", "unevaluatedProperties", "patternProperties"),
        *("items", "prefixItems", "minItems"),
    }
)
#: The most copies of definitions in one schema. With more, definitions that are used several times stay ``$ref``.
_MOST_COPIES: Final = 1000
_SAY_THE_TYPE: Final = "Give type, enum, const or anyOf."


def adapt(schema: Schema) -> Schema:
    """Return the schema in the form that the API takes.

    >>> adapt({"type": "array", "items": {"type": "string"}, "maxItems": 3})
    {'type': 'array', 'items': {'type': 'string'}, 'description': '{maxItems: 3}'}

    :param schema: a valid JSON Schema.
    :raises OutputSchemaError: it cannot be adapted without a change of its meaning.
    """
    try:
        return _Adapter(schema, shared=frozenset()).adapt_root()
    except _TooLargeError:
        return _Adapter(schema, shared=used_again(schema)).adapt_root()


class _TooLargeError(OutputSchemaError):
    """The API would call the schema too complex, at least with a copy of a definition in each place that uses it."""


class _Adapter:
    """One pass over a schema. ``inside`` has the references that led to a place, to find recursion.

    A ``$ref`` with other keywords in the same object becomes a copy of its target: the API takes ``$ref`` only alone.

    :param shared: definitions that stay ``$ref`` all the same. The other keywords go into the description of the object
        around them.
    """

    def __init__(self, root: Schema, *, shared: frozenset[str]) -> None:
        self._root = root
        self._shared = shared
        self._copies = 0
        self._names: dict[str, tuple[str, str]] = {}
        self._optional = 0
        self._unions = 0
        #: The adapted definitions that are referred to, by section and name.
        self.definitions: dict[str, dict[str, Schema]] = {}

    def adapt_root(self) -> Schema:
        """Adapt the whole schema.

        :raises OutputSchemaError: it has no form that the API takes.
        """
        unsent = libraries(self._root)
        root = {key: value for key, value in self._root.items() if key not in unsent}
        adapted = self.adapt(root, "output_schema", (), inline=True)
        self.check_size()
        return {**adapted, **self.definitions}

    def adapt(self, node: Any, where: str, inside: tuple[str, ...], *, inline: bool = False) -> Schema:
        node = _require_object(node, where)
        if not inline and (reference := self._kept_reference(node)):
            return {"$ref": self._define(reference, where, inside)}
        flat, inside = self._flatten(node, where, inside)
        rest = {key: value for key, value in flat.items() if key not in DROPPED and key not in ANNOTATIONS}
        adapted = self._adapt_value(rest, where, inside)
        return {**adapted, **_annotations(flat, rest)}

    def check_size(self) -> None:
        """Raise if the API would call the schema too complex.

        :raises OutputSchemaError: says by how much.
        """
        if self._optional > MAX_OPTIONAL_PROPERTIES:
            raise _TooLargeError(
                f"output_schema: {self._optional} properties are optional; the API takes {MAX_OPTIONAL_PROPERTIES}.",
                "Make some of them required, with a value that stands for nothing, or ask for less in one request.",
            )
        if self._unions > MAX_UNIONS:
            raise _TooLargeError(
                f"output_schema: {self._unions} values are unions (anyOf, oneOf, several types); the API takes "
                f"{MAX_UNIONS}.",
                "Give some of them one type, such as an empty string instead of null, or ask for less in one request.",
            )

    # ------------------------------------------------------------------ references

    def _kept_reference(self, node: Schema) -> str:
        """Return the reference that is sent for a node, if it is nothing else or its definition is shared."""
        reference: str = _reference_of(node)
        if reference in self._shared:
            return reference if _STRUCTURE.isdisjoint(node.keys() - {"allOf"}) else ""
        return reference if set(node) == {"$ref"} and _is_definition(reference) else ""

    def _define(self, reference: str, where: str, inside: tuple[str, ...]) -> str:
        """Adapt the target of a reference, once. Return the reference to it that is sent."""
        target = self._resolve(reference, where, inside)
        if reference not in self._names:
            self._names[reference] = section, name = self._name(reference)
            known = self.definitions.setdefault(section, {})
            known[name] = self.adapt(target, f"output_schema.{section}.{name}", (*inside, reference), inline=True)
        section, name = self._names[reference]
        return reference if _is_definition(reference) else f"#/{section}/{name}"

    def _name(self, reference: str) -> tuple[str, str]:
        """Return section and name of the definition that is sent for a reference."""
        section, *path = pointer_parts(reference)
        if _is_definition(reference):
            return section, path[0]
        taken = {*self._root.get("$defs", {}), *(name for _, name in self._names.values())}
        return "$defs", safe_name(path[-1] if path else section, taken)

    def _resolve(self, reference: str, where: str, inside: tuple[str, ...]) -> Any:
        if reference in inside and is_recursive(self._root, reference):
            raise schema_error(
                where,
                f"contains itself, by {reference:.24}; the API takes no recursive schemas.",
                "Write out the levels that you need, one inside the other.",
            )
        return follow(self._root, reference)

    def _count_copy(self) -> None:
        self._copies += 1
        if self._copies > _MOST_COPIES and not self._shared:
            raise _TooLargeError(
                f"output_schema: definitions are copied into more than {_MOST_COPIES} places.",
                "Leave out what is beside $ref there, or ask for less in one request.",
            )

    def _flatten(self, node: Schema, where: str, inside: tuple[str, ...]) -> tuple[Schema, tuple[str, ...]]:
        """Merge ``$ref`` and ``allOf`` into one schema: the API takes no keyword beside them and no nesting."""
        own = {key: value for key, value in node.items() if key not in ("$ref", "allOf")}
        parts = []
        if "$ref" in node:
            target = self._resolve(node["$ref"], where, inside)
            self._count_copy()
            inside = (*inside, node["$ref"])
            part, inside = self._flatten(_require_object(target, where), where, inside)
            parts.append(part)
        for number, branch in enumerate(node.get("allOf", ())):
            place = f"{where}.allOf[{number}]"
            part, inside = self._flatten(_require_object(branch, place), place, inside)
            parts.append(part)
        return (merge([*parts, own], where) if parts else own), inside

    # ------------------------------------------------------------------ values

    def _adapt_value(self, rest: Schema, where: str, inside: tuple[str, ...]) -> Schema:
        """Move what the API takes out of ``rest``. What stays in it goes into the description."""
        if "enum" in rest and not _is_for_words(rest["enum"], rest):
            rest.pop("type", None)
            return {"enum": _scalars(rest.pop("enum"), where)}
        if "const" in rest and not _is_for_words([rest["const"]], rest):
            rest.pop("type", None)
            return {"const": _scalars([rest.pop("const")], where)[0]}
        for keyword in ("anyOf", "oneOf"):
            if keyword in rest:
                return self._union(rest, keyword, where, inside)
        if "if" in rest or "dependentSchemas" in rest:
            raise schema_error(where, "conditions (if, dependentSchemas) cannot be sent.", "Write the cases as anyOf.")
        return self._typed(rest, where, inside)

    def _union(self, rest: Schema, keyword: str, where: str, inside: tuple[str, ...]) -> Schema:
        """Apply the keywords beside a union to each branch. Answers are checked for oneOf: it is sent as anyOf."""
        branches = rest.pop(keyword)
        beside = dict(rest)
        rest.clear()
        self._unions += 1
        notes = [self._beside_reference(branch) for branch in branches] if not beside else []
        if any(notes):
            rest[keyword] = notes
        return {
            "anyOf": [
                self.adapt({"allOf": [beside, branch]} if beside else branch, f"{where}.{keyword}[{number}]", inside)
                for number, branch in enumerate(branches)
            ]
        }

    def _beside_reference(self, node: Any) -> str:
        """Return the keywords that a ``$ref`` must lose to stay one, as a description. Empty if there are none."""
        if not isinstance(node, dict) or not self._kept_reference(node):
            return ""
        said = {"$ref", "allOf", "title", "description", *DROPPED}
        unsaid = {key: value for key, value in node.items() if key not in said}
        description: str = _annotations({"description": node.get("description", "")}, unsaid)["description"]
        return description

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
        is_listed = "properties" in rest
        properties = rest.pop("properties", {})
        extra = [rest.pop(keyword, None) for keyword in ("additionalProperties", "unevaluatedProperties")]
        is_listed = bool(properties) or False in extra or (is_listed and True not in extra)
        if not is_listed or "patternProperties" in rest or any(isinstance(schema, dict) for schema in extra):
            raise schema_error(
                where,
                "an object with properties of any name; the API takes only listed properties.",
                "List them, or use an array of objects with a property for the name and one for the value.",
            )
        required = rest.pop("required", [])
        unknown = [name for name in required if name not in properties]
        if unknown:
            raise schema_error(
                where, f"requires {unknown[0]!r:.40}, which its properties do not list.", "Add it to the properties."
            )
        notes = {name: note for name, value in properties.items() if (note := self._beside_reference(value))}
        if notes:
            rest["properties"] = notes
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
            if note := self._beside_reference(items):
                rest["items"] = note
        if distinct := [item for number, item in enumerate(item_schemas) if item not in item_schemas[:number]]:
            adapted["items"] = distinct[0] if len(distinct) == 1 else {"anyOf": distinct}
            self._unions += len(distinct) > 1
        if "minItems" in rest:
            adapted["minItems"] = min(rest["minItems"], MAX_MIN_ITEMS)
            if rest["minItems"] <= MAX_MIN_ITEMS:
                del rest["minItems"]
        return adapted


def _reference_of(node: Schema) -> str:
    """Return the ``$ref`` of a node, or of the only member of its ``allOf``. Empty if it has neither."""
    parts = node.get("allOf", [])
    if not parts:
        return str(node.get("$ref", ""))
    is_alone = len(parts) == 1 and "$ref" not in node and isinstance(parts[0], dict) and set(parts[0]) == {"$ref"}
    return str(parts[0]["$ref"]) if is_alone else ""


def _is_definition(reference: str) -> bool:
    parts = pointer_parts(reference)
    return len(parts) == 2 and parts[0] in DEFINITIONS


def _is_for_words(values: Any, node: Schema) -> bool:
    """Return whether values are objects or arrays, which the API takes in no enum, but their type is given."""
    return "type" in node and isinstance(values, list) and any(isinstance(value, list | dict) for value in values)


def _require_object(node: Any, where: str) -> Schema:
    if not isinstance(node, dict):
        raise schema_error(where, f"{json.dumps(node):.40} does not describe a value.", _SAY_THE_TYPE)
    return node


def _pop_types(rest: Schema, where: str) -> list[str]:
    """Take the types out of ``rest``. Keywords that only objects or arrays have imply the type."""
    types = rest.pop("type", [])
    if not types and "properties" in rest:
        types = "object"
    if not types and ("items" in rest or "prefixItems" in rest):
        types = "array"
    if not types:
        raise schema_error(where, "the type of the value is missing.", _SAY_THE_TYPE)
    return types if isinstance(types, list) else [types]


def _scalars(values: list[Any], where: str) -> list[Any]:
    if not values or any(isinstance(value, list | dict) for value in values):
        raise schema_error(
            where,
            "enum or const lists an object, an array or nothing.",
            "List strings, numbers, booleans and null, and describe other values by anyOf.",
        )
    return values


def _annotations(node: Schema, described: Schema) -> Schema:
    """Return the node's annotations. Keywords that the API does not take are in the description, in the SDK's form."""
    annotations: Schema = {key: node[key] for key in ANNOTATIONS if key in node}
    if described:
        words = ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in described.items())
        annotations["description"] = "\n\n".join(filter(None, (annotations.get("description"), f"{{{words}}}")))
    return annotations
