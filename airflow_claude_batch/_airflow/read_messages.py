"""Read the operator's ``messages`` as requests: from a list or another iterable, or from a file."""

from __future__ import annotations

import gzip
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec

from airflow_claude_batch._airflow import settings
from airflow_claude_batch._airflow.compat import ObjectStoragePath
from airflow_claude_batch._airflow.rendering import unwrap
from airflow_claude_batch._airflow.results_folder import object_path
from airflow_claude_batch._airflow.values_in_force import values_in_force
from airflow_claude_batch.api.limits import MAX_BATCH_BYTES
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

#: What stands before this mark is written to the prompt cache for an hour, and read from there.
CACHE_MARK: Final = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
#: The longest path that an error shows whole.
SHOWN_CHARACTERS: Final = 45
NOTHING_SENT: Final = "Nothing was sent."
#: Lines of files up to this length are read in memory.
_LONG_LINE_BYTES: Final = 4 * 1024 * 1024
#: Strings, brackets and commas in a longer line. A list takes three bytes in the file and 64 in memory.
_MOST_TOKENS: Final = 2_000_000
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{,]', re.DOTALL)


def write_input(options: SubmissionOptions, hook: Hook, prices: PriceTable, file: IO[bytes]) -> int:
    """Write the task's requests to a file, one by one, and return their number.

    :raises InputError: an element cannot be sent; names it and the remedy.
    """
    max_bytes, _ = settings.batch_limits(hook.get_config())
    return write_requests(_requests(options, hook, prices), file, deduplicate=options.deduplicate, max_bytes=max_bytes)


def output_schema(options: SubmissionOptions) -> OutputSchema | None:
    """Return the schema that the task's answers must satisfy, None if it has none.

    :raises OutputSchemaError: the API does not support it.
    """
    return None if options.output_schema is None else read_schema(options.output_schema)


def iter_elements(messages: Any) -> Iterable[Any]:
    """Return the elements of ``messages``: of a list or another iterable, or of the file at a path or URI.

    :raises InputError: it is none of these.
    """
    if isinstance(messages, str | ObjectStoragePath | Path):
        return _FileElements(str(messages))
    if isinstance(messages, Mapping | bytes) or not isinstance(messages, Iterable):
        found = f"of type {type(messages).__name__}"
        if messages is None:
            found = "None: the upstream task or template that gives it returned nothing"
        raise InputError(
            f"messages is {found}.",
            NOTHING_SENT,
            "Give a list of elements (of one, for a single one), or the path of a .jsonl file.",
        )
    return messages


def _requests(options: SubmissionOptions, hook: Hook, prices: PriceTable) -> Iterator[Request]:
    config = hook.get_config()
    checker = RequestChecker(prices, api_version=config.api_version, betas=config.betas)
    defaults = _defaults(options, hook)
    source = iter(iter_elements(unwrap(options.messages)))
    for index, element in enumerate(source):
        try:
            request = read_request(element, index, defaults)
            checker.check(request)
        except InvalidMessageError as error:
            if isinstance(source, _FileElements):  # its line numbers differ from the index: blank lines are skipped
                raise InvalidMessageError(f"line {source.line_number} of {source.uri}: {error}") from None
            raise
        yield request


def _defaults(options: SubmissionOptions, hook: Hook) -> Defaults:
    values = values_in_force(options, hook)
    return Defaults(
        model=values.model.value,
        max_tokens=values.max_tokens.value,
        system=_with_cache_mark(values.system) if options.cache_system else values.system,
        params=values.request_params,
        output_format=values.output_format,
        api_version=hook.get_config().api_version,
    )


def _with_cache_mark(system: Any) -> list[Any]:
    """Return the system prompt as blocks, with the mark of the prompt cache in the last one."""
    if not system:
        raise InputError(
            "cache_system=True needs a system prompt, and there is none.",
            NOTHING_SENT,
            "Give system, or leave cache_system out.",
        )
    blocks: list[Any] = [{"type": "text", "text": system}] if isinstance(system, str) else list(system)
    if not all(isinstance(block, Mapping) for block in blocks):
        raise InputError(
            "system has an element that is not a mapping.",
            NOTHING_SENT,
            "Give a string, or a list of content blocks such as {'type': 'text', 'text': …}.",
        )
    return [*blocks[:-1], {**blocks[-1], **CACHE_MARK}]


