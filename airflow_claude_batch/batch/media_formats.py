"""Reads from the bytes of images and PDF files what they are: their format, pixels and pages.

Formats: PNG (W3C, 2003), JPEG (ITU-T T.81), GIF89a, WebP (RFC 9649), PDF (ISO 32000-2).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

#: Bytes from which a format is told. A PDF may have some bytes before its mark.
HEAD_BYTES: Final = 1024
#: Bytes in which the pixels of nearly every image stand. JPEG files have metadata and a preview before them.
PIXELS_HEAD_BYTES: Final = 128 * 1024

_FORMATS: Final = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb".{0,%d}?%%PDF-" % (HEAD_BYTES - 5), re.DOTALL), "application/pdf"),
    # Formats that people give and the API does not take.
    (re.compile(rb"BM"), "image/bmp"),
    (re.compile(rb"II\*\0|MM\0\*"), "image/tiff"),
    (re.compile(rb".{4}ftyp", re.DOTALL), "image/heic or a video"),
    (re.compile(rb"\s*<(\?xml|svg[ >])", re.IGNORECASE), "image/svg+xml"),
)
#: Markers of a JPEG that begin the data of a frame: those with its size.
_FRAME: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_TREE: Final = re.compile(rb"/Type\s*/Pages\b")
_TREE_OR_STREAM: Final = re.compile(rb"/Type\s*/(Pages|ObjStm)\b")
_STREAM: Final = re.compile(rb"\bstream\r?\n")
_FIRST: Final = re.compile(rb"/First\s+(\d{1,7})\b")
_COUNT: Final = re.compile(rb"/Count\s+(\d{1,7})\b")
_LONGEST_OBJECT: Final = 256 * 1024
_LONGEST_DICTIONARY: Final = 1024
_MOST_UNPACKED: Final = 32 * 1024 * 1024


class Pixels(NamedTuple):
    """Size of an image."""

    width: int
    height: int


def format_of(head: bytes) -> str | None:
    """Return the media type of a file from its first ``HEAD_BYTES`` bytes, None if it is none that is known.

    >>> format_of(b"GIF89a")
    'image/gif'
    """
    return next((media_type for form, media_type in _FORMATS if form.match(head)), None)


def pixels_of(head: bytes) -> Pixels | None:
    """Return the size of a PNG, JPEG, GIF or WebP from its first bytes, None if they do not say it."""
    try:
        return _PIXELS[format_of(head[:HEAD_BYTES]) or ""](head)
    except (KeyError, struct.error, IndexError):
        return None


def _png(head: bytes) -> Pixels:
    return Pixels(*struct.unpack_from(">II", head, 16))


def _gif(head: bytes) -> Pixels:
    return Pixels(*struct.unpack_from("<HH", head, 6))


def _webp(head: bytes) -> Pixels | None:
    kind = head[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return Pixels(width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return Pixels((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8X":
        (width, high_width, height, high_height) = struct.unpack_from("<HBHB", head, 24)
        return Pixels((high_width << 16 | width) + 1, (high_height << 16 | height) + 1)
    return None


def _jpeg(head: bytes) -> Pixels | None:
    place = 2
    while head[place] == 0xFF:
        marker = head[place + 1]
        if marker in _FRAME:
            height, width = struct.unpack_from(">HH", head, place + 5)
            return Pixels(width, height)
        if marker == 0xFF:  # fill byte
            place += 1
        elif marker in _WITHOUT_LENGTH:
            place += 2
        else:
            place += 2 + struct.unpack_from(">H", head, place + 2)[0]
    return None


_PIXELS: Final = {"image/png": _png, "image/jpeg": _jpeg, "image/gif": _gif, "image/webp": _webp}


def pdf_pages(data: bytes) -> int | None:
    """Return the number of pages of a PDF, None if it does not say it in a way that is read here: it is encrypted.

    The root of the page tree has the number. A file that was changed may have several roots: the last is in force.
    """
    pages = None
    for tree in _page_trees(data):
        if b"/Parent" not in tree and (count := _COUNT.search(tree)):
            pages = int(count[1])
    return pages


def _page_trees(data: bytes) -> Iterator[bytes]:
    """Yield the objects of the page tree in the order of the file: those that stand in plain, and compressed ones.

    Files may be hostile: no byte is looked at often, and little is unpacked.
    """
    place, unpacked = 0, 0
    while unpacked < _MOST_UNPACKED and (match := _TREE_OR_STREAM.search(data, place)):
        start = max(data.rfind(b"obj", max(match.start() - _LONGEST_DICTIONARY, place), match.start()), place)
        end = data.find(b"endobj", match.end(), match.end() + _LONGEST_OBJECT)
        place = end if end >= 0 else match.end() + _LONGEST_OBJECT
        if match[1] == b"Pages":
            yield data[start:place]
        else:
            content = _unpacked(data[match.end() : place])
            unpacked += len(content)
            yield from filter(_TREE.search, _objects_of(content, data[start : match.end() + _LONGEST_DICTIONARY]))


def _unpacked(stream: bytes) -> bytes:
    """Return the content of an object stream from its bytes, empty if it is not packed as usual."""
    start = _STREAM.search(stream, 0, _LONGEST_DICTIONARY)
    try:
        return zlib.decompressobj().decompress(stream[start.end() :], _LONGEST_OBJECT) if start else b""
    except zlib.error:
        return b""


def _objects_of(content: bytes, dictionary: bytes) -> list[bytes]:
    """Return the objects of an object stream. Pairs of numbers before them say where each begins."""
    first = _FIRST.search(dictionary)
    if first is None:
        return []
    try:
        begins = sorted(int(first[1]) + int(offset) for offset in content[: int(first[1])].split()[1::2])
    except ValueError:
        return []
    return [content[begin:end] for begin, end in pairwise([*begins, len(content)])]
