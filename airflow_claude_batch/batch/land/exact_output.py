"""Give the output of a row the digits that its numbers have in the answer's text. A float has 17."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec

from airflow_claude_batch.api.wire import ContentBlock
from airflow_claude_batch.batch.land.answer_text import texts_to_validate
from airflow_claude_batch.batch.land.exact_numbers import read_exact
from airflow_claude_batch.batch.land.rows import Row

_DIFFERENT: Final = object()


def exact_output(row: Row) -> Any:
    """Return the output, with a decimal for each number that is not exactly the float that stands for it."""
    if not _has_float(row.output):
        return row.output
    for text in _texts(row):
        try:
            value = read_exact(text)
        except (ValueError, RecursionError):
            continue
        if (exact := _exact(value, row.output)) is not _DIFFERENT:
            return exact
    return row.output


def has_decimal(value: Any) -> bool:
    """Tell whether a value has numbers that are no floats."""
    if isinstance(value, dict):
        return any(map(has_decimal, value.values()))
    return any(map(has_decimal, value)) if isinstance(value, list) else isinstance(value, Decimal)


def _has_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_float, value.values()))
    return any(map(_has_float, value)) if isinstance(value, list) else isinstance(value, float)


def _texts(row: Row) -> list[str]:
    """Return the candidate texts. One of them was validated when the row was landed."""
    try:
        content = msgspec.convert((row.message or {}).get("content"), list[ContentBlock])
    except msgspec.ValidationError:
        return [row.text or ""]
    return texts_to_validate(content)


def _exact(value: Any, output: Any) -> Any:
    """Return the output with the digits of the value that it was made of, or ``_DIFFERENT`` if that is another."""
    if isinstance(value, Decimal):
        if not isinstance(output, int | float) or float(value) != output:
            return _DIFFERENT
        return value
    if isinstance(value, dict) and isinstance(output, dict) and value.keys() == output.keys():
        pairs = {name: _exact(inner, output[name]) for name, inner in value.items()}
        return _DIFFERENT if any(inner is _DIFFERENT for inner in pairs.values()) else pairs
    if isinstance(value, list) and isinstance(output, list) and len(value) == len(output):
        items = [_exact(inner, seen) for inner, seen in zip(value, output, strict=True)]
        return _DIFFERENT if any(inner is _DIFFERENT for inner in items) else items
    if isinstance(value, str) and isinstance(output, str):  # the landing corrects the case of an enum's value
        return output if value.casefold() == output.casefold() else _DIFFERENT
    return output if value == output else _DIFFERENT
