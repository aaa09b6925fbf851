"""Decide which value of a parameter is sent, where several places give one. Pure functions.

The first of these that has a value wins, parameter by parameter and as a whole:

1. the element's own field, or its ``params``
2. the operator's argument: ``model``, ``max_tokens``, ``system``, ``output_schema``
3. the operator's ``request_params``
4. the connection
5. the default

Two values of one place contradict each other, and so do an argument and ``request_params``: both are the author's word
for every request. A contradiction is refused, because nobody can tell which of the two was meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

#: Parameters that have an argument of the operator, and a field of an element, of their own.
NAMED: Final = ("model", "max_tokens", "system")

#: Where a value in force comes from.
Source = Literal["argument", "request_params", "connection", "default"]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two values for the same parameter: what is wrong, and what to do."""

    problem: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorValues:
    """What the operator says for every request. None: nothing.

    :param output_format: the ``output_config.format`` that ``output_schema`` asks for.
    """

    model: Any = None
    max_tokens: Any = None
    system: Any = None
    request_params: Mapping[str, Any] | None = None
    output_format: Mapping[str, Any] | None = None


class InForce(Protocol):
    """The values in force for every request that has none of its own.

    ``params`` are ``request_params``, and ``system`` is None if there is none.
    """

    @property
    def model(self) -> str: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def system(self) -> Any: ...
    @property
    def params(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Chosen:
    """A value in force, and where it comes from."""

    value: Any
    source: Source


def choose(name: str, values: OperatorValues, *, connection: Any = None, default: Any = None) -> Chosen:
    """Return the value of a named parameter for a request that has none of its own.

    >>> choose("model", OperatorValues(request_params={"model": "claude-haiku-5-5"}), default="claude-opus-5-5")
    Chosen(value='claude-haiku-5-5', source='request_params')
    """
    if (argument := getattr(values, name)) is not None:
        return Chosen(argument, "argument")
    if name in (values.request_params or {}):
        return Chosen((values.request_params or {})[name], "request_params")
    return Chosen(default, "default") if connection is None else Chosen(connection, "connection")


def find_conflict(values: OperatorValues) -> Conflict | None:
    """Return what is wrong with ``request_params``, or between them and the arguments. None if nothing is."""
    params = values.request_params or {}
    if "messages" in params:
        return Conflict(
            "request_params has 'messages', which every element has of its own.",
            "Give the requests in the argument messages, and leave 'messages' out of request_params.",
        )
    for name in NAMED:
        argument = getattr(values, name)
        if argument is not None and name in params and _read(params[name]) != _read(argument):
            return Conflict(
                f"{name} is given twice: as the argument {name}, and in request_params.", f"Give only {name}=…."
            )
    if params.get("stream", False) is not False:
        return Conflict("request_params: 'stream' is not available in batches.", "Remove 'stream'.")
    config = params.get("output_config")
    own = config if isinstance(config, Mapping) else {}
    if values.output_format is not None and own.get("format", values.output_format) != values.output_format:
        return Conflict(
            "the format of answers is given twice: by output_schema, and in request_params' output_config.format.",
            "Give only output_schema, whose answers are validated too.",
        )
    return None


def _read(value: Any) -> Any:
    """Read digits as the number that is sent for them: a template of ``max_tokens`` gives a text."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


def find_element_conflict(fields: Mapping[str, Any], params: Mapping[str, Any]) -> Conflict | None:
    """Return what an element says twice, as a field and in its ``params``. None if nothing.

    :param fields: the element.
    :param params: its ``params``.
    """
    if "messages" in params:
        return Conflict(
            "'params' has 'messages', beside the prompt or the messages of the element itself."
            if "prompt" in fields or "messages" in fields
            else "'messages' is within 'params'.",
            "Give one of 'prompt' and 'messages', as a field of the element.",
        )
    for name in NAMED:
        if name in fields and name in params and fields[name] != params[name]:
            return Conflict(
                f"{name!r} is given twice, as a field and within 'params'.", f"Leave {name!r} out of 'params'."
            )
    return None


def merge(params: Mapping[str, Any], fields: Mapping[str, Any], in_force: InForce) -> dict[str, Any]:
    """Return the params of a request: the element's own, and what is in force for every request for the others.

    The order of the keys is part of a request's identity, so it stays as it has always been.

    :param params: the element's own parameters, and its ``messages``.
    :param fields: the element, if it has fields that stand for parameters. A ``system`` of None, here or
        in ``params``, is no system prompt: the API refuses null ("system: Input should be a valid list").
    """
    merged = {"model": in_force.model, "max_tokens": in_force.max_tokens, **in_force.params, **params}
    for name in NAMED:
        if name in fields:
            merged[name] = fields[name]
        elif name not in params and (value := getattr(in_force, name)) is not None:
            merged[name] = value
    if merged.get("system", "") is None:
        del merged["system"]
    return merged
