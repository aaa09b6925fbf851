"""Checks the sources of images and documents: URLs, and data in base64 with its first bytes."""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from typing import Any, Final

from airflow_claude_batch.batch.input.element_errors import short_repr, type_name
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.preflight.conditions import Conditions
from airflow_claude_batch.batch.input.preflight.known_fields import IMAGE_TYPES, SOURCES
from airflow_claude_batch.batch.input.preflight.refusal import check_shape, did_you_mean, kind_of, refuse
from airflow_claude_batch.batch.media_formats import HEAD_BYTES, PIXELS_HEAD_BYTES, format_of, pixels_of
from airflow_claude_batch.batch.quantity import with_article

#: The largest image: 10 MB in base64.
LARGEST_IMAGE: Final = 10 * 1024 * 1024
LONGEST_EDGE: Final = 8000
MOST_IMAGES: Final = 600
#: Characters in base64 that have what is looked at, and those that are decoded at once.
_HEAD: Final = PIXELS_HEAD_BYTES // 3 * 4
_PIECE: Final = 1024 * 1024
_SPACE: Final = re.compile("[\\n\\r\\t ]")
_NO_SPACE: Final = str.maketrans("", "", "\n\r\t ")
_ENCODE: Final = "Give base64.b64encode(data).decode(), without a prefix."
_MISSPELLED: Final = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png"}


def check_source(request: Request, source: Any, owner: str, conditions: Conditions, *, inside: str) -> None:
    """Raise if the source of an image or a document is one that the API refuses.

    :param owner: ``image`` or ``document``.
    """
    kind, known = kind_of(source), SOURCES[owner]
    if kind is None or kind not in known:
        if kind is not None and conditions.takes_unknown:
            return
        kinds = ", ".join(known)
        found = short_repr(kind, 20) if kind is not None else type_name(source)
        problem = f"'source' of {with_article(owner)} must be a mapping with a type of {kinds}, not {found}."
        refuse(request, "source", problem, f"{did_you_mean(kind, known)}Give such a source.", inside=inside)
    what = f"a source of type {kind!r}"
    check_shape(request, "source", source, known[kind], what, inside=inside, strict=not conditions.takes_unknown)
    if kind == "url":
        _check_url(request, source["url"], owner, inside)
    elif kind == "base64":
        _check_base64(request, source, owner, conditions, inside)
    elif kind == "text" and (
        not isinstance(source["data"], str)
        or not isinstance(source["media_type"], str)
        or source["media_type"] != "text/plain"
    ):
        problem = "a document of type 'text' needs a string in 'data', of media_type text/plain."
        refuse(request, "source", problem, "Convert it, or use another source.", inside=inside)


def _check_url(request: Request, url: Any, owner: str, inside: str) -> None:
    if isinstance(url, str) and url.lower().startswith(("https://", "http://")):
        return
    if isinstance(url, str) and url.lower().startswith("data:"):
        problem = "a data: URL is no URL that the API can read."
        remedy = "Use {'type': 'base64', 'media_type': …, 'data': …}, with what comes after the comma of the URL."
        refuse(request, "source_url", problem, remedy, inside=inside)
    problem = f"'url' must begin with https://, not {short_repr(url, 24)}."
    remedy = f"The API reads the {owner} itself. Give a public URL, data in base64, or a file of the Files API."
    refuse(request, "source_url", problem, remedy, inside=inside)


def _check_base64(request: Request, source: Mapping[str, Any], owner: str, conditions: Conditions, inside: str) -> None:
    media_type, data = source["media_type"], source["data"]
    allowed = IMAGE_TYPES if owner == "image" else ("application/pdf",)
    if not isinstance(media_type, str) or media_type not in allowed:
        if not (isinstance(media_type, str) and conditions.takes_unknown):
            _refuse_media_type(request, media_type, allowed, inside)
        return
    if not isinstance(data, str):
        problem = f"'data' must be a string in base64, not {type_name(data)}."
        refuse(request, "base64", problem, _ENCODE, inside=inside)
    if data[:5].lower() == "data:":
        refuse(request, "base64", "'data' is a data: URL.", "Give only what comes after its comma.", inside=inside)
    if owner == "image" and len(data) > LARGEST_IMAGE:
        problem = f"the image has {len(data):,} characters in base64, and {LARGEST_IMAGE:,} are allowed."
        refuse(request, "image_size", problem, "Make the image smaller.", inside=inside)
    head = _decoded_head(data)
    if head is None:
        refuse(request, "base64", "'data' is not base64.", _ENCODE, inside=inside)
    _check_head(request, head, media_type, inside)


def _refuse_media_type(request: Request, media_type: Any, allowed: tuple[str, ...], inside: str) -> None:
    meant = _MISSPELLED.get(media_type.lower()) if isinstance(media_type, str) else None
    problem = f"the API does not take the media_type {short_repr(media_type, 30)}."
    remedy = f"It takes {', '.join(allowed)}. Convert the file, or correct its media_type."
    if meant in allowed:
        remedy = f"Did you mean {meant!r}?"
    elif allowed == ("application/pdf",):
        remedy = "Give texts as {'type': 'text', 'media_type': 'text/plain', 'data': …}. Convert other files to PDF."
    refuse(request, "media_type", problem, remedy, inside=inside)


def _decoded_head(data: str) -> bytes | None:
    """Return the first bytes of data in base64, None if it is none. White space and missing padding are let pass.

    The data is decoded in pieces, because a PDF may have 32 MB.
    """
    if _SPACE.search(data):
        data = data.translate(_NO_SPACE)
    padding = len(data[-3:]) - len(data[-3:].rstrip("="))
    if padding > 2 or (len(data) - padding) % 4 == 1 or data.find("=", 0, len(data) - padding) >= 0:
        return None
    last = (len(data) - 1) // _PIECE * _PIECE
    try:
        for start in range(0, last, _PIECE):
            binascii.a2b_base64(data[start : start + _PIECE], strict_mode=True)
        bare = data[last:].rstrip("=")
        binascii.a2b_base64(bare + "=" * (-len(bare) % 4), strict_mode=True)
        return binascii.a2b_base64(data[:_HEAD] + "===")
    except ValueError:
        return None


def _check_head(request: Request, head: bytes, media_type: str, inside: str) -> None:
    found = format_of(head[:HEAD_BYTES])
    if found == media_type:
        _check_edges(request, head, inside)
        return
    if found is None:
        problem = f"'data' does not begin as {media_type} does."
        refuse(request, "data_of_media_type", problem, "Correct 'media_type' and 'data'.", inside=inside)
    problem = f"'data' is {found}, and 'media_type' says {media_type}."
    refuse(request, "data_of_media_type", problem, f"Set 'media_type' to {found}, if the API takes it.", inside=inside)


def _check_edges(request: Request, head: bytes, inside: str) -> None:
    pixels = pixels_of(head)
    if pixels is not None and max(pixels) > LONGEST_EDGE:
        problem = f"the image has {pixels.width} x {pixels.height} pixels, and an edge may have {LONGEST_EDGE}."
        refuse(request, "image_edge", problem, "Make the image smaller.", inside=inside)
