"""Lines of ``requests.jsonl``, and where their bytes come from: a local file, or a range of an object in a store.

A line is ``{"hash": …, "key": …, "params": …}``. The params come last, so that an upload copies their bytes and never
decodes a prompt. A request that is not sent because it equals an earlier one (a duplicate) has ``null`` for params.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO, Final

from airflow_claude_batch.batch.input.custom_id import HASH_CHARACTERS
from airflow_claude_batch.batch.storage import Folder
from airflow_claude_batch.exceptions import ResultsError, SubmissionRecordError

REQUESTS_FILE: Final = "requests.jsonl"
#: Params of a duplicate.
NO_PARAMS: Final = b"null"
HASH_START: Final = len('{"hash":"')
#: Bytes between the key and the params, and after the params.
BEFORE_PARAMS: Final = len(',"params":')
AFTER_PARAMS: Final = len("}\n")
KEY_START: Final = len('{"hash":"","key":') + HASH_CHARACTERS
#: Bytes of a line beside its key and its params.
FRAME_BYTES: Final = KEY_START + BEFORE_PARAMS + AFTER_PARAMS
_BUFFER_BYTES: Final = 256 * 1024
#: Bytes that one read of a local file fetches while requests are read one after the other.
_READ_AHEAD_BYTES: Final = 64 * 1024


def format_line(hash_: bytes, key: bytes, params: bytes) -> bytes:
    """Return a line of the file."""
    return b'{"hash":"%b","key":%b,"params":%b}\n' % (hash_, key, params)


def damaged_line(number: int, reason: object) -> SubmissionRecordError:
    """Return the error for a line that has other bytes than those that were written. Lines count from 1."""
    return damaged_file(f"Line {number} of the submission's {REQUESTS_FILE} is damaged: {reason}.")


def damaged_file(what: str) -> SubmissionRecordError:
    """Return the error for a damaged file of the requests."""
    return SubmissionRecordError(
        what,
        "Restore the file, or clear the task that sent the requests: it writes the file again and pays for nothing "
        "twice.",
    )


class LocalLines:
    """A local file of requests. It stays the same file if another one is put in its place."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._window, self._window_start, self._last_read_end = b"", 0, 0

    @classmethod
    def open(cls, path: Path) -> LocalLines:
        """Open the file at ``path``."""
        return cls(path.open("rb", buffering=_BUFFER_BYTES))

    @property
    def file(self) -> IO[bytes]:
        """The file, to be read from its beginning."""
        return self._file

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def fetch(self, start: int, end: int) -> bytes:
        """Read many bytes, from ``start`` up to ``end``, for the first time."""
        return os.pread(self._file.fileno(), end - start, start)

    def read(self, offset: int, length: int) -> bytes:
        """Read the bytes of one request. Those that follow are read ahead."""
        # Not mapped into memory: the pages of a large file would count as ours until the system is short of them.
        start = offset - self._window_start
        if 0 <= start <= len(self._window) - length:
            self._last_read_end = offset + length
            return self._window[start : start + length]
        ahead, self._last_read_end = offset - self._last_read_end, offset + length
        if not 0 <= ahead <= _READ_AHEAD_BYTES // 4 or length > _READ_AHEAD_BYTES // 4:
            return os.pread(self._file.fileno(), length, offset)
        self._window, self._window_start = os.pread(self._file.fileno(), _READ_AHEAD_BYTES, offset), offset
        return self._window[:length]


class RemoteLines(LocalLines):
    """A file of requests in an object store. What was fetched is kept in a local file, at the same offsets.

    The rest of the local file is a hole, which takes no room on the disk.
    """

    def __init__(self, folder: Folder, scratch: Path) -> None:
        super().__init__(tempfile.TemporaryFile(dir=scratch))  # noqa: SIM115 - close() closes it
        self._folder = folder

    def fetch(self, start: int, end: int) -> bytes:
        """Read a range from the store, and keep it. Only what was fetched can be read.

        :raises ResultsError: the storage cannot be read now, or the file is gone.
        """
        try:
            data = self._folder.read_range(REQUESTS_FILE, start, end)
        except OSError as error:
            raise unreadable_requests(self._folder.uri(REQUESTS_FILE), error) from error
        if data is None:
            raise unreadable_requests(self._folder.uri(REQUESTS_FILE), "it does not exist any more")
        os.pwrite(self._file.fileno(), data, start)
        self._window = b""  # it may have bytes of the hole
        return data


def unreadable_requests(uri: str, reason: object) -> ResultsError:
    """Return the error for a file of the requests that cannot be read now. The task waits, and tries again."""
    return ResultsError(
        f"{uri} cannot be read ({reason}).",
        "Nothing is sent without it. What was sent before is in the ledger, and is not sent again.",
        "The task tries again. Look at the storage if this lasts.",
    )
