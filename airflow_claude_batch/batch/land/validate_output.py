"""Validate answers against the output schema: the value, or the reason why it is invalid."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
from jsonschema import Draft7Validator, Draft202012Validator
from jsonschema.exceptions import ValidationError, relevance
from jsonschema.validators import extend, validator_for
from referencing import Registry

from airflow_claude_batch.batch.input.output_schema import OutputSchema, load_schema
from airflow_claude_batch.batch.land.exact_numbers import exact_class, read_exact
from airflow_claude_batch.batch.land.formats import FORMATS
from airflow_claude_batch.batch.land.patterns import PatternMatcher, without_dialects
from airflow_claude_batch.batch.storage import Folder

#: ``error.type`` of the rows of invalid answers. A stored value.
ERROR_TYPE: Final = "invalid_output"
_REASONS: Final = {
    "max_tokens": "it was cut off: raise max_tokens",
    "model_context_window_exceeded": "it was cut off: the context window is full",
    "refusal": "the model refused",
}
#: More of them are not kept: each request may have an ``output_config`` of its own.
_MAX_KNOWN_CONFIGS: Final = 255
#: Characters of the schema that an error quotes.
_QUOTED_CHARACTERS: Final = 160


class _OutputConfig(msgspec.Struct):
    format: Any = None


_output_config = msgspec.json.Decoder(_OutputConfig | None)
_extend: Any = extend  # jsonschema gives it no types


class OutputValidator:
    """Validates answers one by one. Building one takes as long as validating many answers.

    Models may write enum values in other case than the schema (structured-outputs docs, 2026-10-08). A value that
    differs from one of the schema's only in case becomes that one. Example::

        value, error = OutputValidator(schema).read('{"city": "Ulm"}', "end_turn")
    """

    def __init__(self, schema: OutputSchema) -> None:
        self._format = schema.format
        #: Whether an ``output_config`` asks for the schema. Most submissions have one, and each result asks.
        self._is_asked_for: dict[bytes, bool] = {}
        base = exact_class(_with_dependencies(validator_for(schema.schema, default=Draft202012Validator)))
        bounded = PatternMatcher().validator_class(base, schema.schema)
        registry: Registry[Any] = Registry()  # jsonschema's own would ask servers for schemas
        self._validator = bounded(without_dialects(schema.schema), registry=registry, format_checker=FORMATS)

    @classmethod
    def of(cls, folder: Folder) -> OutputValidator | None:
        """Make the validator of the submission in this folder; None if it has no output schema.

        :raises SubmissionRecordError: the schema cannot be read.
        """
        schema = load_schema(folder)
        return None if schema is None else cls(schema)

    def is_asked_for(self, output_config: bytes) -> bool:
        """Tell whether a request's ``output_config`` asks for this schema rather than a format of its own."""
        if (known := self._is_asked_for.get(output_config)) is not None:
            return known
        config = _output_config.decode(output_config)
        found = config is not None and config.format == self._format
        if len(self._is_asked_for) < _MAX_KNOWN_CONFIGS:
            self._is_asked_for[output_config] = found
        return found

    def read_first_valid(self, texts: Sequence[str], stop_reason: str | None) -> tuple[Any, dict[str, Any] | None]:
        """Return the first valid value of an answer's texts, else the reason why the last one is invalid."""
        found = self.read(None, stop_reason) if not texts else (None, None)
        for text in texts:
            found = self.read(text, stop_reason)
            if found[1] is None:
                break
        return found

    def read(self, text: str | None, stop_reason: str | None) -> tuple[Any, dict[str, Any] | None]:
        """Return the value of an answer's text and None, or None and the ``error`` of its row.

        The error has a type, a message, and the JSON path of the invalid place, which is None if there is no such
        place. It quotes nothing of the answer, since it is logged.
        """
        try:
            value = read_exact(text or "")
        except (ValueError, RecursionError) as error:
            return None, _not_json(f"{error}" if text else "there is no text", stop_reason)
        if stop_reason in ("max_tokens", "model_context_window_exceeded") and isinstance(value, int | float | Decimal):
            return None, _not_json("a number may have lost digits", stop_reason)
        return self.check(value)

    def check(self, value: Any) -> tuple[Any, dict[str, Any] | None]:
        """Return a valid value and None, or None and the ``error`` of its row."""
        try:
            return self._validate(value)
        except BaseException as error:  # of the schema or its patterns: the answer was paid for, and others follow
            if not isinstance(error, Exception) and not _is_native_panic(error):
                raise
            why = (
                f"The output schema could not be applied to the answer ({type(error).__name__}). The answer is kept in "
                "text. Look in the schema for a $ref or a pattern that does not end"
            )
            return None, {"type": ERROR_TYPE, "message": why, "path": None}

    def _validate(self, value: Any) -> tuple[Any, dict[str, Any] | None]:
        if self._validator.is_valid(value):
            return value, None
        errors = list(self._validator.iter_errors(value))
        value = _correct_case(copy.deepcopy(value), errors)
        if self._validator.is_valid(value):
            return value, None
        error = _most_relevant(errors)
        return None, {"type": ERROR_TYPE, "message": _describe(error), "path": error.json_path}


