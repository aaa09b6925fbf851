"""Reads one file as a content block: an image or a PDF, in base64.

What a file is follows from its bytes. Names and content types of stores are often wrong.
"""

from __future__ import annotations

import binascii
import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from airflow_claude_batch.batch.input.preflight.known_fields import IMAGE_TYPES
from airflow_claude_batch.batch.input.preflight.media import LARGEST_IMAGE, MOST_IMAGES
from airflow_claude_batch.batch.input.rows.file_uris import RowFileError, shown_uri
from airflow_claude_batch.batch.media_formats import HEAD_BYTES, format_of, pdf_pages
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import ClaudeBatchError

#: Bytes of a request with PDF files, in base64; build-with-claude/pdf-support, 2026-10-10.
LARGEST_REQUEST: Final = 32 * 1024 * 1024
#: Bytes of a file that has as many in base64 as a request may have.
LARGEST_FILE: Final = LARGEST_REQUEST // 4 * 3
#: Pages of the PDF files of a request. Models with a window of 200,000 tokens take 100; same page.
MOST_PAGES: Final = MOST_IMAGES
_PIECE: Final = 3 * 256 * 1024
_PDF: Final = "application/pdf"
_CONVERT: Final = "Convert it to PDF, JPEG, PNG, GIF or WebP."
_AS_TEXT: Final = "Put its text into a column, and the column into prompt=. Files are images and PDFs."
_OTHERS: Final = (
    (
        re.compile(rb"\s*(<!doctype html|<html|<head|<!--)", re.IGNORECASE),
        "an HTML page",
        "A download may have failed.",
    ),
    (re.compile(rb"\s*<\?xml.{0,200}<Error>", re.DOTALL), "a store's error message", "A download has failed."),
    (re.compile(rb"PK\x03\x04.*word/", re.DOTALL), "a Word document", _CONVERT),
    (re.compile(rb"PK\x03\x04.*xl/", re.DOTALL), "an Excel file", "Export it as PDF, or read its rows: rows=."),
    (re.compile(rb"PK\x03\x04.*ppt/", re.DOTALL), "a PowerPoint file", _CONVERT),
    (re.compile(rb"PK\x03\x04"), "a zip archive", "Unpack it, and give a row for each file."),
    (re.compile(rb"\x1f\x8b"), "compressed with gzip", "Unpack it."),
    (re.compile(rb"\xd0\xcf\x11\xe0"), "an old Office document", _CONVERT),
    (re.compile(rb".{4}ftyp(hei|mif|avif|avis|msf)", re.DOTALL), "an image in HEIC or AVIF", "Convert it to JPEG."),
    (re.compile(rb".{4}ftyp", re.DOTALL), "a video", "Take images from it."),
    (re.compile(rb"BM.{4}\0\0\0\0", re.DOTALL), "an image in BMP", "Convert it to PNG."),
    (re.compile(rb"II\*\0|MM\0\*"), "an image in TIFF", "Convert it to PNG, or to PDF if it has several pages."),
    (re.compile(rb"\s*<(\?xml[^>]*>\s*<)?svg", re.IGNORECASE), "an image in SVG", "Convert it to PNG."),
    (re.compile(rb"PAR1"), "a Parquet file", "Read its rows: rows=FileRows(…)."),
    (re.compile(rb"version https://git-lfs"), "a pointer of Git LFS", "Fetch the file itself: git lfs pull."),
    (re.compile(rb"%!PS"), "PostScript", "Convert it to PDF."),
    (re.compile(rb"\{\\rtf"), "an RTF document", _CONVERT),
)


class UnreadFileError(RowFileError):
    """The storage did not give a file now. A retry may read it."""

    def __init__(self, error: Exception, uri: str) -> None:
        remedy = "A retry reads all rows again. If it fails too, check that this worker reaches the storage."
        super().__init__(f"could not be read: {type(error).__name__:.30}", remedy, uri)


class FileStore(Protocol):
    """Storage that files are read from, by URI.

    :raises OSError: from both: ``FileNotFoundError``, ``PermissionError`` or ``IsADirectoryError``.
    :raises Exception: from both: the storage cannot be reached now. Each library has its own errors.
    """

    def size(self, uri: str) -> int | None:
        """Return the bytes of a file, None if the storage does not know them."""

    def read(self, uri: str, most: int) -> bytes:
        """Read a file. ``most`` bytes or fewer are read if the storage can stop there."""


