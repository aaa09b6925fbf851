"""Reads the forms in which an author may give ``output_schema``, and returns the JSON Schema that is meant."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

from airflow_claude_batch.batch.input.element_errors import short_repr
from airflow_claude_batch.exceptions import OutputSchemaError

WHAT_TO_GIVE: Final = "Give a pydantic model, another type that pydantic understands, or a JSON Schema as a dict."
#: Where other forms hold a schema: the API's and OpenAI's response formats, tools of both, and tools of MCP servers.
_WRAPPERS: Final = (
    "output_config",
    "response_format",
    "format",
    "json_schema",
    "schema",
    "function",
    "input_schema",
    "parameters",
    "inputSchema",
)
#: A mapping with one of these is a schema, whatever else it has.
_SCHEMA_KEYWORDS: Final = frozenset(
    {"$ref", "$defs", "definitions", "properties", "items", "anyOf", "oneOf", "allOf", "enum", "const", "not"}
)
_TYPES: Final = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_FILE_ENDINGS: Final = (".json", ".jsonschema", ".yaml", ".yml", ".py")


def json_schema_of(given: Any) -> dict[str, Any]:
    """Return the JSON Schema that ``given`` means, as it comes back from JSON.

    >>> json_schema_of({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer"}}})
    {'type': 'integer'}

    :raises OutputSchemaError: it is neither a schema nor a type. Says what to give.
    """
    schema = unwrap(given)
    return _json_copy(schema) if isinstance(schema, Mapping) else _schema_of_type(schema)


def unwrap(given: Any) -> Any:
    """Return the JSON Schema or the type that ``given`` is, or that a text or a wrapper of a schema holds.

    :raises OutputSchemaError: it is a path, or a text of something else. Says what to give.
    """
    if isinstance(given, os.PathLike):
        raise _path_error(os.fspath(given))
    if isinstance(given, str | bytes | bytearray) and (found := _read_text(given)) is not None:
        given = found
    inner = _inner(given) if isinstance(given, Mapping) else None
    if inner is None:
        return given
    schema, description = unwrap(inner), given.get("description")
    if isinstance(schema, Mapping) and isinstance(description, str):
        return {"description": description, **schema}
    return schema


def type_adapter(given: Any) -> Any:
    """Return pydantic's adapter of a type.

    :raises OutputSchemaError: pydantic does not understand it.
    """
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

    if isinstance(given, TypeAdapter):
        return given
    try:
        return TypeAdapter(given)
    except (PydanticUndefinedAnnotation, PydanticUserError, SyntaxError) as error:  # pydantic evaluates a string
        raise _type_error(given, error) from error


def _schema_of_type(given: Any) -> dict[str, Any]:
    from pydantic.errors import PydanticUserError

    try:
        schema: dict[str, Any] = type_adapter(given).json_schema()
    except PydanticUserError as error:
        raise _type_error(given, error) from error
    return schema


def _type_error(given: Any, error: Exception) -> OutputSchemaError:
    return OutputSchemaError(
        f"output_schema: {short_repr(given, 60)} is not a type that pydantic understands.",
        WHAT_TO_GIVE,
        f"Pydantic: {str(error).splitlines()[0]}",
    )


def _inner(given: Mapping[str, Any]) -> Any:
    """Return what a wrapper holds: a schema, another wrapper or a type. None if ``given`` is a schema itself."""
    kind = given.get("type")
    if not _SCHEMA_KEYWORDS.isdisjoint(given) or isinstance(kind, list) or (isinstance(kind, str) and kind in _TYPES):
        return None
    for name in _WRAPPERS:
        if isinstance(inner := given.get(name), Mapping | type) or (inner is not None and kind == "json_schema"):
            return inner
    if kind == "json_schema":
        raise OutputSchemaError(
            "output_schema: a wrapper of the type json_schema without a schema.",
            'Give the schema itself, or {"type": "json_schema", "schema": {…}}.',
        )
    return None


def _read_text(given: str | bytes | bytearray) -> Any:
    """Return the object of a JSON text. None if a text is something else: pydantic may know a type of that name.

    :raises OutputSchemaError: it is a path or a template, or JSON with a mistake or of another kind.
    """
    text = given if isinstance(given, str) else bytes(given).decode("utf-8-sig", "replace")
    text = text.removeprefix("\ufeff").strip()
    if text.startswith(("{{", "{%")):
        raise OutputSchemaError(
            f"output_schema: {short_repr(text, 40)} is not a type or a schema, but a template. None is rendered here.",
            WHAT_TO_GIVE,
        )
    if not text.startswith(("{", "[")):
        if text.endswith(_FILE_ENDINGS) or "/" in text:
            raise _path_error(text)
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OutputSchemaError(f"output_schema: a text that is not JSON ({error!s:.60}).", WHAT_TO_GIVE) from None
    if not isinstance(value, dict):
        raise OutputSchemaError("output_schema: a text with a JSON array, not with a schema.", WHAT_TO_GIVE)
    return value


def _path_error(path: str | bytes) -> OutputSchemaError:
    shown = short_repr(path, 60)
    return OutputSchemaError(
        f"output_schema: {shown} is a path, not a schema.",
        "Read the file in the DAG: output_schema=json.loads(Path(…).read_text()).",
    )


def _json_copy(given: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the schema as it comes back from JSON."""
    try:
        copy: dict[str, Any] = json.loads(json.dumps(dict(given), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise OutputSchemaError(f"output_schema: not JSON: {error!s:.80}.", WHAT_TO_GIVE) from None
    return copy
