"""Read what the operator, its connection and the defaults say for every request, and which of it is in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_claude_batch._airflow.check_requests import DEFAULT_MAX_TOKENS, if_given
from airflow_claude_batch._airflow.rendering import unwrap
from airflow_claude_batch.batch.input.output_schema import read_schema
from airflow_claude_batch.batch.input.precedence import (
    Chosen,
    OperatorValues,
    Source,
    choose,
    find_conflict,
)
from airflow_claude_batch.exceptions import NOTHING_SENT, InputError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.options import SubmissionOptions
    from airflow_claude_batch._airflow.task_run import Hook

_WORDS: Final[dict[Source, str]] = {
    "argument": "the task's argument",
    "request_params": "from request_params",
    "connection": "the connection's",
    "default": "the default",
}


@dataclass(frozen=True, slots=True)
class ValuesInForce:
    """What is sent for every request that has no model, max_tokens or system of its own."""

    model: Chosen
    max_tokens: Chosen
    system: Any
    request_params: Mapping[str, Any]
    output_format: Mapping[str, Any] | None

    def in_words(self) -> str:
        """Say model and max_tokens, and where they come from.

        >>> values_in_force(options, hook).in_words()
        'model claude-opus-5-5 (the default), max_tokens 4,096 (the default)'
        """
        tokens = self.max_tokens.value
        shown = f"{tokens:,}" if isinstance(tokens, int) else tokens
        return (
            f"model {self.model.value} ({_WORDS[self.model.source]}), "
            f"max_tokens {shown} ({_WORDS[self.max_tokens.source]})"
        )

    def to_manifest(self) -> dict[str, Any]:
        """Return model and max_tokens, and where they come from, as JSON."""
        return {
            "model": self.model.value,
            "model_from": self.model.source,
            "max_tokens": self.max_tokens.value,
            "max_tokens_from": self.max_tokens.source,
        }


def values_in_force(options: SubmissionOptions, hook: Hook) -> ValuesInForce:
    """Decide what is sent for every request, by the rules of ``precedence``.

    :raises InputError: an argument cannot be right, or contradicts ``request_params``.
    """
    values = OperatorValues(
        model=_checked_model(options.model),
        max_tokens=int_of_digits(if_given(options.max_tokens)),
        system=unwrap(options.system),
        request_params=_checked_params(options.request_params),
        output_format=None if options.output_schema is None else read_schema(options.output_schema).format,
    )
    if conflict := find_conflict(values):
        raise InputError(conflict.problem, NOTHING_SENT, conflict.remedy)
    max_tokens = choose("max_tokens", values, default=int(DEFAULT_MAX_TOKENS))
    return ValuesInForce(
        model=_model_in_force(values, hook),
        max_tokens=Chosen(int_of_digits(max_tokens.value), max_tokens.source),
        system=choose("system", values).value,
        request_params=values.request_params or {},
        output_format=values.output_format,
    )


def _model_in_force(values: OperatorValues, hook: Hook) -> Chosen:
    chosen = choose("model", values)
    if chosen.value is not None or chosen.source == "request_params":
        return chosen
    return choose("model", values, connection=hook.get_connection_model(), default=hook.get_default_model())


def _checked_model(model: Any) -> Any:
    """Check what a template gave for ``model``. (Text of DAGs that render to text: an unset variable is 'None'.)"""
    if model is None or (isinstance(model, str) and model.strip() not in ("", "None")):
        return model
    found = repr(model) if isinstance(model, str) else f"of type {type(model).__name__}"
    raise InputError(
        f"model is {found}, which is no model's id.",
        NOTHING_SENT,
        "Give an id such as claude-haiku-5-5. For the connection's model, or the default, leave model out.",
    )


def _checked_params(params: Any) -> Mapping[str, Any]:
    if not isinstance(params or {}, Mapping):
        raise InputError(
            f"request_params must be a mapping, not {type(params).__name__}.",
            NOTHING_SENT,
            "Give a mapping. A template that makes one needs a DAG with render_template_as_native_obj=True.",
        )
    return params or {}


def int_of_digits(value: Any) -> Any:
    """Read a number from the digits that a template gives. Everything else is for the checks to judge."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value
