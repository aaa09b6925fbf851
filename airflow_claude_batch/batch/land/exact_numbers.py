"""Read and validate the numbers of JSON by their digits.

A float has 17 digits. As floats 0.07 is no multiple of 0.01, and 1.000000000000000001 is 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import msgspec
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from airflow_claude_batch.api.lenient_json import LONE_SURROGATE, is_too_deep, read_object

#: Numbers with more digits or a larger exponent are read as floats: exact arithmetic with them would take too long.
_MOST_CHARACTERS: Final = 1000
_LARGEST_EXPONENT: Final = 400
_extend: Any = extend  # jsonschema gives it no types


def read_exact(text: str) -> Any:
    """Read JSON. Numbers with a fraction or an exponent become decimals with the digits that they have.

    :raises ValueError: the text is not JSON, or no reader of the rows could read it again.
    """
    try:
        value = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        value = _without_lone_surrogates(text)
        if value is None:
            raise ValueError(str(error)) from None
    if is_too_deep(text.encode()):
        raise ValueError("objects or lists are too deep inside each other")
    return value


def exact_class(base: Any) -> Any:
    """Return jsonschema's class for values that :func:`read_exact` has read and a schema of :func:`exact_schema`."""
    types = base.TYPE_CHECKER.redefine(
        "integer", lambda _, value: _is_whole(value) or base.TYPE_CHECKER.is_type(value, "integer")
    )
    return _extend(base, {"multipleOf": _multiple_of}, type_checker=types)


def exact_schema(schema: Any) -> Any:
    """Copy a schema with the numbers that its author wrote."""
    if isinstance(schema, float):
        return Decimal(repr(schema))
    if isinstance(schema, dict):
        return {name: exact_schema(inner) for name, inner in schema.items()}
    return [exact_schema(inner) for inner in schema] if isinstance(schema, list | tuple) else schema


def with_floats(value: Any) -> Any:
    """Return a value with floats in place of the decimals that are exactly what a float's digits say."""
    if isinstance(value, Decimal):
        number = float(value)
        return number if Decimal(repr(number)) == value else value
    if isinstance(value, dict):
        return {name: with_floats(inner) for name, inner in value.items()}
    return [with_floats(inner) for inner in value] if isinstance(value, list) else value


def _without_lone_surrogates(text: str) -> Any:
    """Read an object with halves of surrogate pairs, which JSON's grammar allows. None if that is not all."""
    found = read_object(text.strip().encode(errors="replace"))
    return _decoder.decode(found.json) if found is not None and found.problems == {LONE_SURROGATE} else None


def _decimal(digits: str) -> Decimal | float:
    if float(digits) in (float("inf"), float("-inf")):
        raise ValueError("Number out of range")
    value = Decimal(digits)
    return value if len(digits) <= _MOST_CHARACTERS and abs(value.adjusted()) <= _LARGEST_EXPONENT else float(digits)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Decimal) and value == value.to_integral_value()


def _multiple_of(validator: Any, factor: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "number") and (Fraction(instance) / Fraction(factor)).denominator != 1:
        yield ValidationError(f"not a multiple of {factor}")


_decoder = msgspec.json.Decoder(float_hook=_decimal)
