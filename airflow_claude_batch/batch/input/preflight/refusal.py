"""Raises the error about a request that breaks a rule, and finds the name that was meant."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any, Final, NoReturn

from airflow_claude_batch.batch.input.element_errors import element_error, short_repr
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.preflight.known_fields import Shape

#: How people pass what the API has since this version of the package.
IF_NEW: Final = "For one that is newer than this package, set allow_unknown_parameters in the connection's extra."
#: Longer names resemble none.
_LONGEST_NAME: Final = 60


def refuse(request: Request, rule: str, problem: str, remedy: str, *, inside: str = "") -> NoReturn:
    """Raise the error about a request that breaks ``rule``.

    :param rule: its name in ``rules.jsonl``.
    :param inside: the place inside the element, such as ``.messages[0].content[2]``.
    :raises InvalidMessageError: always.
    """
    error = element_error(request.index, request.key, problem, remedy, inside=inside)
    error.rule = rule
    raise error


def message_place(request: Request, position: int) -> str:
    """Return where a message is inside of its element. A single message is the element itself."""
    return "" if request.is_single_message else f".messages[{position}]"


def kind_of(value: Any) -> str | None:
    """Return the ``type`` of an object, None if it has none that is a string."""
    kind = value.get("type") if isinstance(value, Mapping) else None
    return kind if isinstance(kind, str) else None


def did_you_mean(name: Any, known: Collection[str]) -> str:
    """Return a sentence with the known name that resembles ``name`` most, or an empty text.

    >>> did_you_mean("temprature", ["temperature", "tools"])
    "Did you mean 'temperature'? "
    """
    if not isinstance(name, str) or len(name) > _LONGEST_NAME:
        return ""
    dated = [other for other in known if other.startswith(f"{name}_2")]
    close = sorted(dated)[-1:] or get_close_matches(name, list(known), 1, 0.7)
    return f"Did you mean {close[0]!r}? " if close else ""


def check_fields(
    request: Request, rule: str, value: Mapping[str, Any], known: Collection[str], what: str, *, inside: str = ""
) -> None:
    """Raise if an object has a field that the API does not know.

    :param what: the object in the error, such as ``'metadata'``.
    """
    for name in value:
        if name not in known:
            problem = f"{what} has no field {short_repr(name, 40)}."
            fields = ", ".join(sorted(known)[:8])
            refuse(request, rule, problem, f"{did_you_mean(name, known)}It has {fields}. {IF_NEW}", inside=inside)


def check_shape(
    request: Request, rule: str, value: Mapping[str, Any], shape: Shape, what: str, *, inside: str = "", strict: bool
) -> None:
    """Raise if an object lacks a field that it needs, or has one that the API does not know.

    :param strict: refuse unknown fields too.
    """
    missing = [name for name in sorted(shape.required) if name not in value]
    if missing:
        unknown = [name for name in value if name not in shape.fields]
        meant = f"It has {short_repr(unknown[0], 40)} instead. " if unknown else ""
        refuse(request, rule, f"{what} needs {missing[0]!r}.", f"{meant}Give {missing[0]!r}.", inside=inside)
    if strict:
        check_fields(request, rule, value, shape.fields, what, inside=inside)
