"""Estimates the tokens of images and PDF files whose data is in a request. They do not follow from its length."""

from __future__ import annotations

import binascii
from typing import Final

from airflow_claude_batch.batch.media_formats import HEAD_BYTES, PIXELS_HEAD_BYTES, format_of, pdf_pages, pixels_of

#: Pixels for a token, and the most tokens of an image, which the newest models take; build-with-claude/vision, 2026-10.
_PIXELS_PER_TOKEN: Final = 750
_MOST_IMAGE_TOKENS: Final = 4784
_USUAL_IMAGE_TOKENS: Final = 1500
#: Tokens of a page: its text and its image. Scans have about 1,600, dense tables 2,500; measured for 5.5 and 4.5 models
#: (huggingface.co/datasets/JOHNISKING/pdf-token-cost, 2026-10-18).
_PAGE_TOKENS: Final = 2500
#: Bytes of a page, for a PDF that does not say its number. Texts have less, and scans more.
_PAGE_BYTES: Final = 20_000
_MOST_PAGES: Final = 600
#: Bytes of text that stand for a token. Texts have 2.5 to 4.
_BYTES_PER_TOKEN: Final = 3
_DATA: Final = b'"data":"'


def comparable_length(block: bytes) -> int:
    """Return the length of a content block, with its images and PDF files replaced by text of about as many tokens.

    :param block: the block as JSON, without blanks. In a JSON string a quotation mark is escaped.
    """
    length, end = len(block), 0
    while (begin := block.find(_DATA, end)) >= 0:
        begin += len(_DATA)
        end = block.find(b'"', begin)
        tokens = _tokens(memoryview(block)[begin:end])
        if tokens is not None:
            length += tokens * _BYTES_PER_TOKEN - (end - begin)
    return length


def _tokens(data: memoryview) -> int | None:
    """Estimate the tokens of data in base64, None if it is something else: the text of a document."""
    head = _decoded(data[: PIXELS_HEAD_BYTES // 3 * 4])
    media_type = format_of(head[:HEAD_BYTES])
    if media_type == "application/pdf":
        pages = pdf_pages(_decoded(data)) or max(len(data) * 3 // 4 // _PAGE_BYTES, 1)
        return min(pages, _MOST_PAGES) * _PAGE_TOKENS
    if media_type is None or not media_type.startswith("image/"):
        return None
    pixels = pixels_of(head)
    if pixels is None:
        return _USUAL_IMAGE_TOKENS
    return min(pixels.width * pixels.height // _PIXELS_PER_TOKEN + 1, _MOST_IMAGE_TOKENS)


def _decoded(data: memoryview) -> bytes:
    try:
        return binascii.a2b_base64(data)
    except ValueError:  # the padding of its end is missing
        return binascii.a2b_base64(bytes(data) + b"==") if len(data) % 4 != 1 else b""
