"""Generates instances of JSON schemas, as a model answers under structured outputs."""

from __future__ import annotations

import math
import random
import re
import string
from re import _constants as sre  # type: ignore[attr-defined]  # not in the stubs
from re import _parser  # type: ignore[attr-defined]  # not in the stubs
from typing import Any

from airflow_claude_batch.simulator.messages.schemas import resolve

_MAX_DEPTH = 6  # deeper, optional parts are left out, because schemas of tools may be recursive
_MAX_REQUIRED_DEPTH = 40  # no instance satisfies a schema that requires itself
_MAX_NODES = 2_000  # after so many values, everything optional is left out
_MAX_ITEMS = 100
_MAX_CHARACTERS = 10_000
_FORMATS = {
    "date-time": "2026-11-22T09:00:00Z",
    "date": "2026-11-22",
    "time": "09:00:00Z",
    "duration": "PT1H",
    "email": "someone@example.com",
    "hostname": "example.com",
    "uri": "https://example.com/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def schema_instance(schema: dict[str, Any], *, seed: int, text: str) -> Any:
    """Generate a value that satisfies ``schema``, if there is one of an ordinary size. Raises nothing.

    The same arguments give the same value.

    :param text: content of strings without a format or pattern.
    """
    return _Generator(schema, seed=seed, text=text).make(schema, depth=0)


class _Generator:
    def __init__(self, root: dict[str, Any], *, seed: int, text: str) -> None:
        self._root = root
        self._text = text
        self._rng = random.Random(seed)
        self._nodes = 0

    def make(self, schema: Any, *, depth: int) -> Any:
        self._nodes += 1
        if not isinstance(schema, dict):
            return self._text
        if depth > _MAX_REQUIRED_DEPTH or self._nodes > 10 * _MAX_NODES:
            return None
        if self._nodes > _MAX_NODES:
            depth = max(depth, _MAX_DEPTH)
        if "$ref" in schema:
            return self.make(resolve(self._root, schema["$ref"]) or {}, depth=depth + 1)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._rng.choice(schema["enum"])
        for keyword in ("anyOf", "oneOf"):
            if schema.get(keyword):
                return self.make(self._branch(schema[keyword], depth), depth=depth + 1)
        if schema.get("allOf"):
            return self.make(_merged(self._root, schema), depth=depth + 1)
        return self._typed(schema, depth)

    def _branch(self, branches: list[Any], depth: int) -> Any:
        if depth < _MAX_DEPTH:
            return branches[0]
        deep = {"$ref", "properties", "items"}
        shallow = [branch for branch in branches if not (isinstance(branch, dict) and deep & set(branch))]
        return (shallow or branches)[0]

    def _typed(self, schema: dict[str, Any], depth: int) -> Any:
        kind = schema.get("type") or ("object" if "properties" in schema else "string")
        match kind[0] if isinstance(kind, list) else kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "integer":
                return self._number(schema, step=1)
            case "number":
                return self._number(schema, step=0.5)
            case "boolean":
                return self._rng.random() < 0.5
            case "null":
                return None
            case _:
                return self._string(schema)

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = [name for name in schema.get("required") or () if name in properties]
        optional = [name for name in properties if name not in required and depth < _MAX_DEPTH]
        return {name: self.make(properties[name], depth=depth + 1) for name in (*required, *optional)}

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        count = min(max(int(schema.get("minItems", 0)), 1 if depth < _MAX_DEPTH else 0), _MAX_ITEMS)
        fixed = (schema.get("prefixItems") or [])[:count]
        rest = [schema.get("items", {})] * (count - len(fixed))
        most = int(schema.get("maxItems", _MAX_ITEMS))
        return [self.make(item, depth=depth + 1) for item in (*fixed, *rest)[:most]]

    def _number(self, schema: dict[str, Any], *, step: float) -> float:
        step = schema.get("multipleOf", step)
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        if low is None:
            low = 0 if high is None else high - 10 * step
        if high is None:
            high = low + 10 * step
        try:
            value = self._rng.randint(math.ceil(low / step), math.floor(high / step)) * step
        except (ValueError, OverflowError):  # there is none, or it is beyond the range of floats
            return float(low)
        if value == schema.get("exclusiveMinimum"):
            value += step
        if value == schema.get("exclusiveMaximum"):
            value -= step
        return int(value) if "integer" in schema.get("type", ()) else value

    def _string(self, schema: dict[str, Any]) -> str:
        if "format" in schema:
            return _FORMATS.get(schema["format"], self._text)
        if "pattern" in schema:
            return _matching(schema["pattern"], self._rng)
        text = self._text.ljust(min(int(schema.get("minLength", 0)), _MAX_CHARACTERS), ".")
        return text[: min(int(schema.get("maxLength", _MAX_CHARACTERS)), _MAX_CHARACTERS)]


def _merged(root: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Merge the schemas of ``allOf`` into one. Of equal keywords besides properties, the last one counts."""
    merged: dict[str, Any] = {"properties": {}, "required": []}
    for part in (schema, *schema["allOf"]):
        part = _resolved(root, part)
        merged["properties"].update(part.get("properties") or {})
        merged["required"].extend(part.get("required") or ())
        merged.update({k: v for k, v in part.items() if k not in ("properties", "required", "allOf")})
    if not merged["properties"]:
        del merged["properties"], merged["required"]
    return merged


def _resolved(root: dict[str, Any], part: Any) -> dict[str, Any]:
    """Follow the references of a part. A circle of references says nothing, and neither does true."""
    followed: set[str] = set()
    while isinstance(part, dict) and "$ref" in part and part["$ref"] not in followed:
        followed.add(part["$ref"])
        part = resolve(root, part["$ref"])
    return part if isinstance(part, dict) and "$ref" not in part else {}


def _matching(pattern: str, rng: random.Random) -> str:
    """Generate a short string that matches a regular expression without look-around and back references."""
    try:
        text = "".join(_generate_node(node, rng) for node in _parser.parse(pattern))[:_MAX_CHARACTERS]
        return text if re.search(pattern, text) else ""
    except (re.error, OverflowError, RecursionError, ValueError):  # of another dialect than Python's
        return ""


def _generate_node(node: Any, rng: random.Random) -> str:
    kind, value = node
    if kind is sre.LITERAL:
        return chr(value)
    if kind is sre.IN:
        return _character(value, rng)
    if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT):
        minimum, maximum, inner = value
        count = min(rng.randint(minimum, min(maximum, minimum + 3)), _MAX_ITEMS)
        return "".join(_generate_node(part, rng) for _ in range(count) for part in inner)
    if kind is sre.SUBPATTERN:
        return "".join(_generate_node(part, rng) for part in value[-1])
    if kind is sre.BRANCH:
        return "".join(_generate_node(part, rng) for part in rng.choice(value[1]))
    return "" if kind is sre.AT else "a"


def _character(alternatives: list[Any], rng: random.Random) -> str:
    allowed = [c for c in string.ascii_letters + string.digits + " -_./:" if _allows(alternatives, c)]
    return rng.choice(allowed) if allowed else chr(alternatives[0][1])


def _allows(alternatives: list[Any], character: str) -> bool:
    negated = alternatives[0][0] is sre.NEGATE
    found = any(_covers(kind, value, character) for kind, value in alternatives if kind is not sre.NEGATE)
    return found is not negated


def _covers(kind: Any, value: Any, character: str) -> bool:
    if kind is sre.LITERAL:
        return bool(ord(character) == value)
    if kind is sre.RANGE:
        return bool(value[0] <= ord(character) <= value[1])
    classes = {
        sre.CATEGORY_DIGIT: character.isdigit(),
        sre.CATEGORY_WORD: character.isalnum() or character == "_",
        sre.CATEGORY_SPACE: character.isspace(),
        sre.CATEGORY_NOT_DIGIT: not character.isdigit(),
        sre.CATEGORY_NOT_WORD: not (character.isalnum() or character == "_"),
        sre.CATEGORY_NOT_SPACE: not character.isspace(),
    }
    return bool(classes.get(value))
