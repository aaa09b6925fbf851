"""Read and validate the numbers of JSON by their digits.

A float has 17 digits. As floats 0.07 is no multiple of 0.01, and 1.000000000000000001 is 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import msgspec
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from airflow_claude_batch.api.lenient_json import LONE_SURROGATE, MAX_DEPTH, is_too_deep, read_object

#: Keywords that compare numbers.
_COMPARING: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "enum", "const")
#: A float has the digits of every number of this length without an exponent.
_EXACT_CHARACTERS: Final = 15
#: Numbers with more digits or a larger exponent are read as floats: exact arithmetic with them would take too long.
_MOST_CHARACTERS: Final = 1000
_LARGEST_EXPONENT: Final = 400
_extend: Any = extend  # jsonschema gives it no types


def read_exact(text: str) -> Any:
    """Read JSON. A number that is not exactly what its float says becomes a decimal with the digits that it has.

    :raises ValueError: the text is not JSON, or no reader of the rows could read it again.
    """
    try:
        value = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        value = _without_lone_surrogates(text)
        if value is None:
            raise ValueError(str(error)) from None
    if text.count("[") + text.count("{") > MAX_DEPTH and is_too_deep(text.encode()):
        raise ValueError("objects or lists are too deep inside each other")
    return value


def exact_class(base: Any) -> Any:
    """Return jsonschema's class for values that :func:`read_exact` has read."""
    types = base.TYPE_CHECKER.redefine(
        "integer", lambda _, value: base.TYPE_CHECKER.is_type(value, "integer") or _is_whole(value)
    )
    keywords = {name: _exactly(base.VALIDATORS[name]) for name in _COMPARING if name in base.VALIDATORS}
    keywords |= {"multipleOf": _multiple_of, "uniqueItems": _unique_items}
    return _extend(base, keywords, type_checker=types)


def _without_lone_surrogates(text: str) -> Any:
    """Read an object with halves of surrogate pairs, which JSON's grammar allows. None if that is not all."""
    found = read_object(text.strip().encode(errors="replace"))
    return _decoder.decode(found.json) if found is not None and found.problems == {LONE_SURROGATE} else None


def _number(digits: str) -> Decimal | float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("Number out of range")
    if len(digits) <= _EXACT_CHARACTERS and "e" not in digits and "E" not in digits:
        return number
    value = Decimal(digits)
    if len(digits) > _MOST_CHARACTERS or abs(value.adjusted()) > _LARGEST_EXPONENT:
        return number
    return number if Decimal(repr(number)) == value else value


def _exact(value: Any) -> Any:
    """Return decimals in place of floats."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, dict):
        return {name: _exact(inner) for name, inner in value.items()}
    return [_exact(inner) for inner in value] if isinstance(value, list) else value


def _exactly(original: Any) -> Any:
    def keyword(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        yield from original(validator, _exact(value), _exact(instance), schema) or ()

    return keyword


def _is_whole(value: Any) -> bool:
    return isinstance(value, Decimal) and value == value.to_integral_value()


def _multiple_of(validator: Any, factor: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "number") and (
        (Fraction(_exact(instance)) / Fraction(_exact(factor))).denominator != 1
    ):
        yield ValidationError(f"not a multiple of {factor}")


def _unique_items(validator: Any, unique: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """Compare the items of a list in one pass. jsonschema compares each with each: minutes for some thousands."""
    if unique and validator.is_type(instance, "array") and len(set(map(_hashable, instance))) < len(instance):
        yield ValidationError("an item is there more than once")


def _hashable(value: Any) -> Any:
    """Return a hashable stand-in for an item. Equal items have equal ones. In JSON, true is not 1, and 1 is 1.0."""
    if isinstance(value, dict):
        return "object", frozenset((name, _hashable(inner)) for name, inner in value.items())
    if isinstance(value, list):
        return "array", tuple(map(_hashable, value))
    return type(value) is bool, _exact(value)


_decoder = msgspec.json.Decoder(float_hook=_number)
