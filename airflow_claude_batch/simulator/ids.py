"""Identifiers in the API's style. They differ in every run, so that an old record never names a new batch."""

from __future__ import annotations

import random

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_rng = random.SystemRandom()


def new_id(prefix: str, *, length: int = 22) -> str:
    """Return ``prefix`` and ``length`` random characters."""
    return prefix + "".join(_rng.choices(_ALPHABET, k=length))
