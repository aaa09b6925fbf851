"""Read the operator's ``messages`` as requests: from a list or another iterable, or from a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from airflow_claude_batch._airflow import settings
from airflow_claude_batch._airflow.cache_system import CacheSystem
from airflow_claude_batch._airflow.compat import ObjectStoragePath
from airflow_claude_batch._airflow.rendering import unwrap
from airflow_claude_batch._airflow.results_folder import object_path
from airflow_claude_batch._airflow.values_in_force import values_in_force
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.input.checks import RequestChecker
from airflow_claude_batch.batch.input.containers import check_container, elements_of_text
from airflow_claude_batch.batch.input.elements import Defaults, Request, read_request
from airflow_claude_batch.batch.input.file_format import check_path
from airflow_claude_batch.batch.input.message_file import MessageFile
from airflow_claude_batch.batch.input.output_schema import OutputSchema, read_schema
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.input.wrong_texts import TextCheck
from airflow_claude_batch.exceptions import InvalidMessageError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.options import SubmissionOptions
    from airflow_claude_batch._airflow.task_run import Hook
    from airflow_claude_batch.batch.money.pricing import PriceTable

NOTHING_SENT: Final = "Nothing was sent."


def write_input(options: SubmissionOptions, hook: Hook, prices: PriceTable, file: IO[bytes]) -> int:
    """Write the task's requests to a file, one by one, and return their number.

    :raises InputError: an element cannot be sent; names it and the remedy.
    """
    max_bytes, _ = settings.batch_limits(hook.get_config())
    return write_requests(
        _requests(options, hook, prices),
        file,
        deduplicate=options.deduplicate,
        max_bytes=max_bytes,
        may_be_empty=options.on_empty == "succeed",
    )


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


def _requests(options: SubmissionOptions, hook: Hook, prices: PriceTable) -> Iterator[Request]:
    config = hook.get_config()
    checker = RequestChecker(
        prices, api_version=config.api_version, betas=config.betas, allow_unknown=config.allow_unknown_parameters
    )
    defaults = _defaults(options, hook)
    mark = CacheSystem(defaults.system) if options.cache_system else None
    source = iter(iter_elements(unwrap(options.messages)))
    texts = TextCheck()
    for index, element in enumerate(source):
        texts.see(element)
        try:
            request = read_request(element, index, defaults)
            request = mark.put_on(request) if mark else request
            checker.check(request)
        except InvalidMessageError as error:
            if isinstance(source, MessageFile):  # its line numbers differ from the index: blank lines are skipped
                located = InvalidMessageError(f"{source.place}: {error}")
                located.rule = error.rule
                raise located from None
            raise
        yield request
    texts.check()


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
