"""What the files do before their tests begin, so that the tasks of one wait while the tests of another run.

A file may have these functions:

- ``prepare_alone(stack)``, before the others: its tasks would not survive what it does, or theirs would not.
- ``prepare(stack)``, in a thread, until its tasks wait. Its result is for the file's fixtures.
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

#: How many files prepare at the same time. Airflow's scheduler and its API are slow beside many tasks that start.
CONCURRENT = 2


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
        try:
            for file in self._files:
                self._continue_meanwhile(file)
        finally:
            self._stack.airflow.start("triggerer")

    def _continue_meanwhile(self, file: ModuleType) -> None:
        meanwhile = getattr(file, "while_triggerer_is_down", None)
        if meanwhile and not self._futures[file.prepare].exception():
            meanwhile(self._stack, self._futures[file.prepare].result())


@contextmanager
def preparing(stack: DagStack, files: Iterable[ModuleType]) -> Iterator[Preparations]:
    """Begin the preparations of these files, in their order."""
    files = list(dict.fromkeys(files))
    for file in files:
        if alone := getattr(file, "prepare_alone", None):
            alone(stack)
    functions = dict.fromkeys(file.prepare for file in files if hasattr(file, "prepare"))
    threads = ThreadPoolExecutor(max_workers=CONCURRENT)
    try:
        yield Preparations(stack, files, {function: threads.submit(function, stack) for function in functions})
    finally:
        stack.is_stopping.set()  # ends what still waits
        threads.shutdown()
