"""Small images and PDF files, made from their formats' definitions."""

from __future__ import annotations

import base64
import struct
import zlib


def png(width: int = 4, height: int = 4) -> bytes:
    """A grey image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    lines = zlib.compress((b"\0" + b"\x80" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def jpeg(width: int = 4, height: int = 4, *, metadata: int = 16) -> bytes:
    """The segments of a JPEG up to its scan, with metadata before its size, as cameras write them."""
    application = b"\xff\xe1" + struct.pack(">H", metadata + 2) + bytes(metadata)
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\x00"
    return b"\xff\xd8" + application + b"\xff" + frame + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x2a\xff\xd9"


def gif(width: int = 1, height: int = 1) -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\xff\xff\xff\0\0\0"
    return screen + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02D\x01\0;"


#: One pixel, of libwebp.
WEBP = base64.b64decode("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")


def webp(width: int, height: int, form: bytes = b"VP8X") -> bytes:
    """The header of a WebP in one of its three forms."""
    if form == b"VP8X":
        size = [number.to_bytes(3, "little") for number in (width - 1, height - 1)]
        body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + size[0] + size[1]
    elif form == b"VP8L":
        body = b"VP8L" + struct.pack("<IBI", 5, 0x2F, (width - 1) | (height - 1) << 14)
    else:
        body = b"VP8 " + struct.pack("<I", 10) + b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def pdf(pages: int = 1, *, text: str = "Hello", size: int = 0) -> bytes:
    """A PDF with a line of text on each page.

    :param size: bytes that it has at least; the rest is a stream that no page shows.
    """
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(pages))
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>"]
    for number in range(pages):
        line = f"BT /F1 12 Tf 20 100 Td ({text} {number + 1}) Tj ET"
        font = "<< /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Resources << /Font {font} >> "
            f"/Contents {4 + 2 * number} 0 R >>"
        )
        objects.append(f"<< /Length {len(line)} >>\nstream\n{line}\nendstream")
    parts = [f"{number} 0 obj\n{body}\nendobj\n".encode() for number, body in enumerate(objects, 1)]
    filler = max(size - sum(map(len, parts)), 0)
    parts.append(
        b"%d 0 obj\n<< /Length %d >>\nstream\n%b\nendstream\nendobj\n" % (len(parts) + 1, filler, b"%" * filler)
    )
    return _with_table(parts)


def _with_table(parts: list[bytes]) -> bytes:
    offset, table = len(b"%PDF-1.7\n"), b"0000000000 65535 f \n"
    for part in parts:
        table += b"%010d 00000 n \n" % offset
        offset += len(part)
    count = len(parts) + 1
    trailer = b"xref\n0 %d\n%btrailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        count, table, count, offset,
    )  # fmt: skip
    return b"%PDF-1.7\n" + b"".join(parts) + trailer
