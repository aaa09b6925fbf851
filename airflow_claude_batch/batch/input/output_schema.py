"""Reads the ``output_schema`` of a submission, and stores it beside the requests.

The file in the submission's folder is there for the process that validates the answers later. That may be the sensor,
or the operator's task after the DAG file has changed.
"""

from __future__ import annotations

import copy
from typing import Any, Final

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.input.element_errors import short_repr
from airflow_claude_batch.batch.input.schema_adapter import adapt
from airflow_claude_batch.batch.input.schema_forms import WHAT_TO_GIVE, json_schema_of
from airflow_claude_batch.batch.input.schema_places import schema_error
from airflow_claude_batch.batch.input.schema_references import normalize
from airflow_claude_batch.exceptions import OutputSchemaError, SubmissionRecordError

SCHEMA_FILE: Final = "output_schema.json"
#: What authors write for a type that JSON Schema calls otherwise.
_TYPE_NAMES: Final = {
    **dict.fromkeys(("str", "text", "date", "datetime", "uuid", "enum"), "string"),
    **dict.fromkeys(("int", "long"), "integer"),
    **dict.fromkeys(("float", "double", "decimal"), "number"),
    **dict.fromkeys(("bool",), "boolean"),
    **dict.fromkeys(("list", "tuple", "set"), "array"),
    **dict.fromkeys(("dict", "map", "struct"), "object"),
    **dict.fromkeys(("none", "nonetype"), "null"),
}


class OutputSchema(msgspec.Struct, frozen=True):
    """A JSON Schema that answers must satisfy, and the ``output_config.format`` that asks the API for such answers.

    >>> read_schema({"type": "integer", "minimum": 1}).format
    {'type': 'json_schema', 'schema': {'type': 'integer', 'description': '{minimum: 1}'}}
    """

    schema: dict[str, Any]
    format: dict[str, Any]


def read_schema(given: Any) -> OutputSchema:
    """Read what an author gives as ``output_schema``.

    :param given: a JSON Schema as a mapping or a JSON text; or a pydantic model, dataclass, TypedDict or any other type
        that pydantic's ``TypeAdapter`` takes, or such an adapter. Also a mapping that holds one of these, as response
        formats and tools do.
    :raises OutputSchemaError: it is none of these, or the API does not take what it means. Names the place.
    """
    try:
        schema = _valid_schema(given)
        return OutputSchema(schema, {"type": "json_schema", "schema": adapt(schema)})
    except OutputSchemaError:
        raise
    except Exception as error:  # pydantic and jsonschema do not foresee every value: they may raise anything
        raise _unforeseen(error) from error


def read_schema_to_validate(given: Any) -> OutputSchema:
    """Read a schema that values are validated against, in the forms of :func:`read_schema`. Nothing is sent.

    :raises OutputSchemaError: it is none.
    """
    try:
        return OutputSchema(_valid_schema(given), {})
    except OutputSchemaError:
        raise
    except Exception as error:  # as above
        raise _unforeseen(error) from error


def _valid_schema(given: Any) -> dict[str, Any]:
    schema = json_schema_of(given)
    normalize(schema)
    _check(schema)
    return schema


def _unforeseen(error: Exception) -> OutputSchemaError:
    why = f"{type(error).__name__}: {' '.join(str(error).split()):.40}"
    return OutputSchemaError(f"output_schema: neither a JSON Schema nor a type ({why}).", WHAT_TO_GIVE)


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
        loaded = _normalized(msgspec.json.decode(data, type=OutputSchema))
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


def _normalized(stored: OutputSchema) -> OutputSchema:
    """Return a stored schema as today's release stores it. One that earlier releases took is kept as it is."""
    schema = copy.deepcopy(stored.schema)
    try:
        normalize(schema)
    except OutputSchemaError:
        return stored
    return OutputSchema(schema, stored.format)


def _check(schema: dict[str, Any]) -> None:
    """Raise if it is not a JSON Schema.

    :raises OutputSchemaError: names the place.
    """
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for

    try:
        is_named = isinstance(schema.get("$schema"), str)
        dialect = validator_for(schema, default=Draft202012Validator) if is_named else Draft202012Validator
        dialect.check_schema(schema)
    except SchemaError as error:
        where = error.json_path.replace("$", "output_schema", 1)
        if isinstance(error.instance, str) and list(error.schema_path)[-2:] == ["type", "anyOf"]:
            raise _type_name_error(where, error.instance) from None
        remedy = "Correct the schema there."
        if where.endswith(".required"):
            remedy = "List the names of the required properties in required of the object that has them."
        raise schema_error(where, f"not a JSON Schema: {error.message:.60}.", remedy) from error


def _type_name_error(where: str, name: str) -> OutputSchemaError:
    known = _TYPE_NAMES.get(name.lower())
    return schema_error(
        where,
        f"{short_repr(name, 40)} is not a JSON Schema type.",
        "Use object, array, string, number, integer, boolean or null." + (f" Here: {known}." if known else ""),
    )