def _with_dependencies(base: Any) -> Any:
    """Return jsonschema's class with the keyword ``dependencies``, which drafts since 2019-09 have in two others."""
    keyword = Draft7Validator.VALIDATORS["dependencies"]
    return base if "dependencies" in base.VALIDATORS else _extend(base, {"dependencies": keyword})


def _is_native_panic(error: BaseException) -> bool:
    """Tell whether native code below jsonschema failed, as it may at the limit of Python's stack.

    The class of that error is not an ``Exception``, and cannot be imported.
    """
    return (type(error).__module__, type(error).__name__) == ("pyo3_runtime", "PanicException")


def _not_json(problem: str, stop_reason: str | None) -> dict[str, Any]:
    reason = _REASONS.get(stop_reason or "")
    message = f"The answer is not JSON (stop_reason {stop_reason}{f'; {reason}' if reason else ''}): {problem}"
    return {"type": ERROR_TYPE, "message": message, "path": None}


def _most_relevant(errors: list[ValidationError]) -> ValidationError:
    """Choose the error to report. In a union it is one of the branch with the fewest errors."""
    error = max(errors, key=relevance)
    if not error.context:
        return error
    branches: dict[Any, list[ValidationError]] = {}
    for inner in error.context:
        branches.setdefault(inner.schema_path[0], []).append(inner)
    return _most_relevant(min(branches.values(), key=len))


def _describe(error: ValidationError) -> str:
    """Describe an error by what the schema wants, without the answer's values."""
    if error.validator == "required":
        return f"{error.json_path}: {error.message}"
    wanted = json.dumps(error.validator_value, ensure_ascii=False)
    return f"{error.json_path} does not satisfy {error.validator}: {wanted:.{_QUOTED_CHARACTERS}}"


def _correct_case(value: Any, errors: Iterable[ValidationError]) -> Any:
    """Replace values that differ only in case from exactly one value of the schema's enum."""
    for error in _innermost(errors):
        matches = _values_in_other_case(error)
        if len(matches) != 1:
            continue
        path = list(error.absolute_path)
        if not path:
            return matches[0]
        container = value
        for step in path[:-1]:
            container = container[step]
        container[path[-1]] = matches[0]
    return value


def _innermost(errors: Iterable[ValidationError]) -> Iterator[ValidationError]:
    for error in errors:
        if error.context:
            yield from _innermost(error.context)
        else:
            yield error


def _values_in_other_case(error: ValidationError) -> list[str]:
    """Return the enum values that the invalid text equals but for its case."""
    if error.validator not in ("enum", "const") or not isinstance(error.instance, str):
        return []
    allowed: Any = error.validator_value
    values = allowed if error.validator == "enum" else [allowed]
    return [each for each in values if isinstance(each, str) and each.casefold() == error.instance.casefold()]
