"""A file of rows: its name says its format, and every error of its storage says which file could not be read."""

from __future__ import annotations

import errno
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.input.file_format import GZIP_ERRORS, cut_gzip_error
from airflow_claude_batch.batch.input.rows.columns import shown_path
from airflow_claude_batch.exceptions import NOTHING_SENT, ClaudeBatchError, ConfigurationError, InputError, SourceError

_SUFFIX: Final = re.compile(
    r".*\.(?:(?P<packed>csv|tsv|jsonl|ndjson)(?:\.gz)?|(?P<whole>parquet))", re.IGNORECASE | re.DOTALL
)
PARQUET: Final = "Parquet"
CSV: Final = "CSV"
JSON_LINES: Final = "JSON lines"
_FORMATS: Final = {"parquet": PARQUET, "csv": CSV, "tsv": CSV, "jsonl": JSON_LINES, "ndjson": JSON_LINES}
SUFFIXES: Final = ".parquet, .csv, .tsv, .jsonl and .ndjson, and .gz after the last four"


@dataclass(frozen=True, slots=True)
class RowFile:
    """A file of rows.

    :param uri: its path or URI, for errors.
    :param open: opens it for reading.
    """

    uri: str
    open: Callable[[], Any]

    @contextmanager
    def opened(self) -> Iterator[io.RawIOBase]:
        """Open the file until the end of the block.

        :raises InputError: there is no such file.
        :raises ConfigurationError: this worker may not read it.
        :raises SourceError: it could not be read now.
        """
        try:
            file = self.open()
        except Exception as error:  # stores' libraries have errors of their own
            raise storage_error(self.uri, error) from error
        with _GuardedFile(file, self.uri) as guarded:
            yield guarded


def suffix_of(name: str) -> str:
    """Return the format that a name ends in: ``csv`` for ``a.CSV.gz``. Empty if no rows can be in such a file."""
    found = _SUFFIX.fullmatch(name)
    return (found["packed"] or found["whole"]).lower() if found else ""


def format_of(name: str) -> str:
    """Return the format of a file by its name: Parquet, CSV or JSON lines. Empty if no rows can be in it."""
    return _FORMATS.get(suffix_of(name), "")


class _GuardedFile(storage.RawFile):
    """File whose storage raises errors that name it, whatever library reads it and whatever reads from it."""

    def __init__(self, file: Any, uri: str) -> None:
        super().__init__(file)
        self._uri = uri

    def readinto(self, buffer: Any) -> int:
        try:
            return super().readinto(buffer)
        except Exception as error:  # stores' libraries have errors of their own
            raise storage_error(self._uri, error) from error

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except Exception as error:  # same
            raise storage_error(self._uri, error) from error


def storage_error(uri: str, error: Exception) -> ClaudeBatchError:
    """Build the error about a file or folder that its storage did not give."""
    if isinstance(error, ClaudeBatchError):
        return error
    if isinstance(error, FileNotFoundError | NotADirectoryError) or getattr(error, "errno", 0) == errno.ENAMETOOLONG:
        return InputError(
            f"rows: there is no file {shown_path(uri)}.",
            NOTHING_SENT,
            "Check the path, that the task before has written it, and that this worker reaches its storage.",
        )
    if isinstance(error, PermissionError):
        return ConfigurationError(
            f"rows: this worker may not read {shown_path(uri)}.",
            NOTHING_SENT,
            "Let its user, or the connection that the URI names, list and read the files.",
        )
    return SourceError(
        f"rows: {shown_path(uri)} could not be read: {type(error).__name__:.30}.",
        f"{NOTHING_SENT} The storage's own error is the cause above.",
        "A retry reads all rows again. If it fails too, check that this worker reaches the storage.",
    )


@contextmanager
def text_errors(uri: str, line_number: Callable[[], int]) -> Iterator[None]:
    """Raise the errors of text in the block as errors about the file.

    :param line_number: returns the last line that was read.
    :raises InputError: its gzip data is cut or damaged, or it is not in UTF-8.
    """
    try:
        yield
    except GZIP_ERRORS as error:
        raise cut_gzip_error("rows", shown_path(uri), line_number()) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"rows: line {line_number() + 1} of {shown_path(uri)} is not {error.encoding.upper()}.",
            NOTHING_SENT,
            "Write the file as UTF-8. One from Windows or Excel: iconv -f WINDOWS-1252 -t UTF-8 old > new",
        ) from None
