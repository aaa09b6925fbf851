"""Checks each request against the rules of the API before anything is sent.

The API accepts a batch whose requests break these rules. Each such request then ends as an error, after the wait.
Every rule names where it is written down: a page of platform.claude.com/docs, the vendor's Python SDK, or a recorded
answer of the API. Whether a model still runs is checked when its requests are sent: see ``money.models``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple

from airflow_claude_batch.batch.input.element_errors import (
    SAMPLING_PARAMETERS,
    VERSION_WITHOUT_SAMPLING,
    element_error,
    sampling_error,
    short_repr,
    type_name,
)
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.money.prices import Feature, ModelPrice
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import InvalidMessageError

#: Raises the limit of one answer, in batches only; batch-processing, 2026-10-08.
EXTENDED_OUTPUT_BETA: Final = "output-300k-2026-03-24"
#: Roles of a message; SDK 2.12.0, types/message_param.py.
ROLES: Final = ("user", "assistant", "system")
#: Parameters that no model takes in a batch; batch-processing, 2026-10-08.
NOT_IN_A_BATCH: Final = ("speed", "fallbacks")
#: Remedy for a conversation whose messages were given as elements, each of which is a request.
_INNER_LIST: Final = (
    "Each element is a request of its own: to send one conversation, put its messages into an inner list, "
    "messages=[[…]]."
)


class RequestChecker:
    """Checks requests one by one, against the rules of the API and those of the model that each one names.

    >>> checker = RequestChecker(PriceTable.load(), api_version="2026-10-21", betas=())
    >>> checker.check(Request(0, "a", {"model": "claude-haiku-5-5", "max_tokens": 0, "messages": []}))
    Traceback (most recent call last):
    InvalidMessageError: messages[0] (key 'a'): 'max_tokens' must be at least 1, not 0.

    :param betas: names in the ``anthropic-beta`` header of the create call.
    """

    def __init__(self, prices: PriceTable, *, api_version: str, betas: Collection[str]) -> None:
        self._prices = prices
        self._api_version = api_version
        self._has_extended_output = EXTENDED_OUTPUT_BETA in betas
        self._models: dict[str, ModelPrice | None] = {}

    def check(self, request: Request) -> None:
        """Raise if the API would refuse the request.

        :raises InvalidMessageError: names the element, the field and the remedy.
        """
        check_params(request, api_version=self._api_version)
        model = self._model(request.params["model"])
        if model is not None:
            self._check_answer_length(request, model)
            _check_features(request, model)

    def _model(self, name: str) -> ModelPrice | None:
        if name not in self._models:
            self._models[name] = self._prices.lookup(name)
        return self._models[name]

    def _check_answer_length(self, request: Request, model: ModelPrice) -> None:
        """``max_tokens`` above the model's limit is an error; recorded answer, 2026-09-02."""
        limit = (self._has_extended_output and model.extended_max_tokens) or model.max_tokens
        given = request.params["max_tokens"]
        if limit is None or given <= limit:
            return
        remedy = "Lower 'max_tokens'."
        if model.extended_max_tokens and limit < given <= model.extended_max_tokens:
            remedy = f"Lower 'max_tokens', or add {EXTENDED_OUTPUT_BETA} to the betas of the connection's extra."
        raise _error(request, f"'max_tokens' of {model.id} must be at most {limit}, not {short_repr(given)}.", remedy)


def check_params(request: Request, *, api_version: str) -> None:
    """Raise if the API refuses these params whatever the model.

    :raises InvalidMessageError: names the element, the field and the remedy.
    """
    params = request.params
    # Required by the API; SDK 2.12.0, types/message_create_params.py.
    if not isinstance(params["model"], str) or not params["model"].strip():
        problem = f"'model' must be the id of a model, not {short_repr(params['model'])}."
        raise _error(request, problem, "Set model on the operator or in the element, to an id such as claude-opus-5-5.")
    _check_max_tokens(request)
    _check_messages(request)
    # Same page.
    if not isinstance(params.get("system", ""), str | list):
        problem = f"'system' must be a string or a list of content blocks, not {type_name(params['system'])}."
        raise _error(request, problem, "Convert the system prompt to a string.")
    _check_output_config(request)
    _check_batch_parameters(request)
    if api_version >= VERSION_WITHOUT_SAMPLING:
        _check_sampling_parameters(request, api_version)