def _path_or_text(value: str) -> str:
    """Show the end of a path that is not one of a file of elements. A text is not shown: it may be a prompt."""
    if not value.isascii() or not value.isprintable() or " " in value:
        return "a text"
    return repr(value if len(value) <= SHOWN_CHARACTERS else f"…{value[-SHOWN_CHARACTERS:]}")


class _FileElements(Iterator[Any]):
    """The elements of a ``.jsonl`` or ``.jsonl.gz`` file, one a line.

    ``line_number`` is the number of the last line read, from 1.
    """

    def __init__(self, uri: str) -> None:
        if not uri.endswith((".jsonl", ".jsonl.gz")):
            raise InputError(
                f"messages must be a list or the path of a .jsonl or .jsonl.gz file, not {_path_or_text(uri)}.",
                NOTHING_SENT,
                "For one prompt: messages=['…']. For other formats, yield the elements from a function "
                "(@task.claude_batch). A template must give a list.",
            )
        self.uri = uri
        self.line_number = 0
        self._elements = self._read()

    def __next__(self) -> Any:
        return next(self._elements)

    def _read(self) -> Iterator[Any]:
        uri, path = self.uri, object_path(self.uri)
        try:
            with storage.buffered(path.fs.open(path.path, "rb")) as raw:
                file = gzip.GzipFile(fileobj=raw) if uri.endswith(".gz") else raw
                for line in self._lines(file):
                    self.line_number += 1
                    if line.strip():
                        yield msgspec.json.decode(line)
        except FileNotFoundError:
            raise InputError(
                f"messages: there is no file {uri}.",
                NOTHING_SENT,
                "Check the path, and that this worker reaches its storage.",
            ) from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(
                f"messages: {uri} breaks off after line {self.line_number}: {error}.",
                NOTHING_SENT,
                "Write the file again, whole.",
            ) from error
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidMessageError(
                f"messages: line {self.line_number} of {uri} is not JSON ({type(error).__name__}).",
                NOTHING_SENT,
                "Write each element as JSON on a line of its own.",
            ) from None

    def _lines(self, file: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
        for line in iter(partial(file.readline, _LONG_LINE_BYTES), b""):
            is_whole = len(line) < _LONG_LINE_BYTES or line.endswith(b"\n")
            yield line if is_whole else self._long_line(line, file)

    def _long_line(self, beginning: bytes, file: IO[bytes] | gzip.GzipFile) -> bytes:
        """Read the rest of a line by way of the disk: a small file can unpack to a line of any length.

        :raises InvalidMessageError: the line is longer than any request.
        """
        with tempfile.TemporaryFile() as line:
            part = beginning
            while part:
                line.write(part)
                if line.tell() > MAX_BATCH_BYTES:
                    raise InvalidMessageError(
                        f"messages: line {self.line_number + 1} of {self.uri} has more than {MAX_BATCH_BYTES:,} bytes.",
                        f"{NOTHING_SENT} A whole batch may have no more.",
                        "Write each element on a line of its own, and pass large documents by reference (Files API).",
                    )
                part = b"" if part.endswith(b"\n") else file.readline(_LONG_LINE_BYTES)
            line.seek(0)
            return self._of_few_values(line.read())

    def _of_few_values(self, line: bytes) -> bytes:
        """Return a long line whose values fit in memory.

        :raises InvalidMessageError: it has more values than any request.
        """
        if next(islice(_TOKEN.finditer(line), _MOST_TOKENS, None), None) is not None:
            raise InvalidMessageError(
                f"messages: line {self.line_number + 1} of {self.uri} has millions of values.",
                f"{NOTHING_SENT} They would not fit into this worker's memory, and no model reads so many.",
                "Write each element on a line of its own, and large data as text.",
            )
        return line
