"""Read the outputs of landed rows as instances of an author's type, or check them against a JSON Schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from airflow_claude_batch.batch.input.schema_forms import type_adapter, unwrap
from airflow_claude_batch.batch.land.exact_output import exact_output, has_decimal
from airflow_claude_batch.batch.land.rows import Row, Status
from airflow_claude_batch.exceptions import OutputSchemaError

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

_INVALID_OUTPUT: Final = Status.INVALID_OUTPUT.word
_FOR: Final = "for the schema of read_rows"
_BOUNDS: Final = frozenset(
    {"decimal_max_digits", "decimal_max_places", "decimal_whole_digits", "multiple_of"}
    | {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}
)


def output_reader(schema: Any) -> Callable[[Row], Row]:
    """Return the function that reads a row's output with a schema in one of the forms of ``output_schema``.

    With a type, the output becomes an instance of it. With a JSON Schema it stays as it is. A row whose output is not
    valid comes out as ``invalid_output``, with the reason.

    :raises OutputSchemaError: the schema is neither a type nor a JSON Schema.
    """
    try:
        schema = unwrap(schema)
        return _checker(schema) if isinstance(schema, Mapping) else _maker(type_adapter(schema))
    except OutputSchemaError as error:
        raise OutputSchemaError(str(error).replace("output_schema", "schema of read_rows", 1)) from error.__cause__


def _checker(schema: Any) -> Callable[[Row], Row]:
    from airflow_claude_batch.batch.input.output_schema import read_schema_to_validate
    from airflow_claude_batch.batch.land.validate_output import OutputValidator

    validator = OutputValidator(read_schema_to_validate(schema))

    def check(row: Row) -> Row:
        exact = exact_output(row)
        value, error = (None, None) if exact is None else validator.check(exact)
        if error is not None:
            return _invalid(row, f"{error['message']} ({_FOR})", error["path"])
        return row if exact is None or value is exact else msgspec.structs.replace(row, output=value)

    return check


def _maker(adapter: TypeAdapter[Any]) -> Callable[[Row], Row]:
    def make(row: Row) -> Row:
        if row.output is None:
            return row
        try:
            return msgspec.structs.replace(row, output=_instance(row, adapter))
        except Exception as error:  # an author's validators may raise anything, and the other rows follow
            return _invalid(row, *_describe(error))

    return make


def _invalid(row: Row, message: str, path: str | None) -> Row:
    error = {"type": _INVALID_OUTPUT, "message": message, "path": path}
    return msgspec.structs.replace(row, status=_INVALID_OUTPUT, output=None, error=error)


def _instance(row: Row, adapter: TypeAdapter[Any]) -> Any:
    """Validate an output as JSON: types that JSON lacks, such as dates and tuples, are read from their form in JSON.

    But pydantic reads the numbers of JSON as floats. If those are not enough, it gets decimals, as values or as texts.
    """
    from pydantic import ValidationError

    exact = exact_output(row)
    if has_decimal(exact):
        for read, form in ((adapter.validate_python, exact), (adapter.validate_json, msgspec.json.encode(exact))):
            try:
                return read(form)
            except ValidationError as error:
                if _is_out_of_bounds(error):
                    raise  # a float may be rounded to what the bounds allow, which is not what the answer says
    return adapter.validate_json(msgspec.json.encode(row.output))


def _is_out_of_bounds(error: ValidationError) -> bool:
    """Return whether the numbers were understood, and some of them are not within the bounds of their fields."""
    details = error.errors(include_url=False, include_input=False, include_context=False)
    return all(detail["type"] in _BOUNDS for detail in details)


def _describe(error: Exception) -> tuple[str, str]:
    """Describe why pydantic refuses an output, without its values, and name the place."""
    from pydantic import ValidationError

    place: tuple[int | str, ...] = ()
    why = type(error).__name__
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place, why = first["loc"], f"{first['type']}: {first['msg']}"
    path = "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return f"{path} is not valid {_FOR}: {why}", path