# ---------------------------------------------------------------- whatever the model


def _check_max_tokens(request: Request) -> None:
    """A batch takes no ``max_tokens`` below 1; batch-processing, 2026-10-08."""
    value, remedy = request.params["max_tokens"], "Set 'max_tokens' to a whole number of at least 1."
    if isinstance(value, bool) or not isinstance(value, int):
        raise _error(request, f"'max_tokens' must be a whole number, not {short_repr(value)}.", remedy)
    if value < 1:
        raise _error(request, f"'max_tokens' must be at least 1, not {short_repr(value)}.", remedy)


def _check_messages(request: Request) -> None:
    """At least one message is required; recorded answer, 2026-09-02."""
    messages = request.params.get("messages")
    remedy = "Give a list of messages: [{'role': 'user', 'content': …}]."
    if not isinstance(messages, list | tuple):
        raise _error(request, f"'messages' must be a list, not {type_name(messages)}.", remedy)
    if not messages:
        raise _error(request, "'messages' is empty.", remedy)
    for position, message in enumerate(messages):
        _check_message(request, message, position)


def _check_message(request: Request, message: Any, position: int) -> None:
    """Roles and content are those of SDK 2.12.0, types/message_param.py. The API refuses a text that is blank."""

    def error(problem: str, remedy: str) -> InvalidMessageError:
        return _error(request, problem, remedy, inside=_place(request, position))

    if not isinstance(message, Mapping):
        problem = f"a message must be a mapping, not {type_name(message)}."
        raise error(problem, "Give a mapping with 'role' and 'content'.")
    if "role" not in message:
        raise error("'role' is missing.", f"Give 'role', one of {', '.join(ROLES)}.")
    role = message["role"]
    if not isinstance(role, str) or role not in ROLES:
        problem = f"'role' must be one of {', '.join(ROLES)}, not {short_repr(role, 40)}."
        raise error(problem, "Set 'role' to one of these.")
    if "content" not in message:
        raise error("'content' is missing.", "Give 'content', a string or a list of content blocks.")
    content = message["content"]
    if isinstance(content, str):
        if not content.strip():
            raise error("the text is empty.", "Give a text, or leave the element out.")
    elif isinstance(content, list):
        _check_blocks(request, content, position)
    else:
        problem = f"'content' must be a string or a list of content blocks, not {type_name(content)}."
        raise error(problem, "Convert the content to a string.")


def _place(request: Request, position: int) -> str:
    """Return where a message is inside of its element. A single message is the element itself."""
    return "" if request.is_single_message else f".messages[{position}]"


def _check_blocks(request: Request, blocks: list[Any], position: int) -> None:
    """Every content block is a mapping with a ``type``; SDK 2.12.0, types/content_block_param.py."""
    if not blocks:
        place = _place(request, position)
        raise _error(request, "'content' has no blocks.", "Give a text or at least one content block.", inside=place)
    for number, block in enumerate(blocks):
        if not isinstance(block, Mapping) or not isinstance(block.get("type"), str):
            place = f"{_place(request, position)}.content[{number}]"
            problem = "a content block must be a mapping with a 'type'."
            raise _error(request, problem, "Write texts as {'type': 'text', 'text': …}.", inside=place)


def _check_output_config(request: Request) -> None:
    """An output schema goes neither with prefilled answers nor with citations; structured-outputs, 2026-10-08."""
    params = request.params
    config = params.get("output_config")
    if config is None:
        return
    if not isinstance(config, Mapping):
        problem = f"'output_config' must be a mapping, not {type_name(config)}."
        raise _error(request, problem, "Give a mapping such as {'effort': 'low'}.")
    if config.get("format") is None:
        return
    if params["messages"][-1]["role"] == "assistant":
        problem = "an output schema does not go with a conversation that ends with an assistant's turn."
        remedy = "End the conversation with a user's turn, or leave output_schema out."
        raise _error(request, problem, f"{remedy} {_INNER_LIST}" if request.is_single_message else remedy)
    if any(map(_asks_for_citations, _content_blocks(params["messages"]))):
        problem = "an output schema does not go with citations."
        raise _error(request, problem, "Leave out the citations or output_schema.")


