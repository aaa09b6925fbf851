"""Reads a submission's requests, by index. ``request_writer`` writes them.

``request_lines`` has the format of ``requests.jsonl``, and ``request_index`` that of the index beside it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Final

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.input.custom_id import HASH_CHARACTERS, TOKEN_CHARACTERS, make_custom_id
from airflow_claude_batch.batch.input.element_errors import MESSAGES
from airflow_claude_batch.batch.input.kept_columns import KeptColumns, input_digest
from airflow_claude_batch.batch.input.request_index import LEAST_INDEXED_BYTES, RequestIndex
from airflow_claude_batch.batch.input.request_lines import (
    REQUESTS_FILE,
    LocalLines,
    RemoteLines,
    damaged_line,
)
from airflow_claude_batch.batch.input.request_scan import check_content, scan_requests

_ITEM_BYTES: Final = len('{"custom_id":"--","params":},') + TOKEN_CHARACTERS + HASH_CHARACTERS
#: Most bytes of one read while requests are verified. From an object store it takes about as long as ten small reads.
_MAX_RUN_BYTES: Final = 4 * 1024 * 1024
#: Requests that are further apart are not read together.
_MAX_GAP_BYTES: Final = 256 * 1024


class _Model(msgspec.Struct):
    model: str


class _MaxTokens(msgspec.Struct):
    max_tokens: int


class _OutputConfig(msgspec.Struct):
    output_config: msgspec.Raw = msgspec.Raw(b"null")


class RequestFile:
    """The requests of a submission, by index. It holds an open file: close it, or use it as a context manager.

    Only an index of the file is held in memory: about 32 bytes a request, whatever the size of the prompts.

    >>> with RequestFile(folder / "requests.jsonl") as requests:
    ...     len(requests), requests.key(0), requests.model(0)
    (2, b'"row-1"', 'claude-haiku-5-5')

    ``digest`` identifies the whole input: its keys, contents, order and kept columns. ``duplicates`` maps each request
    that is not sent to the equal one whose answer serves both.

    :param lines: a path, or where the bytes come from.
    :param index: the index of the requests. Without one, all of them are read.
    :param kept: the columns of the source rows that the landed rows carry.
    :param verify: compare the params of each request with its hash: at once without an index, else before they are
        used. Do so with a file that was written earlier: changed params would be sent, and paid for, under the
        custom_id of the original ones.
    :raises SubmissionRecordError: a line is damaged; names it. With an index, from all methods that read params.
    :raises ResultsError: from all methods: the storage cannot be read now.
    """

    def __init__(
        self,
        lines: Path | LocalLines,
        *,
        verify: bool = True,
        index: RequestIndex | None = None,
        kept: KeptColumns | None = None,
    ) -> None:
        self._lines = LocalLines.open(lines) if isinstance(lines, Path) else lines
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._raised_max_tokens: dict[int, int] = {}
        try:
            self.index = self._scan(verify=verify) if index is None else index
        except BaseException:
            self.close()
            raise
        self.kept = kept
        #: What gave the elements, for errors: ``messages`` or ``rows``.
        self.argument = MESSAGES
        self._count = len(self.index)
        self.duplicates = self.index.duplicates
        #: A byte for each request: 1 if its params are verified. None if all of them are.
        self._verified = bytearray(len(self.index)) if verify and index is not None else None
        self._last_verified = -1

    def _scan(self, *, verify: bool) -> RequestIndex:
        self._scratch = tempfile.TemporaryDirectory(prefix="claude-batch-")
        return scan_requests(self._lines.file, Path(self._scratch.name), verify=verify)

    @property
    def digest(self) -> str:
        return input_digest(self.index.content.digest, self.kept)

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> RequestFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._lines.close()
        if self._scratch is not None:
            self._scratch.cleanup()

    def hash(self, index: int) -> bytes:
        """Return the content hash of a request."""
        block, row = self.index.place(index)
        return block.hashes[row * HASH_CHARACTERS : (row + 1) * HASH_CHARACTERS]

    def has_hash(self, index: int, hash_: bytes) -> bool:
        """Return whether there is such a request, and it has this content hash."""
        if index >= self._count:
            return False
        block, row = self.index.place(index)
        return block.hashes.startswith(hash_, row * HASH_CHARACTERS)

    def key(self, index: int) -> bytes:
        """Return the user's key as JSON."""
        return self.index.key(index)

    def keys(self) -> Iterator[bytes]:
        """Iterate over all keys as JSON, in order."""
        return self.index.keys()

    def params(self, index: int) -> bytes:
        """Return the params of a request as they are sent."""
        params = self._written_params(index)
        if index not in self._raised_max_tokens:
            return params
        raised = {**json.loads(params), "max_tokens": self._raised_max_tokens[index]}
        return json.dumps(raised, ensure_ascii=False, separators=(",", ":")).encode()

    def written_params(self, index: int) -> bytes:
        """Return the params of a request as the author gave them, whatever ``max_tokens`` they are sent with."""
        return self._written_params(index)

    def params_size(self, index: int) -> int:
        """Return the number of bytes of :meth:`params`."""
        if index in self._raised_max_tokens:
            return len(self.params(index))
        block, row = self.index.place(index)
        return block.lengths[row]

    def model(self, index: int) -> str:
        """Return the model that a request names. A duplicate names that of its original."""
        index = self.duplicates.get(index, index)
        block, row = self.index.place(index)
        if number := block.models[row]:
            return self.index.content.models[number - 1]
        return msgspec.json.decode(self._written_params(index), type=_Model).model

    def output_config(self, index: int) -> bytes:
        """Return the ``output_config`` of a request as JSON, ``null`` if it has none.

        A duplicate has that of its original.
        """
        index = self.duplicates.get(index, index)
        block, row = self.index.place(index)
        if number := block.configs[row]:
            return self._output_configs[number - 1]
        return bytes(msgspec.json.decode(self._written_params(index), type=_OutputConfig).output_config)

    @property
    def asks_for_cache(self) -> bool:
        """Whether one of the first requests asks for the prompt cache."""
        return self.index.content.asks_for_cache

    def max_tokens(self, index: int) -> int:
        """Return the ``max_tokens`` that the author gave."""
        return msgspec.json.decode(self._written_params(index), type=_MaxTokens).max_tokens

    def raise_max_tokens(self, index: int, max_tokens: int) -> None:
        """Send the request with a higher ``max_tokens`` from now on. Its hash and custom_id do not change."""
        self._raised_max_tokens[index] = max_tokens

    def custom_id(self, index: int, token: str) -> str:
        """Return the custom_id under which the part with this token sends the request."""
        return make_custom_id(token, index, self.hash(index))

    def wire_size(self, index: int) -> int:
        """Return the number of bytes of the request in the body of a create call, the comma included."""
        return self.params_size(index) + _ITEM_BYTES + len(str(index))

    def without_duplicates(self, marks: bytes | bytearray) -> bytes:
        """Set the bytes of duplicates to 0, in one byte for each request."""
        if not self.duplicates:
            return bytes(marks)
        kept = int.from_bytes(marks, "little") & self._sent_mask
        return kept.to_bytes(len(marks), "little")

    def verify(self, indices: Iterable[int]) -> None:
        """Read and verify the params of some requests, in ascending order, if that was not done yet.

        Do so before they are sent. Then nothing that may be damaged or out of reach stops an upload in the middle.
        """
        if self._verified is None:
            return
        for first, last in self._runs(index for index in indices if not self._verified[index]):
            self._verify(first, last)

    def _runs(self, indices: Iterable[int]) -> Iterator[tuple[int, int]]:
        """Join requests that are near each other to runs of a few MB."""
        first = last = -1
        start = end = 0
        for index in indices:
            next_start, next_end = self._extent(index)
            if first < 0 or next_start - end > _MAX_GAP_BYTES or next_end - start > _MAX_RUN_BYTES:
                if first >= 0:
                    yield first, last
                first, start = index, next_start
            last, end = index, next_end
        if first >= 0:
            yield first, last

    def _verify(self, first: int, last: int) -> None:
        """Read the params of all requests from ``first`` to ``last``, and compare them with their hashes."""
        assert self._verified is not None  # noqa: S101
        start = self._extent(first)[0]
        data = memoryview(self._lines.fetch(start, self._extent(last)[1]))
        for index in range(first, last + 1):
            if index not in self.duplicates:
                begin, end = self._extent(index)
                try:
                    check_content(bytes(data[begin - start : end - start]), self.hash(index))
                except ValueError as error:
                    raise damaged_line(index + 1, error) from error
            self._verified[index] = 1
        self._last_verified = last

    def _extent(self, index: int) -> tuple[int, int]:
        """Return where the params of a request begin and end."""
        block, row = self.index.place(index)
        end = block.params_end(row)
        return end - block.lengths[row], end

    def _written_params(self, index: int) -> bytes:
        if self._verified is not None and not self._verified[index]:
            self._verify(index, self._last_ahead(index))
        start, end = self._extent(index)
        return self._lines.read(start, end - start)

    def _last_ahead(self, index: int) -> int:
        """Return the last request to read together with this one: more than one while they are read in order."""
        if index != self._last_verified + 1:
            return index
        ahead = self._runs(range(index, len(self)))
        return next(ahead)[1]

    @cached_property
    def _sent_mask(self) -> int:
        """A byte for each request, as one number: 0 for a duplicate, else 255."""
        mask = bytearray(b"\xff" * len(self))
        for index in self.duplicates:
            mask[index] = 0
        return int.from_bytes(mask, "little")

    @cached_property
    def _output_configs(self) -> list[bytes]:
        return [bytes(config) for config in self.index.content.output_configs]


