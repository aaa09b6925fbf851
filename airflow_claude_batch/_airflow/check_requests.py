"""Check what an author wants to send, when the DAG is parsed: only what is written in the DAG file itself.

What templates, upstream tasks and mapped arguments give is checked when the task runs, before anything is sent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from airflow_claude_batch._airflow.compat import ObjectStoragePath
from airflow_claude_batch._airflow.rendering import has_templates
from airflow_claude_batch._airflow.source import Source
from airflow_claude_batch.exceptions import ConfigurationError, InputError

#: Parameters of the Messages API that an author may put into ``params`` by mistake: those are the DAG's.
API_PARAMETERS: Final = frozenset(
    {
        "cache_control",
        "inference_geo",
        "max_tokens",
        "model",
        "output_config",
        "service_tier",
        "stop_sequences",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
#: Arguments of other providers' operators, and what this one calls them.
_OTHER_NAMES: Final = {
    "anthropic_conn_id": "claude_conn_id",
    "conn_id": "claude_conn_id",
    "response_format": "output_schema",
    "output_format": "output_schema",
    "schema": "output_schema",
    "system_prompt": "system",
    "batch_timeout": "timeout",
}
#: A text without a blank that ends like the name of a file of text.
_TEXT_FILE: Final = re.compile(r"\S+\.(?:md|txt|j2|jinja2?|tmpl|prompt|json|ya?ml)")


class NotGiven(int):
    """A default that an author did not give: in an argument, but weaker than ``request_params``."""


#: The default of the argument ``max_tokens``.
DEFAULT_MAX_TOKENS: Final = NotGiven(4096)


def if_given(value: Any) -> Any:
    """Return the value of an argument, None if the author has left it out."""
    return None if isinstance(value, NotGiven) else value


def check_messages(task_id: str, messages: Any) -> None:
    """Check that ``messages`` may hold several elements, or is a path or a template that gives them.

    :raises ConfigurationError: it is a single object, or gives something else than elements.
    """
    if messages is None:
        raise ConfigurationError(
            f"{task_id}: messages is None.", "Give a list of elements. What a task or a template gives may be empty."
        )
    if isinstance(messages, Source):
        raise ConfigurationError(
            f"{task_id}: messages is a source of rows, not a list of elements.",
            "Give it as rows=…, with the text of each request: prompt='Summarize: {body}'.",
        )
    if isinstance(messages, Mapping):
        raise ConfigurationError(
            f"{task_id}: messages is a mapping, and must be a list of elements.",
            "For a single request, put it into a list: messages=[{…}].",
        )
    if isinstance(messages, bool | int | float | bytes):
        raise ConfigurationError(
            f"{task_id}: messages is of type {type(messages).__name__}, and must be a list of elements.",
            "Give a list of elements (of one, for a single one), or the path of a .jsonl file.",
        )
    is_path = isinstance(messages, os.PathLike | ObjectStoragePath)
    if type(messages) not in (list, tuple, str) and not is_path and not _comes_later(messages):
        _check_container(task_id, messages)


def _check_container(task_id: str, messages: Any) -> None:
    """Check what is no list: a data frame or a set, for example, gives no elements."""
    from airflow_claude_batch.batch.input.containers import check_container

    try:
        check_container(messages)
    except InputError as error:
        raise ConfigurationError(f"{task_id}: {error}") from None


def check_model(task_id: str, model: Any) -> None:
    """Check that ``model`` is an id, a template or None.

    :raises ConfigurationError: it is empty, or not a text.
    """
    if model is None or _comes_later(model) or (isinstance(model, str) and model.strip()):
        return
    raise ConfigurationError(
        f"{task_id}: model is {model!r:.40}, which is no model's id.",
        "Give an id such as claude-haiku-5-5. For the connection's model, or the default, leave model out.",
    )


def check_prompt_text(task_id: str, name: str, text: Any) -> None:
    """Check that ``system`` or ``prompt`` is not the path of a file: the path would be sent in place of its text.

    :raises ConfigurationError: it is.
    """
    if isinstance(text, os.PathLike) or (isinstance(text, str) and _TEXT_FILE.fullmatch(text.strip())):
        raise ConfigurationError(
            f"{task_id}: {name} is {str(text)!r:.40}, the path of a file, which is not read.",
            f"Give the text of the file: {name}=Path(…).read_text(). It is rendered as a template.",
        )


def check_keywords(kwargs: Mapping[str, Any]) -> None:
    """Check that no parameter of the API, nor another provider's argument, is given as an argument of the operator.

    :raises ConfigurationError: one is; names the argument that is meant.
    """
    for name in sorted(kwargs):
        if name in API_PARAMETERS:
            raise ConfigurationError(
                f"{kwargs.get('task_id')}: the operator has no argument {name}, a parameter of the Messages API.",
                f"Give it in request_params: request_params={{{name!r}: …}}.",
            )
        if name in _OTHER_NAMES:
            raise ConfigurationError(
                f"{kwargs.get('task_id')}: the operator has no argument {name}.",
                f"Did you mean {_OTHER_NAMES[name]}?",
            )


def check_max_tokens(task_id: str, max_tokens: Any) -> None:
    """Check that ``max_tokens`` is a whole number from 1, its digits, a template or None.

    :raises ConfigurationError: it is none of these.
    """
    if max_tokens is None or _comes_later(max_tokens):
        return
    is_number = isinstance(max_tokens, int) and not isinstance(max_tokens, bool)
    if isinstance(max_tokens, str) and max_tokens.strip().isdecimal():
        max_tokens, is_number = int(max_tokens), True
    if not is_number or max_tokens < 1:
        raise ConfigurationError(
            f"{task_id}: max_tokens must be a whole number of at least 1, not {max_tokens!r:.40}.",
            "Give the most tokens that an answer may have, such as 1024.",
        )


def check_request_params(
    task_id: str,
    *,
    model: Any,
    max_tokens: Any,
    system: Any,
    request_params: Any,
    output_format: Mapping[str, Any] | None,
) -> None:
    """Check that ``request_params`` is a mapping, and does not contradict the other arguments.

    :raises ConfigurationError: it is not, or it does.
    """
    if request_params is None or _comes_later(request_params):
        return
    if not isinstance(request_params, Mapping):
        raise ConfigurationError(
            f"{task_id}: request_params is of type {type(request_params).__name__}, and must be a mapping.",
            "Give parameters of the Messages API by their names, such as {'thinking': {'type': 'adaptive'}}.",
        )
    from airflow_claude_batch.batch.input.precedence import NAMED, OperatorValues, find_conflict

    known = {name: value for name, value in request_params.items() if not _comes_later(value)}
    arguments = {"model": model, "max_tokens": max_tokens, "system": system}
    given = {name: arguments[name] for name in NAMED if name in known and not _comes_later(arguments[name])}
    values = OperatorValues(**given, request_params=known, output_format=output_format)
    if conflict := find_conflict(values):
        raise ConfigurationError(f"{task_id}: {conflict.problem}", conflict.remedy)


def check_cache_system(task_id: str, system: Any, request_params: Any) -> None:
    """Check that there is a system prompt to mark for the prompt cache.

    :raises ConfigurationError: there is none.
    """
    has_params = _comes_later(request_params) or (isinstance(request_params, Mapping) and "system" in request_params)
    if system is None and not has_params:
        raise ConfigurationError(
            f"{task_id}: cache_system=True needs a system prompt, and there is none.",
            "Give system, or leave cache_system out.",
        )


def check_params(task_id: str, params: Iterable[str], of_dag: Iterable[str], fields: Iterable[Any]) -> None:
    """Check that ``params``, which are the DAG's and are not sent, has no parameters of the API that nothing reads.

    :param of_dag: names of the DAG's own params.
    :param fields: the task's templated fields. A template that reads ``params`` has a use for any name.
    :raises ConfigurationError: it has.
    """
    misplaced = sorted(API_PARAMETERS.intersection(params) - set(of_dag))
    if misplaced and not any(map(_may_read_params, fields)):
        raise ConfigurationError(
            f"{task_id}: params has {', '.join(misplaced)}, which Airflow does not send to the API.",
            "Use request_params for parameters of the Messages API, or the arguments model, max_tokens and system.",
        )


def _may_read_params(content: Any) -> bool:
    if isinstance(content, str):
        return has_templates(content) and "params" in content
    if isinstance(content, Mapping):
        return any(map(_may_read_params, content.values()))
    if isinstance(content, list | tuple):
        return any(map(_may_read_params, content))
    return callable(content)


def _comes_later(value: Any) -> bool:
    """Return True for what has its value only when the task runs: a template, another task's output, a function."""
    return callable(value) or has_templates(value)
