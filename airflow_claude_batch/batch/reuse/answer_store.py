"""Answer store: answers of earlier submissions by what was asked, so that an unchanged request is not paid for again.

It is a folder of segments for one workspace of the API. Nothing in it is ever changed in place. Whatever is written
twice, left by a crash, or read by others meanwhile, each question has one answer: the newest.

What is damaged counts as not there, with a warning: those requests are asked anew.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from typing import Final

from airflow_claude_batch.batch.reuse.erasures import Erasure, Erasures
from airflow_claude_batch.batch.reuse.look_up import look_up
from airflow_claude_batch.batch.reuse.merging import merge, remove_erased
from airflow_claude_batch.batch.reuse.retention import StoreStats, compact, count_erased, erase, stats
from airflow_claude_batch.batch.reuse.segment import DamagedSegmentError, SegmentGoneError
from airflow_claude_batch.batch.reuse.segment_writer import AnswerSpool, write_segments
from airflow_claude_batch.batch.reuse.stored_answer import StoredAnswer, microseconds
from airflow_claude_batch.batch.storage import Folder

__all__ = ["AnswerStore", "StoredAnswer"]
_log: Final = logging.getLogger(__name__)
#: A look-up begins again so often when segments vanish, because another submission has merged them.
_LOOK_UPS: Final = 3
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")


class AnswerStore:
    """The answers of one workspace.

    What submissions call does not raise because of the storage, but warns: what cannot be read by :meth:`find` is not
    found, and what cannot be written by :meth:`add` is not stored.

    :param folder: of this workspace alone.
    :param clock: returns the current time, UTC.

    Example::

        store = AnswerStore(folder, clock=lambda: datetime.now(UTC))
        store.add("0123456789abcdef", [(question_key(params, version="", api="2023-06-01"), answer)])
        for index, answer in store.find([(question, 7)], not_before=None): ...
    """

    def __init__(self, folder: Folder, *, clock: Callable[[], datetime]) -> None:
        self._folder = folder
        self._clock = clock

    def find(
        self, keys: Sequence[tuple[bytes, int]], *, not_before: datetime | None
    ) -> Iterator[tuple[int, StoredAnswer]]:
        """Yield the newest answer to each question, with the index of the request that asks it, in any order.

        :param keys: question keys with the indices of their requests. Several requests may have one key.
        :param not_before: older answers do not count.
        """
        rest = keys
        for _ in range(_LOOK_UPS):
            done = bytearray(len(rest))
            try:
                for place, answer in self._find(rest, not_before):
                    done[place] = True
                    yield rest[place][1], answer
                return
            except SegmentGoneError:
                rest = [pair for pair, is_done in zip(rest, done, strict=True) if not is_done]
        _log.warning("Segments of %s vanish while they are read: not all stored answers were found.", self._uri)

    def add(self, name: str, answers: Iterable[tuple[bytes, StoredAnswer]]) -> bool:
        """Add answers, in any order. Return False, with a warning, if not all of them could be stored.

        The same answers under the same name are the same files, so that adding them again changes nothing.

        :param name: of what is added. Letters, digits, ``-`` and ``_``, at most 100.
        :param answers: each with its question key. Of those with the same key the newest counts.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r:.120} cannot be the name of a segment")
        try:
            self._add(f"added-{name}-", iter(answers))
        except (OSError, SegmentGoneError, DamagedSegmentError) as error:
            _log.warning("Answers could not be stored in %s, and will be paid for again: %s.", self._uri, error)
            return False
        return True

    def merge(self, *, most_bytes: int) -> None:
        """Merge small segments, so that look-ups read few. Call it after :meth:`add`. It warns where it fails.

        :param most_bytes: that are read in this call. What is left is merged by later calls.
        """
        try:
            merge(self._folder, most_bytes=most_bytes)
        except (OSError, DamagedSegmentError) as error:
            _log.warning("Stored answers in %s could not be merged: %s. A later run does it.", self._uri, error)
        except SegmentGoneError as error:
            _log.debug("Another process merges the stored answers in %s: %s", self._uri, error)

    def stats(self) -> StoreStats:
        """Return what the store holds.

        :raises OSError: it cannot be read.
        """
        return stats(self._folder)

    def prune(self, older_than: timedelta, *, dry_run: bool = False) -> int:
        """Erase the answers that are older. Return how many those were.

        :param dry_run: only count them.
        :raises OSError: the storage cannot be read or written. Call it again: nothing comes back.
        """
        now = self._clock()
        return self._erase(Erasure.of_age(now - older_than, now), now, dry_run)

    def forget(self, keys: Iterable[bytes] = (), submissions: Iterable[str] = (), *, dry_run: bool = False) -> int:
        """Erase the answers of some rows, and of some submissions. Return how many those were.

        What is paid for later counts again. The rows that submissions have landed are other files, and stay.

        :param keys: of rows, as JSON.
        :param submissions: ids of submissions.
        :param dry_run: only count the answers.
        :raises OSError: the storage cannot be read or written. Call it again: nothing comes back.
        """
        now = self._clock()
        return self._erase(Erasure.of_keys(keys, submissions, now), now, dry_run)

    def compact(self) -> None:
        """Write all answers anew: as few segments as possible, each question once, nothing that is erased.

        :raises OSError: the storage cannot be read or written. Call it again: nothing is lost.
        """
        compact(self._folder, self._clock())

    @property
    def _uri(self) -> str:
        return self._folder.uri("")

    def _find(
        self, keys: Sequence[tuple[bytes, int]], not_before: datetime | None
    ) -> Iterator[tuple[int, StoredAnswer]]:
        if not keys:
            return
        try:
            sizes = self._folder.sizes()
            erasures = Erasures.read(self._folder, sizes)
        except OSError as error:
            _log.warning("The stored answers in %s cannot be read, and are left out: %s.", self._uri, error)
            return
        least = max(erasures.least, 0 if not_before is None else microseconds(not_before))
        found = look_up(self._folder, sizes, keys, least)
        if not erasures.names_answers:
            yield from found
            return
        for place, answer in found:
            if not erasures.erases(answer.key, answer.submission_id, microseconds(answer.answered_at)):
                yield place, answer

    def _add(self, prefix: str, answers: Iterator[tuple[bytes, StoredAnswer]]) -> None:
        erasures = Erasures.read(self._folder, self._folder.names())
        written: list[str] = []
        while name := self._add_some(f"{prefix}{len(written)}", answers, erasures):
            written.append(name)
        remove_erased(self._folder, written, erasures)

    def _add_some(self, prefix: str, answers: Iterator[tuple[bytes, StoredAnswer]], erasures: Erasures) -> str | None:
        """Write the next answers as a segment. Return its name, None if there are no answers."""
        with closing(AnswerSpool()) as spool:
            while spool.has_room() and (pair := next(answers, None)) is not None:
                question, answer = pair
                if not erasures.erases(answer.key, answer.submission_id, microseconds(answer.answered_at)):
                    spool.add(question, answer)
            if not len(spool):
                return None
            name = f"{prefix}-{spool.digest()}"
            write_segments(self._folder, iter([name]), spool.entries())
            return name

    def _erase(self, erasure: Erasure, now: datetime, dry_run: bool) -> int:
        count = count_erased(self._folder, erasure)
        if not dry_run and (count or not erasure.before):
            erase(self._folder, erasure, now)
        return count
