"""JSON schemas of structured outputs: what the API rejects (limits: structured-outputs docs).

The result of a check is cached, because many requests contain the same schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft202012Validator, SchemaError

INVALID = "JSON schema is invalid. It must match JSON Schema draft 2020-12"
MAX_OPTIONAL_PROPERTIES = 24
MAX_UNIONS = 16
_UNSUPPORTED = {
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength"),
    "array": ("maxItems", "uniqueItems"),
}


def schema_problem(schema: Any) -> str | None:
    """Check an ``output_config.format.schema``. Returns the API's error message, or None."""
    if not isinstance(schema, dict):
        return "output_config.format.schema: Input should be a valid dictionary"
    try:
        return _checked(encode_schema(schema))
    except RecursionError:
        return "output_config.format.schema: The schema is too complex"


def encode_schema(schema: Any) -> bytes:
    """Encode a schema, for `is_schema`. Numbers may have any size."""
    return json.dumps(schema, separators=(",", ":")).encode()


@lru_cache(maxsize=256)
def is_schema(encoded: bytes) -> bool:
    """Tell whether JSON is a valid JSON schema, of a tool or of an output."""
    schema = json.loads(encoded)
    try:
        Draft202012Validator.check_schema(schema)
    except (SchemaError, RecursionError):
        return False
    return isinstance(schema, dict)


@lru_cache(maxsize=256)
def _checked(encoded: bytes) -> str | None:
    schema = json.loads(encoded)
    if not is_schema(encoded):
        return f"output_config.format.schema: {INVALID}"
    nodes = list(_nodes(schema))
    problems = (_node_problem(schema, node) for node in nodes)
    problem = next(filter(None, problems), None) or _recursion_problem(schema) or _size_problem(nodes)
    return None if problem is None else f"output_config.format.schema: {problem}"


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every subschema, starting with the schema itself."""
    if not isinstance(schema, dict):
        return
    yield schema
    for keyword in ("properties", "$defs", "definitions"):
        children = schema.get(keyword)
        for child in children.values() if isinstance(children, dict) else ():
            yield from _nodes(child)
    for keyword in ("anyOf", "allOf", "oneOf", "prefixItems"):
        children = schema.get(keyword)
        for child in children if isinstance(children, list) else ():
            yield from _nodes(child)
    yield from _nodes(schema.get("items"))


def _node_problem(root: dict[str, Any], node: dict[str, Any]) -> str | None:
    kind = node.get("type")
    if (kind == "object" or "properties" in node) and node.get("additionalProperties") is not False:
        return "For 'object' type, 'additionalProperties' must be explicitly set to false"
    for name in [kind] if isinstance(kind, str) else kind or ():
        unsupported = [keyword for keyword in _UNSUPPORTED.get(name, ()) if keyword in node]
        if unsupported:
            return f"For '{name}' type, properties {', '.join(unsupported)} are not supported"
    if node.get("minItems", 0) not in (0, 1):
        return "For 'array' type, 'minItems' values other than 0 or 1 are not supported"
    reference = node.get("$ref")
    if reference is not None and resolve(root, reference) is None:
        return f"Reference '{reference}' could not be resolved; external references are not supported"
    return None


def _size_problem(nodes: list[dict[str, Any]]) -> str | None:
    optional = sum(len(set(node.get("properties") or ()) - set(node.get("required") or ())) for node in nodes)
    unions = sum("anyOf" in node or isinstance(node.get("type"), list) for node in nodes)
    if optional > MAX_OPTIONAL_PROPERTIES or unions > MAX_UNIONS:
        return "The schema is too complex"
    return None


def _recursion_problem(root: dict[str, Any]) -> str | None:
    references = {node["$ref"] for node in _nodes(root) if "$ref" in node}
    if any(_reaches(root, reference, reference, set()) for reference in references):
        return "Recursive schemas are not supported"
    return None


def _reaches(root: dict[str, Any], start: str, goal: str, seen: set[str]) -> bool:
    for node in _nodes(resolve(root, start)):
        following = node.get("$ref")
        if following == goal:
            return True
        if following is not None and following not in seen:
            seen.add(following)
            if _reaches(root, following, goal, seen):
                return True
    return False


def resolve(root: dict[str, Any], reference: str) -> dict[str, Any] | None:
    """Find the subschema that a local ``$ref`` points to. None: there is none."""
    if not reference.startswith("#"):
        return None
    node: Any = root
    for part in unquote(reference[1:]).split("/")[1:]:
        if isinstance(node, list):
            node = node[int(part)] if part.isdecimal() and int(part) < len(node) else None
        else:
            node = node.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else None
