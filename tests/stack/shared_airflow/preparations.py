"""What the files do before their tests begin: all at the same time, so that their tasks wait together.

A file may have these functions:

- ``prepare_alone(stack)``, before the others: its tasks would not survive what it does, or theirs would not.
- ``prepare(stack)``, in a thread. Its result is for the file's fixtures.
- ``while_triggerer_is_down(stack, prepared)``, with that result. The triggerer is killed once for all files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

from airflow_stack import DagStack

T = TypeVar("T")


class Preparations:
    """The preparations of some files, by their ``prepare`` function."""

    def __init__(self, stack: DagStack, files: list[ModuleType], begun: dict[Callable[..., Any], Future[Any]]) -> None:
        self._stack = stack
        self._files = files
        self._futures = begun

    def result_of(self, prepare: Callable[[DagStack], T]) -> T:
        """Wait for a preparation, and return its result. Raises its error."""
        result: T = self._futures[prepare].result()
        return result

    def kill_triggerer(self) -> None:
        """Wait for all preparations, kill the triggerer, and start it again."""
        wait(self._futures.values())
        self._stack.airflow.kill("triggerer")
        for file in self._files:
            meanwhile = getattr(file, "while_triggerer_is_down", None)
            if meanwhile and not self._futures[file.prepare].exception():
                meanwhile(self._stack, self._futures[file.prepare].result())
        self._stack.airflow.start("triggerer")


@contextmanager
def preparing(stack: DagStack, files: Iterable[ModuleType]) -> Iterator[Preparations]:
    """Begin the preparations of these files."""
    files = sorted(files, key=lambda file: file.__name__)
    for file in files:
        if alone := getattr(file, "prepare_alone", None):
            alone(stack)
    functions = {file.prepare for file in files if hasattr(file, "prepare")}
    threads = ThreadPoolExecutor(max_workers=max(1, len(functions)))
    try:
        yield Preparations(stack, files, {function: threads.submit(function, stack) for function in functions})
    finally:
        stack.is_stopping.set()  # ends what still waits
        threads.shutdown()
