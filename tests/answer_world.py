"""An answer store over an object store in memory, cut, damaged or changed by others at any of its storage calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import IO

from stores import Store

from airflow_claude_batch.batch.reuse.answer_store import AnswerStore, StoredAnswer
from airflow_claude_batch.batch.storage import Folder, GuardedFolder, ObjectFolder

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
Answers = list[tuple[bytes, StoredAnswer]]


class KilledError(BaseException):
    """The process dies here."""


class WatchedFolder:
    """Runs something before each call of the storage.

    :param before: gets the number of the call, from 1, and its name.
    """

    def __init__(self, folder: Folder, before: Callable[[int, str], None]) -> None:
        self._folder, self._before = folder, before
        self.calls = 0

    def _call(self, name: str) -> Folder:
        self.calls += 1
        self._before(self.calls, name)
        return self._folder

    def uri(self, name: str) -> str:
        return self._folder.uri(name)

    def names(self) -> list[str]:
        return self._call("names").names()

    def sizes(self) -> dict[str, int]:
        return self._call("sizes").sizes()

    def open(self, name: str) -> IO[bytes] | None:
        return self._call("open").open(name)

    def size(self, name: str) -> int | None:
        return self._call("size").size(name)

    def read_range(self, name: str, start: int, end: int) -> bytes | None:
        return self._call("read_range").read_range(name, start, end)

    @contextmanager
    def replace_file(self, name: str) -> Iterator[IO[bytes]]:
        with self._folder.replace_file(name) as file:
            yield file
            self._call("replace_file")

    def remove(self, name: str) -> None:
        self._call("remove").remove(name)

    def check_writable(self) -> None:
        self._folder.check_writable()

    def remove_temporary_files(self, prefix: str) -> None:
        self._folder.remove_temporary_files(prefix)


def memory_folder() -> ObjectFolder:
    return ObjectFolder(Store(), "/b/answers/workspace", uri="s3://b/answers/workspace")


def store_in(folder: Folder, now: datetime = NOW) -> AnswerStore:
    return AnswerStore(folder, clock=lambda: now)


def question(number: int) -> bytes:
    """Return the key of a question. Every third one has the same first half as the one before."""
    return (number - number % 3 // 2).to_bytes(8, "big") + number.to_bytes(8, "big")


def answer(number: int, run: int = 0, submission: str | None = None) -> StoredAnswer:
    """Return the answer that a run got to a question. Later runs have newer ones."""
    text = b'"status":"succeeded","text":"answer %d of run %d"}' % (number, run)
    submission = f"run-{run}" if submission is None else submission
    return StoredAnswer(b'"row-%d"' % number, text, submission, NOW - timedelta(days=100 - run), f"model-{run % 2}")


def answers(numbers: Sequence[int], run: int = 0) -> Answers:
    return [(question(number), answer(number, run)) for number in numbers]


def found(folder: Folder, numbers: Sequence[int], not_before: datetime | None = None) -> dict[int, StoredAnswer]:
    """Look questions up. Fails if one has two answers."""
    keys = [(question(number), number) for number in numbers]
    pairs = list(store_in(folder).find(keys, not_before=not_before))
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def killed_at(effect: int, folder: Folder) -> Folder:
    """Return a folder that a process dies with before an effect, counted from 0."""
    left = iter(range(effect))

    def check() -> None:
        if next(left, None) is None:
            raise KilledError

    return GuardedFolder(folder, check)


def copy_of(folder: ObjectFolder) -> ObjectFolder:
    copied = memory_folder()
    for name in folder.names():
        with folder.open(name) as source, copied.replace_file(name) as file:
            file.write(source.read())
    return copied
