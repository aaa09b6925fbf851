"""Reading the operator's ``messages``, wherever they come from, as requests."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from airflow_claude_batch._airflow.compat import ObjectStoragePath
from airflow_claude_batch._airflow.rendering import unwrap
from airflow_claude_batch._airflow.results_folder import object_path
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.input.checks import RequestChecker
from airflow_claude_batch.batch.input.elements import Defaults, Request, read_request
from airflow_claude_batch.batch.input.output_schema import OutputSchema, read_schema
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.exceptions import InputError, InvalidMessageError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.options import SubmissionOptions
    from airflow_claude_batch._airflow.task_run import Hook
    from airflow_claude_batch.batch.money.pricing import PriceTable


def write_input(options: SubmissionOptions, hook: Hook, prices: PriceTable, file: IO[bytes]) -> int:
    """Write the task's requests to a file, one by one, and answer how many there are.

    :raises InputError: names the element and the remedy.
    """
    return write_requests(_requests(options, hook, prices), file, deduplicate=options.deduplicate)


def output_schema(options: SubmissionOptions) -> OutputSchema | None:
    """What the task's answers must satisfy.

    :raises OutputSchemaError: it is not what the API takes.
    """
    return None if options.output_schema is None else read_schema(options.output_schema)


def _requests(options: SubmissionOptions, hook: Hook, prices: PriceTable) -> Iterator[Request]:
    config = hook.get_config()
    checker = RequestChecker(prices, api_version=config.api_version, betas=config.betas)
    defaults = Defaults(
        model=options.model or hook.get_default_model(),
        max_tokens=_whole_number(options.max_tokens),
        system=_cached(unwrap(options.system)) if options.cache_system else unwrap(options.system),
        params=_params(options.request_params),
        output_format=schema.format if (schema := output_schema(options)) else None,
    )
    source = iter(elements(unwrap(options.messages)))
    for index, element in enumerate(source):
        try:
            request = read_request(element, index, defaults)
            checker.check(request)
        except InvalidMessageError as error:
            if isinstance(source, _Lines):  # blank lines count there, and not as elements
                raise InvalidMessageError(f"line {source.number} of {source.uri}: {error}") from error
            raise
        yield request


def _params(params: Any) -> Mapping[str, Any]:
    if not isinstance(params or {}, Mapping):
        raise InputError(
            f"request_params is a {type(params).__name__}. Give a mapping; a template that makes one needs a DAG with "
            "render_template_as_native_obj=True."
        )
    return params or {}


def _cached(system: Any) -> list[Any]:
    """The system prompt with a mark behind it: what stands before is written to the prompt cache and read from there.

    :raises InputError: there is none.
    """
    if not system:
        raise InputError("cache_system=True needs a system prompt to mark: give system.")
    blocks: list[Any] = [{"type": "text", "text": system}] if isinstance(system, str) else list(system)
    if not all(isinstance(block, Mapping) for block in blocks):
        raise InputError("system must be a string or a list of content blocks.")
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    return [*blocks[:-1], {**blocks[-1], **mark}]


def _whole_number(value: Any) -> Any:
    """A template gives digits."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


def elements(messages: Any) -> Iterable[Any]:
    """The elements of ``messages``: of a list or any other iterable, or of a file.

    :raises InputError: it is neither.
    """
    if isinstance(messages, str | ObjectStoragePath | Path):
        return _Lines(str(messages))
    if isinstance(messages, Mapping | bytes) or not isinstance(messages, Iterable):
        found = f"of type {type(messages).__name__}"
        if messages is None:
            found = "None: the task or template that it comes from has given nothing"
        raise InputError(
            f"messages is {found}. Give a list of elements (of one, for a single one), or the path of a .jsonl file."
        )
    return messages


class _Lines(Iterator[Any]):
    """The elements of a ``.jsonl`` or ``.jsonl.gz`` file, one a line; ``number`` is that of the last one read."""

    def __init__(self, uri: str) -> None:
        if not uri.endswith((".jsonl", ".jsonl.gz")):
            raise InputError(
                "messages is a string that is not the path of a .jsonl or .jsonl.gz file. For a single prompt give a "
                "list of one; a template must give a list."
            )
        self.uri = uri
        self.number = 0
        self._elements = self._read()

    def __next__(self) -> Any:
        return next(self._elements)

    def _read(self) -> Iterator[Any]:
        uri, path = self.uri, object_path(self.uri)
        try:
            with storage.buffered(path.fs.open(path.path, "rb")) as raw:
                for self.number, line in enumerate(gzip.GzipFile(fileobj=raw) if uri.endswith(".gz") else raw, 1):
                    if line.strip():
                        yield msgspec.json.decode(line)
        except FileNotFoundError as error:
            raise InputError(f"messages: there is no file {uri}.") from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(
                f"messages: {uri} breaks off after line {self.number}: {error}. Write it again, whole."
            ) from error
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidMessageError(
                f"messages: line {self.number} of {uri} is not JSON ({type(error).__name__})."
            ) from None
