"""One element of ``messages``, in any of its accepted shapes, becomes the params of one Messages call.

Everything that can be refused without asking the API is refused here, with the element named, because
the API would say it only after the batch has ended, once for every row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from airflow_claude_batch.api import limits
from airflow_claude_batch.batch.input.json_errors import explain, shown
from airflow_claude_batch.exceptions import InvalidMessageError

ROLES = ("user", "assistant", "system")
OVERRIDES = ("model", "max_tokens", "system", "params")
SHAPES = (
    'a prompt (string), {"role": …, "content": …}, a conversation (list of such), '
    '{"key": …, "prompt" or "messages": …}, or {"custom_id": …, "params": {…}}'
)
#: Not allowed in a batch whatever the model (batch-processing docs, 2026-10).
NOT_IN_A_BATCH = ("speed", "fallbacks")
#: Gone from API version 2026-10-21 on; refused by models from 4.7 on under the older one too.
SAMPLING = ("temperature", "top_p", "top_k")
VERSION_WITHOUT_SAMPLING = "2026-10-21"
# Made once: json.dumps makes one for every call.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the operator says for every request: an element may override each of them.

    ``params`` are further parameters of the Messages API. ``output_format`` is the ``output_config.format`` of every
    request that has none of its own.
    """

    model: str
    max_tokens: int
    system: str | list[Any] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    output_format: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One call to make: the user's key (any JSON value) and the params as they go on the wire."""

    index: int
    key: Any
    params: dict[str, Any]


class _Place(NamedTuple):
    """An element, or a message in it, for messages to people: written out only if there is something to say."""

    element: int
    key: Any
    message: int | None = None

    def __str__(self) -> str:
        key = "" if self.key is None else f" (key {shown(self.key)})"
        return f"messages[{self.element}]{key}" + ("" if self.message is None else f".messages[{self.message}]")


def read_request(element: Any, index: int, defaults: Defaults) -> Request:
    """Understand element number ``index``.

    :raises InvalidMessageError: the shape is none of ours, or a field has the wrong type.
    """
    request = _read(element, index, defaults)
    config = request.params.get("output_config")
    config = {} if config is None else config
    if defaults.output_format is None or not isinstance(config, Mapping) or "format" in config:
        return request
    asking = {"output_config": {**config, "format": defaults.output_format}}
    return replace(request, params={**request.params, **asking})


def _read(element: Any, index: int, defaults: Defaults) -> Request:
    is_mapping = isinstance(element, Mapping)
    where = _Place(index, element.get("key", element.get("custom_id")) if is_mapping else None)
    if isinstance(element, str):
        return Request(index, index, _params(_one_prompt(element, where), defaults))
    if isinstance(element, list | tuple):
        return Request(index, index, _params(list(element), defaults))
    if not is_mapping:
        raise InvalidMessageError(f"{where} is a {type(element).__name__}. Give {SHAPES}.")
    if "params" in element and "custom_id" in element:
        return _api_shape(element, index, defaults, where)
    if "role" in element:
        return Request(index, index, _params([_message(element, where)], defaults))
    return _keyed(element, index, defaults, where)


def _message(element: Mapping[str, Any], where: _Place) -> dict[str, Any]:
    ours = [name for name in ("key", "custom_id", "prompt", "messages", *OVERRIDES) if name in element]
    if ours:
        raise InvalidMessageError(
            f"{where} has both 'role' and {ours[0]!r}, which the API refuses in a message. Put the message into "
            "'messages': {'key': …, 'messages': [{'role': …, 'content': …}]}."
        )
    return dict(element)


def _keyed(element: Mapping[str, Any], index: int, defaults: Defaults, where: _Place) -> Request:
    unknown = [name for name in element if name not in ("key", "prompt", "messages", *OVERRIDES)]
    if unknown:
        raise InvalidMessageError(
            f"{where} has the unknown field {shown(unknown[0], 40)}. Fields of the Messages API go under 'params'. "
            f"Give {SHAPES}."
        )
    if ("prompt" in element) == ("messages" in element):
        raise InvalidMessageError(f"{where} must have one of 'prompt' and 'messages'. Give {SHAPES}.")
    messages = element["messages"] if "messages" in element else _one_prompt(element["prompt"], where)
    own = element.get("params")
    own = {} if own is None else own
    if not isinstance(own, Mapping):
        raise InvalidMessageError(f"{where}: 'params' must be a mapping, not {type(own).__name__}.")
    merged = Defaults(
        model=element.get("model", defaults.model),
        max_tokens=element.get("max_tokens", defaults.max_tokens),
        system=element.get("system", defaults.system),
        params={**defaults.params, **own},
    )
    return Request(index, element.get("key", index), _params(messages, merged))


def _api_shape(element: Mapping[str, Any], index: int, defaults: Defaults, where: _Place) -> Request:
    """The API's own item passes through; only what every request must have is filled in."""
    unknown = [name for name in element if name not in ("custom_id", "params")]
    if unknown:
        raise InvalidMessageError(
            f"{where} has the unknown field {shown(unknown[0], 40)} beside 'custom_id' and 'params'."
        )
    if not isinstance(element["params"], Mapping):
        raise InvalidMessageError(f"{where}: 'params' must be a mapping, not {type(element['params']).__name__}.")
    required = {"model": defaults.model, "max_tokens": defaults.max_tokens}
    return Request(index, element["custom_id"], {**required, **element["params"]})


def _one_prompt(prompt: Any, where: _Place) -> list[Any]:
    if not isinstance(prompt, str | list):
        raise InvalidMessageError(
            f"{where}: the prompt must be a string or a list of content blocks, not {type(prompt).__name__}."
        )
    return [{"role": "user", "content": prompt}]


