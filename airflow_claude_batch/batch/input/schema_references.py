"""Resolves the references of a JSON Schema, so that each one names a place in it by a JSON Pointer.

The author may use ``$id``, ``$anchor``, relative references and percent-encoding. What is sent, and what answers are
validated against, has only references such as ``#/$defs/Item``. A reference out of the schema is an error: nothing is
ever fetched.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote, urldefrag, urljoin

from airflow_claude_batch.batch.input.element_errors import short_repr
from airflow_claude_batch.batch.input.schema_dialects import modernize
from airflow_claude_batch.batch.input.schema_places import Schema, is_keyword, is_value_place, schema_error, subschemas

DEFINITIONS: Final = ("$defs", "definitions")
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
#: Keywords that name a schema or its dialect. They have no use once the references are resolved.
_NAMES: Final = ("$id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$schema", "$vocabulary")
_DRAFT_4: Final = "json-schema.org/draft-04/"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


def normalize(schema: Schema) -> None:
    """Rewrite a schema in place: as JSON Schema 2020-12, whose references are JSON Pointers into it.

    :raises OutputSchemaError: a reference has no target in the schema. Names its place.
    """
    _References(schema).rewrite()


def follow(root: Any, reference: str) -> Any:
    """Return the target of a JSON Pointer with a ``#`` before it, None if there is none."""
    node = root
    for part in pointer_parts(reference):
        node = _step(node, part)
    return node


def pointer_parts(reference: str) -> list[str]:
    """Split a JSON Pointer in the fragment of a URI into the keys that it names."""
    return [part.replace("~1", "/").replace("~0", "~") for part in unquote(reference).split("/")[1:]]


def safe_name(name: str, taken: Any) -> str:
    """Return a name for a definition that means the same in a JSON Pointer and in a URI, and that is not taken."""
    plain = candidate = _UNSAFE.sub("_", name) or "_"
    number = 2
    while candidate in taken:
        candidate, number = f"{plain}_{number}", number + 1
    return candidate


def references(root: Schema) -> Iterator[str]:
    """Yield the text of every reference, those in data too."""
    pending: list[Any] = [root]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            pending += node.values()
            if isinstance(reference := node.get("$ref"), str):
                yield reference
        elif isinstance(node, list):
            pending += node


def used_again(root: Schema) -> frozenset[str]:
    """Return the references that are in a schema more than once."""
    counts = Counter(references(root))
    return frozenset(reference for reference, count in counts.items() if count > 1 and reference != "#")


def libraries(root: Schema) -> set[str]:
    """Return the keys of a schema that only hold definitions, such as ``components`` of OpenAPI."""
    keys = {pointer_parts(reference)[0] for reference in references(root) if reference.startswith("#/")}
    return {key for key in keys if not is_keyword(key) and isinstance(root.get(key), dict)}


def is_recursive(root: Schema, reference: str) -> bool:
    """Tell whether a value of the schema that a reference leads to has one of the same schema inside."""
    goal = follow(root, reference)
    seen: set[int] = set()
    pending: list[Any] = [goal]
    while pending:
        node = pending.pop()
        if not isinstance(node, dict) or id(node) in seen:
            continue
        seen.add(id(node))
        following = [schema for place, schema in subschemas(node) if is_value_place(place)]
        if isinstance(further := node.get("$ref"), str):
            following.append(follow(root, further))
        if any(schema is goal for schema in following):
            return True
        pending += following
    return False


class _Reference(str):
    """The text of a reference, with the schema that it leads to."""

    target: Schema