def _content_blocks(messages: Any) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        if isinstance(message["content"], list):
            yield from message["content"]


def _asks_for_citations(block: Mapping[str, Any]) -> bool:
    citations = block.get("citations")
    return isinstance(citations, Mapping) and citations.get("enabled") is True


def _check_batch_parameters(request: Request) -> None:
    """Some parameters are not available in batches; batch-processing, 2026-10-08. ``stream: false`` is taken."""
    if request.params.get("stream", False) is not False:
        raise _error(request, "'stream' is not available in batches.", "Remove 'stream'.")
    for name in NOT_IN_A_BATCH:
        if name in request.params:
            raise _error(request, f"{name!r} is not available in batches.", f"Remove {name!r}.")


def _check_sampling_parameters(request: Request, api_version: str) -> None:
    """The sampling parameters no longer exist; api/versioning, 2026-10-21."""
    for name in SAMPLING_PARAMETERS:
        if name in request.params:
            raise sampling_error(request.index, request.key, name, api_version)


# ---------------------------------------------------------------- by model


class _UsedFeature(NamedTuple):
    """Something in a request that some models refuse; ``prices.json`` names them, under ``refuses``."""

    feature: Feature
    name: str
    remedy: str


def _check_features(request: Request, model: ModelPrice) -> None:
    """Each model refuses some features; about-claude/models/migration-guide, 2026-10-08."""
    for used in _used_features(request.params):
        if used.feature in model.refuses:
            shows_inner_list = used is _PREFILL and request.is_single_message
            remedy = f"{used.remedy} {_INNER_LIST}" if shows_inner_list else used.remedy
            raise _error(request, f"{model.id} refuses {used.name}.", remedy)


def _used_features(params: dict[str, Any]) -> list[_UsedFeature]:
    used = []
    if _type_of(params.get("tool_choice")) in ("any", "tool"):
        used.append(_FORCED_TOOL_USE)
    thinking = _type_of(params.get("thinking"))
    if thinking == "enabled":
        used.append(_THINKING_ENABLED)
    if thinking == "disabled":
        used.append(_THINKING_DISABLED)
    if params["messages"][-1].get("role") == "assistant":
        used.append(_PREFILL)
    temperature = params.get("temperature", 1)
    is_default = isinstance(temperature, int | float) and temperature == 1
    if not is_default or "top_p" in params or "top_k" in params:
        used.append(_SAMPLING_PARAMETERS)
    if params.get("inference_geo") is not None:
        used.append(_INFERENCE_GEO)
    return used


_FORCED_TOOL_USE: Final = _UsedFeature(
    "forced_tool_use", "a forced tool_choice", "Use output_schema, or output_config.format, for structured answers."
)
_THINKING_ENABLED: Final = _UsedFeature(
    "thinking_enabled", "thinking of type 'enabled'", "Use type 'adaptive' with output_config.effort."
)
_THINKING_DISABLED: Final = _UsedFeature(
    "thinking_disabled", "thinking of type 'disabled'", "Leave 'thinking' out, or lower output_config.effort."
)
_PREFILL: Final = _UsedFeature(
    "prefill", "a conversation that ends with an assistant's turn", "End the conversation with a user's turn."
)
_SAMPLING_PARAMETERS: Final = _UsedFeature(
    "sampling_parameters", "temperature, top_p and top_k", "Remove these parameters."
)
_INFERENCE_GEO: Final = _UsedFeature(
    "inference_geo", "inference_geo", "Leave 'inference_geo' out, or use a model of 4.6 or newer."
)


def _type_of(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, Mapping) else None
    return kind if isinstance(kind, str) else None


def _error(request: Request, problem: str, remedy: str, *, inside: str = "") -> InvalidMessageError:
    return element_error(request.index, request.key, problem, remedy, inside=inside)