def _params(messages: Any, defaults: Defaults) -> dict[str, Any]:
    params: dict[str, Any] = {
        "model": defaults.model,
        "max_tokens": defaults.max_tokens,
        **defaults.params,
        "messages": messages,
    }
    if defaults.system is not None:
        params["system"] = defaults.system
    return params


def check_params(request: Request, *, api_version: str) -> None:
    """Refuse what the API refuses for any model.

    :raises InvalidMessageError: names the element, the field and the remedy.
    """
    by_number = isinstance(request.key, int) and request.key == request.index
    where = _Place(request.index, None if by_number else request.key)
    params = request.params
    if not isinstance(params["model"], str) or not params["model"].strip():
        raise InvalidMessageError(f"{where}: 'model' must be a model id, not {shown(params['model'])}.")
    _check_max_tokens(params["max_tokens"], where)
    _check_messages(params.get("messages"), where)
    if not isinstance(params.get("system", ""), str | list):
        raise InvalidMessageError(
            f"{where}: 'system' must be a string or a list of content blocks, not {type(params['system']).__name__}."
        )
    _check_output_config(params, where)
    if params.get("stream", False) is not False:
        raise InvalidMessageError(f"{where}: a batch cannot stream. Remove 'stream'.")
    for name in NOT_IN_A_BATCH:
        if name in params:
            raise InvalidMessageError(f"{where}: {name!r} is not available in batches. Remove it.")
    if api_version >= VERSION_WITHOUT_SAMPLING:
        for name in SAMPLING:
            if name in params:
                raise InvalidMessageError(
                    f"{where}: API version {api_version} has no {name!r}. Remove it, or set the connection's "
                    "api_version to 2023-06-01 for a model before 4.7."
                )


def _check_max_tokens(value: Any, where: _Place) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidMessageError(f"{where}: 'max_tokens' must be a whole number, not {shown(value)}.")
    if value < 1:
        raise InvalidMessageError(f"{where}: 'max_tokens' must be at least 1, not {shown(value)}.")


def _check_output_config(params: Mapping[str, Any], where: _Place) -> None:
    """What does not go with structured outputs (structured-outputs docs, 2026-10-08)."""
    config = params.get("output_config")
    if config is None:
        return
    if not isinstance(config, Mapping):
        raise InvalidMessageError(f"{where}: 'output_config' must be a mapping, not {type(config).__name__}.")
    if config.get("format") is None:
        return
    if params["messages"][-1]["role"] == "assistant":
        raise InvalidMessageError(
            f"{where} ends with an assistant's turn, which does not go with an output schema. End with a user's."
        )
    blocks = (
        block for message in params["messages"] if isinstance(message["content"], list) for block in message["content"]
    )
    if any(isinstance(cited := block.get("citations"), Mapping) and cited.get("enabled") is True for block in blocks):
        raise InvalidMessageError(f"{where} asks for citations, which do not go with an output schema. Leave one out.")


def _check_messages(messages: Any, where: _Place) -> None:
    if not isinstance(messages, list | tuple):
        raise InvalidMessageError(f"{where}: 'messages' must be a list, not {type(messages).__name__}.")
    if not messages:
        raise InvalidMessageError(f"{where} has no messages: the API wants at least one.")
    for position, message in enumerate(messages):
        _check_message(message, where, position)


def _check_message(message: Any, place: _Place, position: int) -> None:
    where = _Place(place.element, place.key, position)
    if not isinstance(message, Mapping):
        raise InvalidMessageError(f"{where} must be a mapping with 'role' and 'content', not {type(message).__name__}.")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise InvalidMessageError(f"{where}: 'role' must be one of {', '.join(ROLES)}, not {shown(role, 40)}.")
    content = message.get("content")
    if isinstance(content, str):
        if not content.strip():
            raise InvalidMessageError(f"{where}: the text is empty; the API refuses blank messages.")
    elif isinstance(content, list):
        _check_blocks(content, where)
    else:
        raise InvalidMessageError(
            f"{where}: 'content' must be a string or a list of content blocks, not {type(content).__name__}."
        )


def _check_blocks(blocks: list[Any], where: _Place) -> None:
    if not blocks:
        raise InvalidMessageError(f"{where}: 'content' has no blocks.")
    for position, block in enumerate(blocks):
        if not isinstance(block, Mapping) or not isinstance(block.get("type"), str):
            raise InvalidMessageError(f"{where}.content[{position}] is not a content block with a 'type'.")


def encode_params(request: Request) -> bytes:
    """The params as they go on the wire; the content hash is taken of these bytes.

    Plain ``json`` on purpose: it refuses dates, bytes, NaN and the like, which faster encoders turn
    silently into something that the author did not write.

    :raises InvalidMessageError: a value is not JSON, or the request alone is larger than a batch may be.
    """
    try:
        data = _ENCODER.encode(request.params).encode()
    except (TypeError, ValueError, RecursionError) as error:
        why = explain(request.params, "params", error)
        # The chain would show the prompt: a UnicodeEncodeError carries it.
        raise InvalidMessageError(f"{named(request)} cannot be written as JSON: {why}") from None
    if len(data) > limits.MAX_BATCH_BYTES - 1024:
        raise InvalidMessageError(
            f"{named(request)} has {len(data):,} bytes; a whole batch may have "
            f"{limits.MAX_BATCH_BYTES:,}. Shorten it, or pass large documents by reference (Files API)."
        )
    return data


def named(request: Request) -> str:
    """The element, for messages to people."""
    return str(_Place(request.index, request.key))
