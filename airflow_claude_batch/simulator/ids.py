"""Identifiers in the API's style, different in every run so that an old record never names a new batch."""

from __future__ import annotations

import random

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_dice = random.SystemRandom()


def new_id(prefix: str, *, length: int = 22) -> str:
    """``prefix`` and ``length`` characters that nobody has seen before."""
    return prefix + "".join(_dice.choices(_ALPHABET, k=length))