def open_requests(
    folder: storage.Folder, scratch: Path, *, digest: str | None = None, verify: bool = True
) -> RequestFile | None:
    """Open the requests of a submission by the index that lies beside them. Read all of them if there is none.

    :param scratch: directory for a local copy of what is read from an object store.
    :param digest: what the ledger knows of the requests. An index of others is not used.
    :param verify: see :class:`RequestFile`.
    :return: None if there is no file of requests.
    :raises OSError: the storage cannot be read.
    :raises SubmissionRecordError: a line is damaged; names it.
    """
    if (size := folder.size(REQUESTS_FILE)) is None:
        return None
    index = RequestIndex.open(folder) if size > LEAST_INDEXED_BYTES else None
    if index is not None and index.content.size == size:
        kept = KeptColumns.open(folder, index.content.digest)
        if digest in (None, input_digest(index.content.digest, kept)):
            if isinstance(folder, storage.LocalFolder):
                return RequestFile(folder.path / REQUESTS_FILE, verify=verify, index=index, kept=kept)
            return RequestFile(RemoteLines(folder, scratch), index=index, kept=kept)
    path = storage.local_copy(folder, REQUESTS_FILE, scratch)
    if path is None:
        return None
    requests = RequestFile(path, verify=verify)
    try:
        requests.kept = KeptColumns.open(folder, requests.index.content.digest)
    except BaseException:
        requests.close()
        raise
    return requests
