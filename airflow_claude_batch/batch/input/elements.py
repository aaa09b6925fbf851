"""Reads one element of ``messages``, in any of its accepted shapes, into the params of one Messages call.

Only the shape is looked at here. ``checks`` holds the rules of the API.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from airflow_claude_batch.batch.input.element_errors import (
    SAMPLING_PARAMETERS,
    VERSION_WITHOUT_SAMPLING,
    element_error,
    sampling_error,
    short_repr,
    type_name,
)
from airflow_claude_batch.batch.input.precedence import find_element_conflict, merge
from airflow_claude_batch.batch.input.wrong_elements import (
    SHAPES,
    explain_fields,
    explain_list,
    explain_prompt,
    explain_type,
)
from airflow_claude_batch.exceptions import InvalidMessageError

#: Fields of a keyed element that override the operator's arguments of the same names.
OVERRIDES: Final = ("model", "max_tokens", "system", "params")
_KEYED_FIELDS: Final = frozenset({"key", "prompt", "messages", *OVERRIDES})


@dataclass(frozen=True, slots=True)
class Defaults:
    """What is in force for every request. An element may override each of them: see ``precedence``.

    :param params: the operator's ``request_params``.
    :param output_format: the ``output_config.format`` of every request that has none of its own.
    :param api_version: the API version that the requests are sent under, None if it is not known yet.
    """

    model: str
    max_tokens: int
    system: str | list[Any] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    output_format: Mapping[str, Any] | None = None
    api_version: str | None = None


class Request(msgspec.Struct, frozen=True):
    """One Messages call to make: the user's key (any JSON value) and the params as they go on the wire.

    ``index`` is the element's position in ``messages``, and the key of an element that has none.
    ``is_single_message`` is true if the element is itself one message, or its text. ``kept`` are the columns of its
    source row that the landed row carries, as a JSON object.
    """

    index: int
    key: Any
    params: dict[str, Any]
    is_single_message: bool = False
    kept: bytes | None = None


def read_request(element: Any, index: int, defaults: Defaults) -> Request:
    """Read element number ``index`` of ``messages``.

    >>> read_request({"key": "a", "prompt": "Hi"}, 0, Defaults(model="claude-haiku-5-5", max_tokens=64)).params
    {'model': 'claude-haiku-5-5', 'max_tokens': 64, 'messages': [{'role': 'user', 'content': 'Hi'}]}

    :raises InvalidMessageError: the element has none of the accepted shapes, or a field has the wrong type.
    """
    return with_format(_read_shape(element, index, defaults), defaults)


def with_format(request: Request, defaults: Defaults) -> Request:
    """Return the request with the ``output_config.format`` of every request, unless it has one of its own."""
    if defaults.output_format is None:
        return request
    config = request.params.get("output_config")
    config = {} if config is None else config
    if not isinstance(config, Mapping) or "format" in config:
        return request
    params = {**request.params, "output_config": {**config, "format": defaults.output_format}}
    return msgspec.structs.replace(request, params=params)


def _read_shape(element: Any, index: int, defaults: Defaults) -> Request:
    if isinstance(element, str):
        message = {"role": "user", "content": element}
        return Request(index, index, merge({"messages": [message]}, {}, defaults), is_single_message=True)
    if isinstance(element, list | tuple):
        if explanation := explain_list(element):
            raise element_error(index, None, *explanation)
        return Request(index, index, merge({"messages": list(element)}, {}, defaults))
    if not isinstance(element, Mapping):
        raise element_error(index, None, *explain_type(element))
    if "params" in element and "custom_id" in element:
        return _read_api_item(element, index, defaults)
    if "role" in element:
        message = _read_message(element, index)
        return Request(index, index, merge({"messages": [message]}, {}, defaults), is_single_message=True)
    return _read_keyed(element, index, defaults)


def _read_message(element: Mapping[str, Any], index: int) -> dict[str, Any]:
    ours = [name for name in ("key", "custom_id", "prompt", "messages", *OVERRIDES) if name in element]
    if ours:
        raise _error(
            element,
            index,
            f"{ours[0]!r} cannot stand beside 'role': the API refuses it in a message.",
            "Put the message into 'messages': {'key': …, 'messages': [{'role': …, 'content': …}]}.",
        )
    return dict(element)


def _read_keyed(element: Mapping[str, Any], index: int, defaults: Defaults) -> Request:
    if not _KEYED_FIELDS.issuperset(element):
        unknown = [name for name in element if name not in _KEYED_FIELDS]
        if unknown[0] in SAMPLING_PARAMETERS and (defaults.api_version or "") >= VERSION_WITHOUT_SAMPLING:
            raise sampling_error(index, element.get("key"), unknown[0], str(defaults.api_version))
        raise _error(element, index, *explain_fields(element, unknown))
    given = element.get("params")
    own = {} if given is None else _mapping(element, index, given)
    if own and (conflict := find_element_conflict(element, own)):
        raise _error(element, index, conflict.problem, conflict.remedy)
    if ("prompt" in element) == ("messages" in element):
        found = "both 'prompt' and 'messages' are" if "prompt" in element else "neither 'prompt' nor 'messages' is"
        raise _error(element, index, f"{found} given.", f"Give one of them, or {SHAPES}.")
    messages = element["messages"] if "messages" in element else _read_prompt(element, index)
    return Request(index, element.get("key", index), merge({**own, "messages": messages}, element, defaults))


def _read_api_item(element: Mapping[str, Any], index: int, defaults: Defaults) -> Request:
    unknown = [name for name in element if name not in ("custom_id", "params")]
    if unknown:
        problem = f"unknown field {short_repr(unknown[0], 40)} beside 'custom_id' and 'params'."
        raise _error(element, index, problem, "Remove it, or move it into 'params'.")
    return Request(index, element["custom_id"], merge(_mapping(element, index, element["params"]), {}, defaults))


def _read_prompt(element: Mapping[str, Any], index: int) -> list[Any]:
    prompt = element["prompt"]
    if not isinstance(prompt, str | list):
        raise _error(element, index, *explain_prompt(prompt))
    return [{"role": "user", "content": prompt}]


def _mapping(element: Mapping[str, Any], index: int, params: Any) -> Mapping[str, Any]:
    if not isinstance(params, Mapping):
        problem = f"'params' must be a mapping, not {type_name(params)}."
        raise _error(element, index, problem, "Give parameters of the Messages API by their names.")
    return params


def _error(element: Mapping[str, Any], index: int, problem: str, remedy: str) -> InvalidMessageError:
    return element_error(index, element.get("key", element.get("custom_id")), problem, remedy)
