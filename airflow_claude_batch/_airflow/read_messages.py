"""Read the operator's ``messages`` or ``rows`` as requests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec

from airflow_claude_batch._airflow import settings
from airflow_claude_batch._airflow.cache_system import CacheSystem
from airflow_claude_batch._airflow.check_requests import DEFAULT_MAX_TOKENS
from airflow_claude_batch._airflow.check_rows import check_combination
from airflow_claude_batch._airflow.compat import ObjectStoragePath
from airflow_claude_batch._airflow.read_rows import row_elements
from airflow_claude_batch._airflow.rendering import unwrap
from airflow_claude_batch._airflow.results_folder import object_path
from airflow_claude_batch._airflow.source import Source
from airflow_claude_batch._airflow.values_in_force import int_of_digits, values_in_force
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.input.checks import RequestChecker
from airflow_claude_batch.batch.input.containers import check_container, elements_of_text
from airflow_claude_batch.batch.input.earlier_forms import EarlierForms, EarlierInput
from airflow_claude_batch.batch.input.element_errors import MESSAGES, ROWS, name_source_row
from airflow_claude_batch.batch.input.elements import Defaults, Request, read_request
from airflow_claude_batch.batch.input.file_format import check_path
from airflow_claude_batch.batch.input.iterating import iterating
from airflow_claude_batch.batch.input.message_file import MessageFile
from airflow_claude_batch.batch.input.output_schema import OutputSchema, read_schema
from airflow_claude_batch.batch.input.request_index import RequestIndexWriter
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.input.rows.column_names import short_name
from airflow_claude_batch.batch.input.rows.elements_of_rows import RowElements
from airflow_claude_batch.batch.input.wrong_texts import TextCheck
from airflow_claude_batch.exceptions import NOTHING_SENT, InputError, InvalidMessageError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.options import SubmissionOptions
    from airflow_claude_batch._airflow.task_run import Hook
    from airflow_claude_batch.batch.money.pricing import PriceTable

#: Of a function and of the operator.
_GIVE_A_PROMPT: Final = (
    "Give the text of each request with the columns in it: prompt='Summarize: {body}'. The operator takes the source "
    "as rows=…, not as messages=…."
)


def write_input(
    options: SubmissionOptions,
    hook: Hook,
    prices: PriceTable,
    file: IO[bytes],
    index: RequestIndexWriter | None = None,
    load_earlier: Callable[[], EarlierInput] = EarlierInput,
) -> int:
    """Write the task's requests to a file, one by one, and return their number.

    :param index: what writes their index.
    :param load_earlier: tells what earlier attempts wrote.
    :raises InputError: an element cannot be sent; names it and the remedy.
    """
    check_combination(options)
    max_bytes, _ = settings.batch_limits(hook.get_config())
    elements = iter_elements(unwrap(options.messages)) if options.rows is None else row_elements(options)
    with iterating(_requests(options, hook, prices, elements, load_earlier)) as requests:
        count = write_requests(
            requests,
            file,
            index,
            deduplicate=options.deduplicate,
            max_bytes=max_bytes,
            may_be_empty=options.on_empty == "succeed",
            argument=input_argument(options),
            locate=partial(_located, source=elements),
        )
    if index is not None and index.kept is not None and isinstance(elements, RowElements):
        index.kept.types = elements.types
    return count


def input_argument(options: SubmissionOptions) -> str:
    """Return the name of the argument that gives the requests."""
    return MESSAGES if options.rows is None else ROWS


def output_schema(options: SubmissionOptions) -> OutputSchema | None:
    """Return the schema that the task's answers must satisfy, None if it has none.

    :raises OutputSchemaError: the API does not support it.
    """
    return None if options.output_schema is None else read_schema(options.output_schema)


def iter_elements(messages: Any, *, name: str = "messages") -> Iterable[Any]:
    """Return the elements of ``messages``: of a list or another iterable, or of the file at a path or URI.

    :param name: what gave them, for the error.
    :raises InputError: it is none of these.
    """
    if isinstance(messages, Source):
        raise InputError(f"{name} is a source of rows, and there is no prompt for them.", NOTHING_SENT, _GIVE_A_PROMPT)
    if isinstance(messages, str | ObjectStoragePath | os.PathLike):
        text = str(messages) if isinstance(messages, str | ObjectStoragePath) else os.fsdecode(messages)
        text = text.strip()
        values = elements_of_text(text)
        return _file_elements(text) if values is None else check_container(values, name=name)
    return check_container(messages, name=name)


def _file_elements(uri: str) -> MessageFile:
    """Return the elements of a file. Airflow opens it, with the connection that its URI names."""
    check_path(uri)

    @contextmanager
    def open_file() -> Iterator[BufferedReader]:
        path = object_path(uri)
        with storage.buffered(path.fs.open(path.path, "rb")) as file:
            yield file

    location = None if "://" in uri else str(Path(uri).expanduser().absolute())
    return MessageFile(uri, open_file, location=None if location == uri else location)


def _requests(
    options: SubmissionOptions,
    hook: Hook,
    prices: PriceTable,
    elements: Iterable[Any],
    load_earlier: Callable[[], EarlierInput],
) -> Iterator[Request]:
    config = hook.get_config()
    checker = RequestChecker(
        prices, api_version=config.api_version, betas=config.betas, allow_unknown=config.allow_unknown_parameters
    )
    defaults = _defaults(options, hook)
    mark = CacheSystem(defaults.system) if options.cache_system else None
    earlier = EarlierForms(_earlier_defaults(options, hook, defaults), load_earlier())
    texts = TextCheck()
    request: Request | None = None
    with iterating(elements) as opened:
        for index, element in enumerate(opened):
            _check_cached(mark, elements)
            texts.see(element)
            request = None
            try:
                request = read_request(element, index, defaults)
                request = mark.put_on(request) if mark else request
                checker.check(request)
                request = earlier.choose(request, element)
            except InvalidMessageError as error:
                request = earlier.of_refused(element, index, request)
                if request is None:
                    raise _located(error, elements) from None
            yield msgspec.structs.replace(request, kept=elements.kept) if isinstance(elements, RowElements) else request
    try:
        texts.check()
    except InvalidMessageError:
        if request is None or not earlier.was_sent(request):
            raise
    earlier.log_kept()


def _check_cached(mark: CacheSystem | None, elements: Any) -> None:
    """Refuse to mark a system prompt that each row changes: it would be written to the cache for every row.

    :raises InputError: it names a column.
    """
    if mark is None or not isinstance(elements, RowElements) or (column := elements.system_column()) is None:
        return
    raise InputError(
        f"cache_system=True, but system has the column {short_name(column)!r}: rows have prompts of their own.",
        NOTHING_SENT,
        "Move the column into prompt, or leave cache_system out.",
    )


def _located(error: InvalidMessageError, source: Any) -> InvalidMessageError:
    """Add the line of a file, or the place of a source row. Its number differs from the index: lines are skipped."""
    if isinstance(source, RowElements):
        return source.broken_text() or name_source_row(error, source.place)
    if not isinstance(source, MessageFile):
        return error
    located = InvalidMessageError(f"{source.place}: {error}")
    located.rule = error.rule
    return located


def _defaults(options: SubmissionOptions, hook: Hook) -> Defaults:
    values = values_in_force(options, hook)
    return Defaults(
        model=values.model.value,
        max_tokens=values.max_tokens.value,
        system=values.system,
        params=values.request_params,
        output_format=values.output_format,
        api_version=hook.get_config().api_version,
    )


def _earlier_defaults(options: SubmissionOptions, hook: Hook, defaults: Defaults) -> Defaults:
    """Return what earlier versions put into every request."""
    system = unwrap(options.system)
    if options.cache_system and system is not None:
        blocks = [{"type": "text", "text": system}] if isinstance(system, str) else list(system)
        system = [*blocks[:-1], {**blocks[-1], "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    return replace(
        defaults,
        model=options.model or hook.get_default_model(),
        max_tokens=int_of_digits(int(DEFAULT_MAX_TOKENS) if options.max_tokens is None else options.max_tokens),
        system=system,
    )
