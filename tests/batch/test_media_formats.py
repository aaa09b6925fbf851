"""Formats, pixels and pages, read from bytes."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_files import WEBP, gif, jpeg, pdf, png, webp

from airflow_claude_batch.batch.media_formats import PIXELS_HEAD_BYTES, Pixels, format_of, pdf_pages, pixels_of


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (png(), "image/png"),
        (jpeg(), "image/jpeg"),
        (gif(), "image/gif"),
        (WEBP, "image/webp"),
        (pdf(), "application/pdf"),
        (b"\r\n" * 100 + pdf(), "application/pdf"),
        (b"II*\0" + bytes(20), "image/tiff"),
        (b"RIFF\x40\0\0\0WAVEfmt ", None),
        (b"RIFF\n\n\n\nWEBP", "image/webp"),
        (b"hello", None),
        (b"", None),
    ],
)
def test_format_follows_from_the_first_bytes(data: bytes, media_type: str | None) -> None:
    assert format_of(data) == media_type


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png(300, 200), id="PNG"),
        pytest.param(gif(300, 200), id="GIF"),
        pytest.param(jpeg(300, 200), id="JPEG"),
        pytest.param(jpeg(300, 200, metadata=60_000), id="JPEG with a preview"),
        pytest.param(webp(300, 200, b"VP8X"), id="extended WebP"),
        pytest.param(webp(300, 200, b"VP8L"), id="lossless WebP"),
        pytest.param(webp(300, 200, b"VP8 "), id="lossy WebP"),
    ],
)
def test_pixels_stand_in_the_first_bytes(data: bytes) -> None:
    assert pixels_of(data[:PIXELS_HEAD_BYTES]) == Pixels(300, 200)


def test_a_webp_of_libwebp_has_one_pixel() -> None:
    assert pixels_of(WEBP) == Pixels(1, 1)


@given(st.sampled_from([png(), jpeg(), gif(), WEBP, webp(9, 9), pdf()]), st.integers(0, 400), st.binary(max_size=40))
def test_damaged_images_have_some_pixels_or_none(data: bytes, cut: int, rest: bytes) -> None:
    pixels_of(data[:cut] + rest)
    pdf_pages(data[:cut] + rest)


@pytest.mark.parametrize("pages", [1, 7, 700])
def test_pages_stand_at_the_root_of_the_page_tree(pages: int) -> None:
    assert pdf_pages(pdf(pages)) == pages


def test_the_last_root_of_a_changed_pdf_is_in_force() -> None:
    changed = pdf(700) + b"2 0 obj\n<< /Type /Pages /Kids [3 0 R] /Count 1 >>\nendobj\n"

    assert pdf_pages(changed) == 1


def test_a_branch_of_the_page_tree_is_not_its_root() -> None:
    branch = b"9 0 obj\n<</Parent 2 0 R/Type/Pages/Kids[3 0 R]/Count 2>>\nendobj\n"

    assert pdf_pages(pdf(5) + branch) == 5


@pytest.mark.parametrize("first", [b"/Type/ObjStm/N 2/First 8", b"/N 2 /First 8 /Filter /FlateDecode /Type /ObjStm"])
def test_pages_of_a_compressed_tree_are_read(first: bytes) -> None:
    content = zlib.compress(b"1 0 2 31" + b"<</Type/Catalog/Pages 2 0 R>>  " + b"<</Type/Pages/Count 12/Kids[3 0 R]>>")
    stream = b"7 0 obj\n<<%b/Length %d>>\nstream\r\n%b\nendstream\nendobj\n" % (first, len(content), content)

    assert pdf_pages(b"%PDF-1.7\n" + stream) == 12


def test_pages_of_an_encrypted_tree_are_unknown() -> None:
    stream = b"7 0 obj\n<</Type/ObjStm/N 2/First 8>>\nstream\n\x00\x01encrypted\nendstream\nendobj\n"

    assert pdf_pages(b"%PDF-1.7\n" + stream) is None


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(b"/Type/Pages", id="a tree without an end"),
        pytest.param(b"obj/Type/Pages/Count 3 endobj", id="many roots"),
        pytest.param(b"/Type/ObjStm/First 9 ", id="streams without content"),
        pytest.param(b"/Type/ObjStm/First 9\nstream\n" + zlib.compress(bytes(5_000_000)) + b"endobj", id="bombs"),
    ],
)
def test_a_hostile_pdf_is_read_in_bounded_memory(piece: bytes) -> None:
    data = b"%PDF-1.7\n" + piece * (1_000_000 // len(piece))
    tracemalloc.start()
    try:
        assert pdf_pages(data) in (None, 3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000
