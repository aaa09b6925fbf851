"""The output schema of a submission: what its answers are to be, and what its requests say of it.

It stands in the submission's folder, because whoever lands the answers must validate them: the sensor, or the
operator's task after the DAG file has changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.input.schema_adapter import adapt, referred
from airflow_claude_batch.exceptions import OutputSchemaError, SubmissionRecordError

SCHEMA_FILE = "output_schema.json"
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
#: What stands under these is no schema.
_DATA = frozenset({"enum", "const", "default", "examples"})


class OutputSchema(msgspec.Struct, frozen=True):
    """A JSON Schema that answers must satisfy, and the ``output_config.format`` that asks for such answers."""

    schema: dict[str, Any]
    format: dict[str, Any]


def read_schema(given: Any) -> OutputSchema:
    """Understand what an author gives as ``output_schema``.

    :param given: a JSON Schema as a mapping; or a pydantic model, dataclass, TypedDict or any other type that
        pydantic's ``TypeAdapter`` takes, or such an adapter.
    :raises OutputSchemaError: it is none of these, or the API does not take what it means.
    """
    try:
        schema = _plain(given) if isinstance(given, Mapping) else _of_type(given)
        _check(schema)
        return OutputSchema(schema, {"type": "json_schema", "schema": adapt(schema)})
    except OutputSchemaError:
        raise
    except Exception as error:  # of the libraries, which do not foresee everything that may be given
        why = f"{type(error).__name__}: {error!s:.200}"
        raise OutputSchemaError(f"output_schema cannot be understood as a JSON Schema or a type ({why}).") from error


def write_schema(folder: storage.Folder, schema: OutputSchema) -> None:
    """Write the schema beside the requests."""
    storage.write(folder, SCHEMA_FILE, msgspec.json.encode(schema))


def load_schema(folder: storage.Folder) -> OutputSchema | None:
    """The schema of the submission in this folder, None if it has none.

    :raises SubmissionRecordError: it cannot be read.
    """
    data = storage.read(folder, SCHEMA_FILE)
    if data is None:
        return None
    try:
        read = msgspec.json.decode(data, type=OutputSchema)
        _check(read.schema)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OutputSchemaError) as error:
        raise SubmissionRecordError(
            f"{folder.uri(SCHEMA_FILE)} is damaged ({error}), so that answers cannot be validated. Restore it, or "
            "clear the task that sent them: it writes the file again and pays for nothing twice."
        ) from error
    return read


def _plain(given: Mapping[str, Any]) -> dict[str, Any]:
    """The schema as JSON gives it back."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(given), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise OutputSchemaError(f"output_schema is not JSON: {error}.") from error
    return plain


def _of_type(given: Any) -> dict[str, Any]:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

    if isinstance(given, TypeAdapter):
        return given.json_schema()
    try:
        return TypeAdapter(given).json_schema()
    except (PydanticUndefinedAnnotation, PydanticUserError, SyntaxError) as error:  # a string is a name to be evaluated
        raise OutputSchemaError(
            f"output_schema is {given!r:.80}: give a pydantic model, another type that pydantic understands, or a JSON "
            f"Schema as a dict. Pydantic says: {str(error).splitlines()[0]}"
        ) from error


def _check(schema: dict[str, Any]) -> None:
    """Refuse what is no JSON Schema at all.

    :raises OutputSchemaError: names the place.
    """
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for

    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        where = error.json_path.replace("$", "output_schema", 1)
        raise OutputSchemaError(f"{where} is no JSON Schema: {error.message}.") from error
    _check_references(schema)


def _check_references(root: dict[str, Any]) -> None:
    """Refuse references that only an answer's validation would follow: out of the schema it would ask a server.

    :raises OutputSchemaError: names the place.
    """
    pending: list[tuple[str, Any]] = [("output_schema", root)]
    while pending:
        where, node = pending.pop()
        if isinstance(node, dict):
            for keyword in _REFERENCES:
                if isinstance(reference := node.get(keyword), str):
                    referred(root, reference, where)
            pending += [(f"{where}.{key}", inner) for key, inner in node.items() if key not in _DATA]
        elif isinstance(node, list):
            pending += [(f"{where}[{number}]", inner) for number, inner in enumerate(node)]
