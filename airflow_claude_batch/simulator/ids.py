"""Identifiers in the API's style, random or made from a seed."""

from __future__ import annotations

import random
import threading
from collections import Counter

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class Ids:
    """Makes identifiers.

    With a seed, the n-th id with a prefix is the same in every run. How often clients poll changes nothing about the
    ids of batches, because each prefix is counted on its own.

    :param seed: None: ids differ in every run, so that an old record never names a new batch.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._seed = seed
        self._random = random.Random()
        self._made: Counter[str] = Counter()
        self._lock = threading.Lock()

    def new(self, prefix: str, *, length: int = 22) -> str:
        """Return ``prefix`` and ``length`` more characters."""
        return prefix + "".join(self._source(prefix).choices(_ALPHABET, k=length))

    def _source(self, prefix: str) -> random.Random:
        if self._seed is None:
            return self._random
        with self._lock:
            self._made[prefix] += 1
            return random.Random(f"{self._seed}:{prefix}:{self._made[prefix]}")
