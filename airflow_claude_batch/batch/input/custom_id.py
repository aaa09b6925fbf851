"""Make and read the custom_ids that this package gives to requests: ``<token>-<index>-<content hash>``.

A result line names its custom_id only. The token tells which create call made the request, the index which request
of the submission it was, and the hash whether that request still has the same content.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

import msgspec

#: Length of the token of a part, hexadecimal digits.
TOKEN_CHARACTERS: Final = 12
#: Length of a content hash: 16 bytes in URL-safe base64 without padding, all of it allowed in custom_ids.
HASH_CHARACTERS: Final = 22
_INDEX_CHARACTERS: Final = 10
#: Some gateways change the case, replace the hyphens, or add a prefix.
_LIKE_OURS: Final = re.compile(
    rf"(?:.*[^0-9a-z])?[0-9a-f]{{{TOKEN_CHARACTERS}}}[^0-9a-z]"
    rf"[0-9]{{1,{_INDEX_CHARACTERS}}}[^0-9a-z][0-9a-z_-]{{{HASH_CHARACTERS}}}",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)


class CustomId(msgspec.Struct, frozen=True, gc=False):
    """The fields of one of our custom_ids."""

    token: str
    index: int
    hash: bytes


def content_hash(params: bytes) -> bytes:
    """Hash the params as they are sent, to 22 ASCII characters. Requests with the same hash are the same request."""
    return base64.urlsafe_b64encode(hashlib.blake2b(params, digest_size=16).digest()).rstrip(b"=")


def make_custom_id(token: str, index: int, hash_: bytes) -> str:
    """Name a request of the part with this token."""
    return f"{token}-{index}-{hash_.decode()}"


def has_token(custom_id: str, token: str) -> bool:
    """Tell whether a custom_id is one of the part with this token, however it is spelled.

    Some gateways change the case, replace the hyphens, or add a prefix. Nobody else's custom_id contains 48 random bits
    of ours.
    """
    return token.casefold() in custom_id.casefold()


def is_like_ours(custom_id: str) -> bool:
    """Tell whether this package has made a custom_id, however it is spelled. A stranger's would differ by chance."""
    return _LIKE_OURS.fullmatch(custom_id) is not None


def parse_custom_id(custom_id: str) -> CustomId | None:
    """Take a custom_id apart. Return None for one that this package has not made."""
    if not custom_id.isascii() or len(parts := custom_id.split("-", 2)) != 3:
        return None
    token, index, hash_ = parts
    if len(token) != TOKEN_CHARACTERS or len(hash_) != HASH_CHARACTERS or len(index) > _INDEX_CHARACTERS:
        return None
    if not index.isdigit():
        return None
    return CustomId(token, int(index), hash_.encode())
