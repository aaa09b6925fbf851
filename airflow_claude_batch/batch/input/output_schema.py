"""Reads the ``output_schema`` of a submission, and stores it beside the requests.

The file in the submission's folder is there for the process that validates the answers later. That may be the sensor,
or the operator's task after the DAG file has changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.input.element_errors import short_repr
from airflow_claude_batch.batch.input.schema_adapter import adapt, resolve_reference
from airflow_claude_batch.exceptions import OutputSchemaError, SubmissionRecordError

SCHEMA_FILE: Final = "output_schema.json"
_REFERENCE_KEYWORDS: Final = ("$ref", "$dynamicRef", "$recursiveRef")
#: Keywords whose values are data, in which a reference means nothing.
_DATA_KEYWORDS: Final = frozenset({"enum", "const", "default", "examples"})
_WHAT_TO_GIVE: Final = "Give a pydantic model, another type that pydantic understands, or a JSON Schema as a dict."


class OutputSchema(msgspec.Struct, frozen=True):
    """A JSON Schema that answers must satisfy, and the ``output_config.format`` that asks the API for such answers.

    >>> read_schema({"type": "integer", "minimum": 1}).format
    {'type': 'json_schema', 'schema': {'type': 'integer', 'description': '{minimum: 1}'}}
    """

    schema: dict[str, Any]
    format: dict[str, Any]


def read_schema(given: Any) -> OutputSchema:
    """Read what an author gives as ``output_schema``.

    :param given: a JSON Schema as a mapping; or a pydantic model, dataclass, TypedDict or any other type that
        pydantic's ``TypeAdapter`` takes, or such an adapter.
    :raises OutputSchemaError: it is none of these, or the API does not take what it means. Names the place.
    """
    try:
        schema = _json_copy(given) if isinstance(given, Mapping) else _schema_of_type(given)
        _check(schema)
        return OutputSchema(schema, {"type": "json_schema", "schema": adapt(schema)})
    except OutputSchemaError:
        raise
    except Exception as error:  # pydantic and jsonschema do not foresee every value: they may raise anything
        why = f"{type(error).__name__}: {error!s:.200}"
        raise OutputSchemaError(f"output_schema: neither a JSON Schema nor a type ({why}).", _WHAT_TO_GIVE) from error


def write_schema(folder: storage.Folder, schema: OutputSchema) -> None:
    """Write the schema into the submission's folder."""
    storage.write(folder, SCHEMA_FILE, msgspec.json.encode(schema))


def load_schema(folder: storage.Folder) -> OutputSchema | None:
    """Load the schema of the submission in this folder. Return None if it has none.

    :raises SubmissionRecordError: the file is damaged.
    """
    data = storage.read(folder, SCHEMA_FILE)
    if data is None:
        return None
    try:
        loaded = msgspec.json.decode(data, type=OutputSchema)
        _check(loaded.schema)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OutputSchemaError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise SubmissionRecordError(
            f"{folder.uri(SCHEMA_FILE)} is damaged ({reason:.100}), so that answers cannot be validated.",
            "The answers stay at the API for 29 days; a retry downloads them at no cost.",
            "Restore the file, or clear the task that sent the requests: it writes the file again and pays for nothing "
            "twice.",
        ) from error
    return loaded


def _json_copy(given: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the schema as it comes back from JSON."""
    try:
        copy: dict[str, Any] = json.loads(json.dumps(dict(given), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise OutputSchemaError(f"output_schema: not JSON: {error!s:.200}.", _WHAT_TO_GIVE) from None
    return copy


def _schema_of_type(given: Any) -> dict[str, Any]:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

    if isinstance(given, TypeAdapter):
        return given.json_schema()
    try:
        return TypeAdapter(given).json_schema()
    except (PydanticUndefinedAnnotation, PydanticUserError, SyntaxError) as error:  # pydantic evaluates a string
        raise OutputSchemaError(
            f"output_schema: {short_repr(given, 60)} is not a type that pydantic understands.",
            _WHAT_TO_GIVE,
            f"Pydantic: {str(error).splitlines()[0]}",
        ) from error


def _check(schema: dict[str, Any]) -> None:
    """Raise if it is not a JSON Schema.

    :raises OutputSchemaError: names the place.
    """
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for

    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        where = error.json_path.replace("$", "output_schema", 1)
        if isinstance(error.instance, str) and list(error.schema_path)[-2:] == ["type", "anyOf"]:
            raise OutputSchemaError(
                f"{where}: {short_repr(error.instance, 40)} is not a JSON Schema type.",
                "Use object, array, string, number, integer, boolean or null.",
            ) from None
        problem = f"{where}: not a JSON Schema: {error.message:.200}."
        raise OutputSchemaError(problem, "Correct the schema there.") from error
    _check_references(schema)


def _check_references(root: dict[str, Any]) -> None:
    """Raise for references out of the schema. Only the validation of an answer follows some, and would ask a server.

    :raises OutputSchemaError: names the place.
    """
    pending: list[tuple[str, Any]] = [("output_schema", root)]
    while pending:
        where, node = pending.pop()
        if isinstance(node, dict):
            for keyword in _REFERENCE_KEYWORDS:
                if isinstance(reference := node.get(keyword), str):
                    resolve_reference(root, reference, where)
            pending += [(f"{where}.{key}", inner) for key, inner in node.items() if key not in _DATA_KEYWORDS]
        elif isinstance(node, list):
            pending += [(f"{where}[{number}]", inner) for number, inner in enumerate(node)]
