"""Recognises what a file is, by its name and its first bytes, and opens it as lines of UTF-8."""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from typing import IO, Final, Protocol

from airflow_claude_batch.exceptions import NOTHING_SENT, InputError

#: The longest path that an error shows whole.
SHOWN_CHARACTERS: Final = 45
_TAKEN: Final = re.compile(r".*\.(jsonl|ndjson|json)(\.gz)?", re.IGNORECASE | re.DOTALL)
_PATH: Final = re.compile(r"[\w+.-]+://|/|~/|\.{1,2}/")
_LOST_SLASH: Final = re.compile(r"[a-z][a-z0-9+.-]+:/[^/]", re.IGNORECASE)
_GLOB: Final = re.compile(r"[*?]|\[[^\]]+\]")
_MAP_OVER_PATHS: Final = (
    "List the files in a task, and map over their paths: SendMessageBatchOperator.partial(…).expand(messages=paths)."
)
_FROM_A_FUNCTION: Final = "Yield the elements from a function (@task.claude_batch), with {}."
_READERS: Final = {
    "csv": "csv.DictReader(file)",
    "tsv": 'csv.DictReader(file, delimiter="\\t")',
    "parquet": "pyarrow: batch.to_pylist() for each batch of ParquetFile(path).iter_batches()",
    "txt": "yield line.strip() for each line of the file, if each line is a prompt",
    "xlsx": 'pandas: read_excel(path).to_dict("records")',
    "avro": "fastavro: fastavro.reader(file)",
    "orc": 'pandas: read_orc(path).to_dict("records")',
}
_OTHER_FILES: Final = ("md", "pdf", "docx", "xml", "html", "yaml", "yml", "zip", "zst", "bz2", "xz", "log", "feather")
#: First bytes of files that are not text, and what they are.
_SIGNATURES: Final = (
    (b"PAR1", "a Parquet file", _READERS["parquet"]),
    (b"PK\x03\x04", "a zip or Excel file", _READERS["xlsx"]),
    (b"Obj\x01", "an Avro file", _READERS["avro"]),
    (b"ORC", "an ORC file", _READERS["orc"]),
    (b"ARROW1", "an Arrow file", "pyarrow"),
    (b"BZh", "compressed with bzip2", "bz2.open(path)"),
    (b"\xfd7zXZ", "compressed with xz", "lzma.open(path)"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "the zstandard package, or write it with gzip"),
    (b"%PDF", "a PDF file", "the PDF as a document block"),
    (b"SQLite format 3", "a SQLite database", "sqlite3"),
)
_GZIP: Final = b"\x1f\x8b"
#: Byte order marks, UTF-32 first: its mark begins with the bytes of the UTF-16 mark.
_MARKS: Final = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
UTF8_MARK: Final = b"\xef\xbb\xbf"
#: What reading a cut or damaged gzip file raises.
GZIP_ERRORS: Final = (EOFError, gzip.BadGzipFile, zlib.error)


class Lines(Protocol):
    """Lines of UTF-8, each ending with a line feed; the last one need not."""

    def readline(self, size: int = -1, /) -> bytes: ...


def check_path(path: str) -> None:
    """Check by its name that a path is one of a file of elements.

    :raises InputError: it is a folder, a pattern, a file of another format, or no path.
    """
    if not path:
        raise InputError(
            "messages is an empty text.", NOTHING_SENT, "Check the template or the task that gives it: it gave nothing."
        )
    is_path = shown_path(path) is not None
    if is_path and _LOST_SLASH.match(path):
        raise InputError(
            f"messages: {shown_path(path)} has lost a slash: pathlib.Path takes the two of a URI for one.",
            NOTHING_SENT,
            "Give the URI as a string, or as airflow.sdk.ObjectStoragePath.",
        )
    if is_path and _GLOB.search(path) and not os.path.lexists(path):
        raise InputError(
            f"messages must be the path of one file, not a pattern: {shown_path(path)}.",
            NOTHING_SENT,
            _MAP_OVER_PATHS,
        )
    if "\n" in path or "\0" in path:
        raise _not_a_path(path)
    if path.endswith("/") or (is_path and os.path.isdir(_local(path))):  # noqa: PTH112  # it may be no path at all
        raise folder_error(path)
    if _TAKEN.fullmatch(path):
        return
    raise _not_a_path(path)


