"""custom_ids that say which request of which part they name: ``<token>-<index>-<content hash>``."""

from __future__ import annotations

import base64
import hashlib

import msgspec

#: Of 16 bytes, in the alphabet that custom_ids allow.
HASH_CHARACTERS = 22


def content_hash(params: bytes) -> bytes:
    """What makes two requests the same: 22 ASCII characters over the params as sent, as custom_ids carry them."""
    return base64.urlsafe_b64encode(hashlib.blake2b(params, digest_size=16).digest()).rstrip(b"=")


TOKEN_CHARACTERS = 12


_INDEX_CHARACTERS = 10


class CustomId(msgspec.Struct, frozen=True, gc=False):
    """A custom_id of ours, taken apart."""

    token: str
    index: int
    hash: bytes


def parse_custom_id(custom_id: str) -> CustomId | None:
    """None when the custom_id is not of our making."""
    if not custom_id.isascii() or len(parts := custom_id.split("-", 2)) != 3:
        return None
    token, index, hash_ = parts
    if len(token) != TOKEN_CHARACTERS or len(hash_) != HASH_CHARACTERS or len(index) > _INDEX_CHARACTERS:
        return None
    if not index.isdigit():
        return None
    return CustomId(token, int(index), hash_.encode())
