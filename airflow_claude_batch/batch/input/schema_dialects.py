"""Rewrites a schema of another dialect, OpenAPI's or an older draft's, as one of JSON Schema 2020-12."""

from __future__ import annotations

from typing import Any, Final

from airflow_claude_batch.batch.input.schema_places import Schema

_NULL: Final[Schema] = {"type": "null"}
_NULLABLE: Final = ("nullable", "x-nullable")
#: Keywords that describe a value, and hold for null as well.
_ANNOTATIONS: Final = ("title", "description", "default", "deprecated", "readOnly", "writeOnly", "example", "examples")
#: A schema with one of these is wrapped rather than given a further type.
_STRUCTURE: Final = frozenset(
    {"$ref", "allOf", "anyOf", "oneOf", "not", "if", "properties", "additionalProperties", "items", "prefixItems"}
)


def modernize(node: Schema) -> None:
    """Rewrite one schema in place, without those inside it.

    >>> schema = {"type": "string", "nullable": True}
    >>> modernize(schema)
    >>> schema
    {'type': ['string', 'null']}

    The objects inside stay the same objects, so that references to them can be followed before and written after.
    """
    _rewrite_tuple(node)
    _rewrite_exclusive_bounds(node)
    if [node.pop(keyword) for keyword in _NULLABLE if node.get(keyword) is True]:
        _add_null(node)


def _rewrite_tuple(node: Schema) -> None:
    """``items`` with a list is ``prefixItems`` since 2020-12, and ``additionalItems`` is ``items``."""
    if not isinstance(items := node.get("items"), list):
        return
    del node["items"]
    rest = node.pop("additionalItems", None)
    if items:
        node["prefixItems"] = items
    if isinstance(rest, dict | bool):
        node["items"] = rest


def _rewrite_exclusive_bounds(node: Schema) -> None:
    """In draft 4 and OpenAPI 3.0 ``exclusiveMinimum`` tells whether ``minimum`` is excluded."""
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(is_excluded := node.get(exclusive), bool):
            del node[exclusive]
            if is_excluded and bound in node:
                node[exclusive] = node.pop(bound)


def _add_null(node: Schema) -> None:
    kind = node.get("type")
    if "const" in node:
        node["enum"] = [node.pop("const")]
    if isinstance(node.get("enum"), list):
        node["enum"] = node["enum"] if None in node["enum"] else [*node["enum"], None]
        if isinstance(kind, str | list):
            node["type"] = _with_null(kind)
    elif _STRUCTURE.isdisjoint(node):
        if isinstance(kind, str | list):
            node["type"] = _with_null(kind)
    elif isinstance(kind, list) and "null" in kind:
        return
    else:
        _add_branch(node)


def _with_null(kind: str | list[Any]) -> Any:
    kinds = [kind] if isinstance(kind, str) else kind
    return kind if "null" in kinds else [*kinds, "null"]


def _add_branch(node: Schema) -> None:
    """Make a union of the schema and null. A union that is nothing else gets one branch more."""
    kept = {key: value for key, value in node.items() if key in _ANNOTATIONS}
    inner = {key: value for key, value in node.items() if key not in kept}
    union = next((key for key in ("anyOf", "oneOf") if isinstance(inner.get(key), list)), None)
    node.clear()
    node.update(kept)
    if union is not None and inner.keys() <= {union, "discriminator"}:
        branches = inner[union]
        node[union] = branches if _NULL in branches else [*branches, dict(_NULL)]
    else:
        node["anyOf"] = [inner, dict(_NULL)]