@dataclass(frozen=True, slots=True)
class FileContents:
    """The contents of a file in base64, ready for a content block.

    :param pages: of a PDF that says its number, else 0.
    """

    media_type: str
    data: str
    pages: int = 0

    def block(self) -> dict[str, Any]:
        """Return a new content block. The data in it is shared."""
        source = {"type": "base64", "media_type": self.media_type, "data": self.data}
        return {"type": "document" if self.media_type == _PDF else "image", "source": source}


def read_contents(uri: str, store: FileStore) -> FileContents:
    """Read a file as an image or a PDF. Holds it once as it is and once in base64.

    :raises RowFileError: it is missing, too large, or neither an image nor a PDF.
    :raises UnreadFileError: the storage failed. A retry may succeed.
    """
    data = _read(uri, store)
    media_type = format_of(data[:HEAD_BYTES])
    if media_type == _PDF:
        pages = pdf_pages(data) or 0
        if pages > MOST_PAGES:
            raise RowFileError(
                f"{shown_uri(uri)} has {quantity(pages, 'page')}, and {MOST_PAGES} are allowed", "Split the PDF."
            )
        return FileContents(media_type, _in_base64(data), pages)
    if media_type not in IMAGE_TYPES:
        raise _other_format(uri, data)
    if len(data) > LARGEST_IMAGE // 4 * 3:
        raise _too_large(uri, len(data), LARGEST_IMAGE // 4 * 3, "Make the image smaller. The API reduces it anyway.")
    return FileContents(media_type, _in_base64(data))


def _read(uri: str, store: FileStore) -> bytes:
    with _store_errors(uri):
        size = store.size(uri)
    if size is not None and size > LARGEST_FILE:
        raise _too_large(uri, size, LARGEST_FILE, "Split it, or upload it to the Files API: messages= takes its id.")
    with _store_errors(uri):
        data = b"" if size == 0 else store.read(uri, LARGEST_FILE + 1)
    if not data:
        raise RowFileError("is empty", "Write the file again, or leave its row out.", uri)
    if len(data) > LARGEST_FILE:
        raise _too_large(uri, len(data), LARGEST_FILE, "Split it, or upload it to the Files API.")
    return data


@contextmanager
def _store_errors(uri: str) -> Iterator[None]:
    """Raise the errors of a store in the block as errors about the file."""
    try:
        yield
    except (ClaudeBatchError, MemoryError):
        raise
    except Exception as error:  # stores' libraries have errors of their own
        if (problem := _lasting(error)) is None:
            raise UnreadFileError(error, uri) from error
        raise RowFileError(*problem, uri) from None


def _lasting(error: Exception) -> tuple[str, str] | None:
    """Return the problem and the remedy of an error that a retry would meet again, None for others."""
    if isinstance(error, FileNotFoundError | NotADirectoryError) or getattr(error, "errno", None) == errno.ENAMETOOLONG:
        return "does not exist", "Check the column. NULL means that a row has no file."
    if isinstance(error, PermissionError):
        return (
            "may not be read by this worker",
            "Allow it to. Name a connection in the template: s3://my_conn@bucket/{name}.",
        )
    if isinstance(error, IsADirectoryError):
        return "is a folder", "Give a row for each file in it."
    return None


def _too_large(uri: str, size: int, most: int, remedy: str) -> RowFileError:
    return RowFileError(f"has {size:,} bytes, and {most:,} are allowed", remedy, uri)


def _in_base64(data: bytes) -> str:
    """Encode in pieces: at once, the result would be in memory as bytes and as text."""
    view, text = memoryview(data), ""
    for start in range(0, len(view), _PIECE):
        text += binascii.b2a_base64(view[start : start + _PIECE], newline=False).decode("ascii")
    return text


def _other_format(uri: str, data: bytes) -> RowFileError:
    for form, what, remedy in _OTHERS:
        if form.match(data):
            return RowFileError(f"is {what}, not an image or a PDF", remedy, uri)
    if _is_text(data[:HEAD_BYTES]):
        return RowFileError("is text, not an image or a PDF", _AS_TEXT, uri)
    return RowFileError("is neither a PDF nor a JPEG, PNG, GIF or WebP", _CONVERT, uri)


def _is_text(head: bytes) -> bool:
    text = head.decode("utf-8", "replace").rstrip("\ufffd")  # the last character may be cut
    return "\ufffd" not in text and all(character.isprintable() or character.isspace() for character in text)
