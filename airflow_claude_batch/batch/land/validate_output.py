"""Answers against the output schema: the valid value, or the reason why there is none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, relevance
from jsonschema.validators import validator_for

from airflow_claude_batch.batch.input.output_schema import OutputSchema, load_schema
from airflow_claude_batch.batch.storage import Folder

ERROR_TYPE = "invalid_output"
_HINTS = {
    "max_tokens": "it was cut off: raise max_tokens",
    "model_context_window_exceeded": "it was cut off: the context window is full",
    "refusal": "the model refused",
}
_MAX_WORDS = 160


class _OutputConfig(msgspec.Struct):
    format: Any = None


class _Params(msgspec.Struct):
    output_config: _OutputConfig | None = None


_params = msgspec.json.Decoder(_Params)


class OutputValidator:
    """Validates answers, one by one. Build it once: it takes about as long as many rows.

    The model spells enum values as it likes where only the case differs (structured-outputs docs, 2026-10-08): what
    is one of the schema's values but for its case becomes that value.
    """

    def __init__(self, schema: OutputSchema) -> None:
        self._format = schema.format
        self._validator = validator_for(schema.schema, default=Draft202012Validator)(schema.schema)

    @classmethod
    def of(cls, folder: Folder) -> OutputValidator | None:
        """For the submission in this folder; None if it has no output schema.

        :raises SubmissionRecordError: it has one that cannot be read.
        """
        schema = load_schema(folder)
        return None if schema is None else cls(schema)

    def is_asked_for(self, params: bytes) -> bool:
        """Whether a request's params ask for this schema, and have no ``output_config.format`` of their own."""
        config = _params.decode(params).output_config
        return config is not None and config.format == self._format

    def read(self, text: str | None, stop_reason: str | None) -> tuple[Any, dict[str, Any] | None]:
        """The value that an answer's text is, and why it is not valid.

        The reason says nothing of the answer itself: it comes into logs. It is a row's ``error``: type, message, and
        the path of the place in the answer, None if there is no such place.
        """
        try:
            value = msgspec.json.decode(text or "")
        except (msgspec.MsgspecError, RecursionError) as error:
            return None, _error(f"{error}" if text else "there is no text", stop_reason)
        if stop_reason in ("max_tokens", "model_context_window_exceeded") and isinstance(value, int | float):
            return None, _error("a number may have lost digits", stop_reason)
        try:
            return self._validated(value)
        except BaseException as error:  # of the schema, or of its patterns: the answer was paid for, and others wait
            if not isinstance(error, Exception) and not _is_panic(error):
                raise
            why = (
                f"The schema could not be applied to the answer ({type(error).__name__}): look for a $ref or a pattern "
                "in it that finds no end. What was answered is in text"
            )
            return None, {"type": ERROR_TYPE, "message": why, "path": None}

    def _validated(self, value: Any) -> tuple[Any, dict[str, Any] | None]:
        if self._validator.is_valid(value):
            return value, None
        errors = list(self._validator.iter_errors(value))
        value = _respell(value, errors)
        if self._validator.is_valid(value):
            return value, None
        worst = _worst(errors)
        return None, {"type": ERROR_TYPE, "message": _words(worst), "path": worst.json_path}


def _is_panic(error: BaseException) -> bool:
    """Whether a library's native code gave up, as that below jsonschema may where Python's stack ends.

    Its class is no ``Exception``, and cannot be imported.
    """
    return (type(error).__module__, type(error).__name__) == ("pyo3_runtime", "PanicException")


def _error(problem: str, stop_reason: str | None) -> dict[str, Any]:
    hint = _HINTS.get(stop_reason or "")
    message = f"The answer is not JSON (stop_reason {stop_reason}{f'; {hint}' if hint else ''}): {problem}"
    return {"type": ERROR_TYPE, "message": message, "path": None}


def _worst(errors: list[ValidationError]) -> ValidationError:
    """What to name of many errors: in a union, one of the branch that the answer comes nearest to."""
    worst = max(errors, key=relevance)
    if not worst.context:
        return worst
    branches: dict[Any, list[ValidationError]] = {}
    for error in worst.context:
        branches.setdefault(error.schema_path[0], []).append(error)
    return _worst(min(branches.values(), key=lambda branch: len(branch)))


def _words(error: ValidationError) -> str:
    """What the schema says there."""
    if error.validator == "required":
        return f"{error.json_path}: {error.message}"
    wanted = json.dumps(error.validator_value, ensure_ascii=False)
    return f"{error.json_path} does not satisfy {error.validator}: {wanted:.{_MAX_WORDS}}"


def _respell(value: Any, errors: Iterable[ValidationError]) -> Any:
    """The value with the schema's spelling of enum values, where only the case differs and nothing else fits."""
    for error in _leaves(errors):
        meant = _meant(error)
        if len(meant) != 1:
            continue
        path = list(error.absolute_path)
        if not path:
            return meant[0]
        place = value
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = meant[0]
    return value


def _leaves(errors: Iterable[ValidationError]) -> Iterator[ValidationError]:
    for error in errors:
        if error.context:
            yield from _leaves(error.context)
        else:
            yield error


def _meant(error: ValidationError) -> list[str]:
    if error.validator not in ("enum", "const") or not isinstance(error.instance, str):
        return []
    said: Any = error.validator_value
    wanted = said if error.validator == "enum" else [said]
    return [each for each in wanted if isinstance(each, str) and each.casefold() == error.instance.casefold()]
