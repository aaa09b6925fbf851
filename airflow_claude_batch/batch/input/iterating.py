"""Iterate what holds a file or a connection open, and close it whatever happens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import GeneratorType
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def iterating(values: Iterable[T]) -> Iterator[Iterator[T]]:
    """Return an iterator for the block. A generator is closed at its end, so that it gives back what it holds.

    Without that it would be closed when nothing refers to it any more, and a traceback refers to it.

    Example::

        with iterating(source) as rows:
            for row in rows:
                check(row)
    """
    iterator = iter(values)
    try:
        yield iterator
    finally:
        if isinstance(iterator, GeneratorType):
            iterator.close()
