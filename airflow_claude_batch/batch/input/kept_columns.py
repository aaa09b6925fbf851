"""Columns of the source rows that go into the landed rows as ``input``. They lie beside ``requests.jsonl``.

``kept-<digest>.index`` is an :mod:`~airflow_claude_batch.batch.index_file` of the kind ``kept columns``, version 1. Its
name has the beginning of the digest of the requests that it belongs to: two tasks never mix the columns of one input
with the requests of another. Each request has a row with one column, ``columns``: its kept columns as a JSON object.
The content of the description is :class:`KeptContent`. The file stays, so that rows can be landed again without the
source.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

import msgspec

from airflow_claude_batch.batch.index_file import Block, DamagedIndexError, IndexFile, IndexWriter
from airflow_claude_batch.batch.input.request_lines import damaged_file, unreadable_requests
from airflow_claude_batch.batch.storage import BUFFER_BYTES, Folder, LocalFolder

_KIND: Final = "kept columns"
_VERSION: Final = 1
#: Small blocks: a row may have a million bytes.
_BLOCK_ROWS: Final = 128
_PREFIX: Final = "kept-"
_SUFFIX: Final = ".index"
#: Most bytes of the kept columns of one row.
MOST_KEPT_BYTES: Final = 1 << 20
_NOT_PUBLISHED: Final = "kept.index"


class KeptContent(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says about all rows.

    :ivar types: the kept columns, in order, and what their values are: ``text``, ``integer``, ``timestamp`` …
    :ivar digest: identifies all values.
    """

    types: dict[str, str]
    digest: str


class KeptColumnsWriter:
    """Writes the kept columns while the requests are written. There is a file only if a request has some.

    Example::

        kept = KeptColumnsWriter(scratch)
        kept.add(b'{"title":"Printer on fire"}')
        kept.types = {"title": "text"}
        kept.finish()
    """

    def __init__(self, directory: Path) -> None:
        self.types: Mapping[str, str] = {}
        self._path = directory / _NOT_PUBLISHED
        self._path.unlink(missing_ok=True)
        self._file: IO[bytes] | None = None
        self._rows: IndexWriter | None = None
        self._digest = hashlib.sha256()

    def add(self, columns: bytes) -> None:
        """Add the kept columns of the next request, as a JSON object."""
        if self._rows is None:
            self._file = self._path.open("wb", buffering=BUFFER_BYTES)
            self._rows = IndexWriter(self._file, _KIND, _VERSION, {"columns": "bytes"}, block_rows=_BLOCK_ROWS)
        self._rows.add(columns)
        self._digest.update(columns + b"\n")

    def finish(self) -> None:
        """Write the rest, and close the file."""
        if self._rows is not None and self._file is not None:
            self._digest.update(msgspec.json.encode(self.types))
            self._rows.finish(KeptContent(types=dict(self.types), digest=self._digest.hexdigest()))
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class KeptColumns:
    """The kept columns of a submission. It holds one block in memory.

    Example::

        kept = KeptColumns.open(folder, requests.index.content.digest)
        kept.types, kept.of(17)

    :raises ResultsError: from every method: the storage cannot be read now.
    :raises SubmissionRecordError: from every method: the file is damaged.
    """

    def __init__(self, index: IndexFile, folder: Folder) -> None:
        self._index, self._folder = index, folder
        content = index.content(KeptContent)
        self.types: Mapping[str, str] = content.types
        self.digest = content.digest
        self._last_read: tuple[int, Block] | None = None

    @classmethod
    def written(cls, directory: Path) -> KeptColumns | None:
        """Open the file that was just written to a directory. None if nothing is kept."""
        index = IndexFile.open(LocalFolder(directory), _NOT_PUBLISHED, _KIND, _VERSION)
        return None if index is None else cls(index, LocalFolder(directory))

    @classmethod
    def open(cls, folder: Folder, requests_digest: str) -> KeptColumns | None:
        """Open the columns beside these requests. None if there are none.

        :raises OSError: the storage cannot be read.
        :raises SubmissionRecordError: the file is damaged.
        """
        name = _name(requests_digest)
        if (size := folder.size(name)) is None:
            return None
        index = IndexFile.open(folder, name, _KIND, _VERSION, size=size)
        if index is None:
            raise damaged_file(f"{folder.uri(name)}, the kept columns, is damaged.")
        return cls(index, folder)

    @classmethod
    def types_of(cls, folder: Folder) -> Mapping[str, str]:
        """Return the types of the kept columns in a submission's folder, by name. Empty if there are none.

        :raises OSError: the storage cannot be read.
        :raises SubmissionRecordError: the file is damaged.
        """
        for name in folder.names():
            if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
                kept = cls.open(folder, name.removeprefix(_PREFIX).removesuffix(_SUFFIX))
                return {} if kept is None else kept.types
        return {}

    def __len__(self) -> int:
        return self._index.count

    def of(self, index: int) -> bytes:
        """Return the kept columns of a request as a JSON object. Fast if requests are asked for in order."""
        number, row = divmod(index, _BLOCK_ROWS)
        return self._block(number).value("columns", row)

    def publish(self, folder: Folder, requests_digest: str) -> None:
        """Copy the file to the submission's folder.

        :raises OSError: the storage refuses.
        """
        source = self._folder.open(self._index.name)
        assert source is not None, "it was opened before"  # noqa: S101
        with source, folder.replace_file(_name(requests_digest)) as file:
            shutil.copyfileobj(source, file, 1 << 20)

    def _block(self, number: int) -> Block:
        if self._last_read is not None and self._last_read[0] == number:
            return self._last_read[1]
        try:
            block = self._index.block(number)
        except DamagedIndexError as error:
            raise damaged_file(f"The kept columns are damaged: {error}.") from error
        except OSError as error:
            raise unreadable_requests(self._folder.uri(self._index.name), error) from error
        self._last_read = number, block
        return block


def input_digest(requests_digest: str, kept: KeptColumns | None) -> str:
    """Return what identifies a whole input: its requests, and what is kept beside them."""
    if kept is None:
        return requests_digest
    return hashlib.sha256(f"{requests_digest} {kept.digest}".encode()).hexdigest()


def remove_other_columns(folder: Folder, requests_digest: str | None) -> None:
    """Remove kept columns of other requests.

    :param requests_digest: whose columns stay. None if there are none.
    :raises OSError: the storage refuses.
    """
    stays = None if requests_digest is None else _name(requests_digest)
    for name in folder.names():
        if name.startswith(_PREFIX) and name.endswith(_SUFFIX) and name != stays:
            folder.remove(name)


def _name(requests_digest: str) -> str:
    return f"{_PREFIX}{requests_digest[:16]}{_SUFFIX}"