def _not_a_path(path: str) -> InputError:
    """Build the error about a text that is no path of a file of elements."""
    is_path = shown_path(path) is not None
    extension = path.lower().removesuffix(".gz").rpartition(".")[2] if "." in path else ""
    remedy = (
        "For one prompt: messages=['…']. For a list of prompts: messages=prompts, not expand(messages=prompts). "
        "For other formats, yield the elements from a function (@task.claude_batch). A template must give a list."
    )
    if is_path and extension in _READERS:
        remedy = f"{_FROM_A_FUNCTION.format(_READERS[extension])} Or write it as JSON lines."
    elif is_path and _PATH.match(path) and extension not in _OTHER_FILES:
        remedy = "If it has an element on each line, give it a name that ends in .jsonl, .ndjson or .json."
    elif is_path and extension in _OTHER_FILES:
        remedy = f"Give its text as a prompt: messages=[{{'key': path, 'prompt': Path(path).read_text()}}]. {remedy}"
    return InputError(
        "messages must be a list or the path of a file of JSON lines, not "
        f"{'a text' if not is_path else shown_path(path)}.",
        NOTHING_SENT,
        remedy,
    )


def folder_error(path: str) -> InputError:
    """Build the error about a folder given as ``messages``."""
    return InputError(
        f"messages must be the path of a file, not of a folder: {shown_path(path) or 'a text'}.",
        NOTHING_SENT,
        _MAP_OVER_PATHS,
    )


def missing_error(path: str, location: str | None) -> InputError:
    """Build the error about a path at which there is no file.

    :param location: where it was looked for, if the path does not say that.
    """
    if not _PATH.match(path) and shown_path(path) is None:  # it may be a prompt that ends like a path
        return InputError(
            "messages is a text that ends like a path, and there is no such file.",
            NOTHING_SENT,
            "For one prompt: messages=['…']. For a file, check the path.",
        )
    return InputError(
        f"messages: there is no file {path}.",
        f"{NOTHING_SENT} This worker looked for {location}." if location else NOTHING_SENT,
        "Check the path, and that this worker reaches its storage.",
    )


def is_json_array_file(path: str) -> bool:
    """Return True if the file's name says that it is one JSON value, and not one on each line."""
    return path.lower().removesuffix(".gz").endswith(".json")


def shown_path(text: str) -> str | None:
    """Show the end of a path. None for a text that may be a prompt."""
    if not text.isascii() or not text.isprintable() or " " in text:
        return None
    return repr(text if len(text) <= SHOWN_CHARACTERS else f"…{text[-SHOWN_CHARACTERS:]}")


def _local(path: str) -> str:
    return os.path.expanduser(path.removeprefix("file://"))  # noqa: PTH111  # it may be no path at all


def open_lines(file: io.BufferedReader, uri: str) -> Lines:
    """Return the lines of a file, unpacked and in UTF-8, whatever its name says.

    Stores unpack files on the way, and tools pack them, without a change of the name.

    :raises InputError: it is not text; names the format and the remedy.
    """
    try:
        return text_lines(file)
    except NotTextError as error:
        raise InputError(
            f"messages: {uri} is {error.format}, not JSON lines.",
            NOTHING_SENT,
            f"{_FROM_A_FUNCTION.format(error.reader)} Or write it as JSON lines.",
        ) from None


class NotTextError(Exception):
    """A file is not text.

    :param format: what it is, with its article.
    :param reader: what reads it.
    """

    def __init__(self, format: str, reader: str) -> None:  # the word for it
        super().__init__(format)
        self.format = format
        self.reader = reader


def text_lines(file: io.BufferedReader) -> Lines:
    """Return the lines of a file, unpacked and in UTF-8, whatever its name says.

    :raises NotTextError: it is not text.
    """
    head = file.peek(16)[:16]
    unpacked: IO[bytes] | gzip.GzipFile = file
    if head.startswith(_GZIP):
        unpacked = gzip.GzipFile(fileobj=file)
        head = unpacked.peek(16)[:16]
    for signature, what, reader in _SIGNATURES:
        if head.startswith(signature):
            raise NotTextError(what, reader)
    if head.startswith(_GZIP):
        raise NotTextError("compressed twice", "gzip.open(gzip.open(path)), or pack it once")
    encoding = _encoding(head)
    return unpacked if encoding is None else _Recoded(unpacked, encoding)


def cut_gzip_error(argument: str, uri: str, line_number: int) -> InputError:
    """Build the error about gzip data that is cut or damaged.

    :param argument: which argument named the file.
    :param line_number: the last line that was read.
    """
    return InputError(
        f"{argument}: {uri} breaks off after line {line_number}: its gzip data is cut or damaged.",
        NOTHING_SENT,
        "Write the file again, whole.",
    )


def _encoding(head: bytes) -> str | None:
    """Return the encoding if it is not UTF-8. JSON has no NUL, and begins with an ASCII character."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if len(head) >= 2 and head[1] == 0 != head[0]:
        return "utf-16-le" if head[2:4] != b"\0\0" else "utf-32-le"
    if len(head) >= 2 and head[0] == 0 != head[1]:
        return "utf-16-be"
    return None


class _Recoded:
    """Lines of a file in another encoding, as UTF-8."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, encoding: str) -> None:
        self._text = io.TextIOWrapper(file, encoding, newline="\n")

    def readline(self, size: int = -1, /) -> bytes:
        return self._text.readline(size).encode()