class _References:
    """The schemas inside one schema, by the names that references may use."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._is_draft_4 = _DRAFT_4 in str(root.get("$schema"))
        self._bases: dict[int, str] = {}
        self._resources: dict[str, Schema] = {"": root}
        self._anchors: dict[tuple[str, str], Schema] = {}
        self._nodes: list[tuple[str, Schema]] = []

    def rewrite(self) -> None:
        self._index("output_schema", self._root, "")
        for where, node in self._nodes:  # it grows: a reference may lead to a schema that was not expected to be one
            for keyword in _REFERENCES:
                if isinstance(node.get(keyword), str):
                    node[keyword] = self._resolve(node, keyword, where)
        for _, node in self._nodes:
            self._remove_names(node)
            modernize(node)
        references = list(_references_in(self._root))
        self._rename_definitions({id(each[1].target) for each in references if _is_encoded(each[1])})
        pointers = dict(_pointers(self._root))
        for node, reference, keyword in references:
            _write(node, keyword, reference, pointers[id(reference.target)])

    def _index(self, where: str, node: Schema, base: str) -> None:
        """Note a schema and all inside it, with the URIs that their references are relative to."""
        pending: list[tuple[str, Any, str]] = [(where, node, base)]
        while pending:
            where, inner, base = pending.pop()
            if not isinstance(inner, dict) or id(inner) in self._bases:
                continue
            base = self._read_names(inner, base)
            self._bases[id(inner)] = base
            self._nodes.append((where, inner))
            pending += [(f"{where}{place}", child, base) for place, child in subschemas(inner)][::-1]

    def _read_names(self, node: Schema, base: str) -> str:
        """Note the names that a schema gives itself, and return the URI that its references are relative to."""
        name = node.get("$id", node.get("id") if self._is_draft_4 else None)
        if isinstance(name, str):
            uri, fragment = _split(base, name)
            if uri != base:
                base = uri
                self._resources.setdefault(base, node)
            if fragment:  # an anchor, until draft 7
                self._anchors.setdefault((base, fragment), node)
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(anchor := node.get(keyword), str):
                self._anchors.setdefault((base, anchor), node)
        return base

    def _remove_names(self, node: Schema) -> None:
        for keyword in (*_NAMES, "id") if self._is_draft_4 else _NAMES:
            if isinstance(node.get(keyword), str | bool | dict):
                del node[keyword]

    def _resolve(self, node: Schema, keyword: str, where: str) -> _Reference:
        """Find the schema that a reference leads to.

        :raises OutputSchemaError: there is none, or there are several.
        """
        text = node[keyword]
        uri, fragment = _split(self._bases[id(node)], text)
        target = self._find(uri, fragment)
        if target is None:
            problem = f"refers to {short_repr(text, 40)}, which is not in the schema."
            raise schema_error(where, problem, "Copy the target under $defs and refer to it by '#/$defs/<name>'.")
        if keyword == "$dynamicRef" and len([name for _, name in self._anchors if name == fragment]) > 1:
            problem = f"refers to {short_repr(text, 40)}, which may be one of several places."
            raise schema_error(where, problem, "Refer to one of them by $ref.")
        reference = _Reference(text)
        reference.target = target
        return reference

    def _find(self, uri: str, fragment: str) -> Schema | None:
        resource = self._resources.get(uri)
        if resource is None or not fragment:
            return resource
        if not fragment.startswith("/"):
            return self._anchors.get((uri, unquote(fragment)))
        return self._find_place(resource, uri, pointer_parts(fragment)) or self._find_place(
            resource, uri, pointer_parts(fragment.replace("%", "%25"))
        )

    def _find_place(self, resource: Schema, uri: str, path: list[str]) -> Schema | None:
        container: Any = None
        target: Any = resource
        for part in path:
            container, target = target, _step(target, part)
        if isinstance(target, bool) and isinstance(container, dict):
            target = container[path[-1]] = {} if target else {"not": {}}
        if not isinstance(target, dict):
            return None
        self._index("output_schema#/" + "/".join(path), target, uri)
        return target

    def _rename_definitions(self, chosen: set[int]) -> None:
        """Give plain names to definitions, by their identity: those that percent-encoded references lead to."""
        for section in DEFINITIONS:
            if isinstance(named := self._root.get(section), dict):
                taken = {name for name, schema in named.items() if id(schema) not in chosen}
                renamed: Schema = {}
                for name, schema in named.items():
                    renamed[safe_name(name, taken | renamed.keys()) if id(schema) in chosen else name] = schema
                self._root[section] = renamed


def _split(base: str, reference: str) -> tuple[str, str]:
    """Resolve a reference against a base URI, and split off its fragment."""
    try:  # urljoin does not know the schemes of urn: and tag:
        uri, fragment = urldefrag(f"{base}{reference}" if reference.startswith("#") else urljoin(base, reference))
    except ValueError:
        return reference, ""
    return uri, fragment


def _step(node: Any, key: str) -> Any:
    if isinstance(node, list):
        return node[int(key)] if key.isascii() and key.isdecimal() and int(key) < len(node) else None
    return node.get(key) if isinstance(node, dict) else None


def _is_encoded(reference: str) -> bool:
    return unquote(reference) != reference


def _objects(root: Any) -> Iterator[tuple[Schema, tuple[str, ...]]]:
    """Yield every object, with the keys that lead to it."""
    pending: list[tuple[Any, tuple[str, ...]]] = [(root, ())]
    while pending:
        node, path = pending.pop()
        if isinstance(node, dict):
            yield node, path
            pending += [(value, (*path, key)) for key, value in node.items()]
        elif isinstance(node, list):
            pending += [(value, (*path, str(number))) for number, value in enumerate(node)]


def _references_in(root: Schema) -> Iterator[tuple[Schema, _Reference, str]]:
    for node, _ in _objects(root):
        for keyword in _REFERENCES:
            if isinstance(reference := node.get(keyword), _Reference):
                yield node, reference, keyword


def _pointers(root: Schema) -> Iterator[tuple[int, tuple[str, ...]]]:
    for node, path in _objects(root):
        yield id(node), path


def _write(node: Schema, keyword: str, reference: _Reference, path: tuple[str, ...]) -> None:
    """Write a reference as a pointer. One that is a pointer to the same place keeps its spelling."""
    is_pointer = (reference == "#" or reference.startswith("#/")) and not _is_encoded(reference)
    if keyword == "$ref" and is_pointer and tuple(pointer_parts(reference)) == path:
        node[keyword] = str(reference)
        return
    text = "#" + "".join("/" + part.replace("~", "~0").replace("/", "~1").replace("%", "%25") for part in path)
    if keyword == "$ref" or "$ref" not in node:
        del node[keyword]
        node["$ref"] = text
    else:
        del node[keyword]
        node["allOf"] = [*node.get("allOf", ()), {"$ref": text}]
