"""Says whether a tool's ``input_schema`` is a JSON Schema of draft 2020-12, as the API does."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from airflow_claude_batch.batch.input.element_errors import short_repr


def what_is_wrong(schema: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a schema, and where. None if nothing is, or if it is no JSON at all.

    >>> what_is_wrong({"type": "object", "properties": {"a": "number"}})
    "properties.a must be a schema, not 'number'"
    """
    try:
        return _verdict(msgspec.json.encode(schema))
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        return None  # the writer says what is no JSON


@lru_cache(maxsize=256)
def _verdict(encoded: bytes) -> str | None:
    """Requests of a submission mostly have the same tools, so each schema is judged once."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    validator = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    error = best_match(validator.iter_errors(msgspec.json.decode(encoded)))
    if error is None:
        return None
    place = ".".join(map(str, error.absolute_path)) or "the schema"
    if error.validator == "type":
        wanted = "a schema" if "object" in error.validator_value else f"of type {error.validator_value}"
        return f"{place} must be {wanted}, not {short_repr(error.instance, 40)}"
    return f"{place} is {short_repr(error.instance, 40)}, which breaks {error.validator!r} of the draft"
