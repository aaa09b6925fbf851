"""Journal of the requests that are asked directly, and of their answers: durable before the next one is asked.

The Messages API has no results to be read again: an answer that is not written down is paid for and lost. So each
answer is written, synced, before its slot asks the next request. A request is written down before it is asked, too. So
the next process knows which ones were in flight when this one ended.

On a disk the journal of a process is one file, ``direct-<attempt>-<token>.jsonl``, to which lines are appended. In an
object store it is an object for each answer, and one for the requests in flight. Each owner writes its own files, so a
process that was replaced and still has answers in flight damages nothing.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.ledger.ledger import new_token

_PREFIX: Final = "direct-"
_NAME: Final = re.compile(rf"{_PREFIX}(?P<attempt>\w+)-(?P<token>\w+)(?:-(?:asked|\d+))?\.jsonl")


class _Line(msgspec.Struct):
    """A line of a journal: a request that is asked, or its result as in the results of a message batch."""

    asked: str | None = None
    custom_id: str | None = None
    result: msgspec.Raw = msgspec.Raw()


@dataclass(frozen=True, slots=True)
class Journaled:
    """What the journals of a submission have.

    :param answers: result lines, in the form of a message batch's results.
    :param in_flight: custom_ids of requests that were asked, and have no answer here.
    :param names: the files.
    """

    answers: tuple[bytes, ...] = ()
    in_flight: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(slots=True)
class DirectJournal:
    """Journal of one process. Call it from one thread at a time.

    Example::

        journal = DirectJournal(folder, attempt="0123456789ab")
        journal.note_asked("0123456789ab-7-…")
        journal.note_answer("0123456789ab-7-…", response.result_line("0123456789ab-7-…"))  # durable when it returns

    :param folder: the submission's. A file is the process's own, so it need not own the submission to write it.
    :param attempt: that it belongs to.
    """

    folder: storage.Folder
    attempt: str
    _token: str = field(default_factory=new_token, init=False)
    _in_flight: list[str] = field(default_factory=list, init=False)
    _answers: int = field(default=0, init=False)
    _written: set[str] = field(default_factory=set, init=False)

    def note_asked(self, custom_id: str) -> None:
        """Write down that a request is about to be asked.

        :raises OSError: the storage refuses. The request must not be asked.
        """
        self._in_flight.append(custom_id)
        if storage.appends(self.folder):
            self._append(self.folder, _asked_line(custom_id))
        else:
            storage.write(self.folder, self._name("-asked"), b"".join(map(_asked_line, self._in_flight)))

    def note_answer(self, custom_id: str, line: bytes) -> None:
        """Write down an answer, durably.

        :param line: in the form of a message batch's results, without a newline.
        :raises OSError: the storage refuses. No other request may be asked.
        """
        line += b"\n"
        if storage.appends(self.folder):
            self._append(self.folder, line)
        else:
            self._answers += 1
            storage.write(self.folder, self._name(f"-{self._answers}"), line)
        if custom_id in self._in_flight:
            self._in_flight.remove(custom_id)

    def start_anew(self) -> list[str]:
        """Go on in other files, because what was written so far is landed. Return the files that may be removed."""
        names = sorted(self._written)
        self._written.clear()
        self._in_flight.clear()
        self._token, self._answers = new_token(), 0
        return names

    def _append(self, folder: storage.LocalFolder, line: bytes) -> None:
        try:
            folder.append(self._name(), line)
        except OSError:
            self._token = new_token()  # the file may end with half a line, to which nothing can be added
            raise

    def _name(self, suffix: str = "") -> str:
        name = f"{_PREFIX}{self.attempt}-{self._token}{suffix}.jsonl"
        self._written.add(name)
        return name


def read_journals(folder: storage.Folder, attempts: Collection[str]) -> Journaled:
    """Read the journals of these attempts. A line that was cut off when its process ended is left out.

    :raises OSError: the storage cannot be read.
    """
    names = sorted(name for name in folder.names() if _attempt_of(name) in attempts)
    asked, answers = dict[str, None](), dict[bytes, str]()
    for name in names:
        for raw in (storage.read(folder, name) or b"").splitlines():
            line = _decode(raw)
            if line.asked is not None:
                asked[line.asked] = None
            elif line.custom_id is not None and bytes(line.result):
                answers[raw] = line.custom_id
    answered = set(answers.values())
    return Journaled(tuple(answers), tuple(id_ for id_ in asked if id_ not in answered), tuple(names))


def remove_journals(folder: storage.Folder, names: Iterable[str]) -> None:
    """Remove files of journals, once their answers are landed. What cannot be removed is only read once more."""
    for name in names:
        with contextlib.suppress(OSError):
            folder.remove(name)


def remove_all_journals(folder: storage.Folder) -> None:
    """Remove the files of all journals, because their answers are landed or not wanted.

    Temporary files of writers that were killed go, too.

    :raises OSError: the storage cannot be read, or a temporary file cannot be removed.
    """
    remove_journals(folder, journal_names(folder))
    folder.remove_temporary_files(_PREFIX)


def journal_names(folder: storage.Folder) -> Iterator[str]:
    """Yield the files of all journals, whatever attempt has written them.

    :raises OSError: the storage cannot be read.
    """
    return (name for name in folder.names() if _attempt_of(name) is not None)


def _attempt_of(name: str) -> str | None:
    found = _NAME.fullmatch(name)
    return found["attempt"] if found else None


def _decode(raw: bytes) -> _Line:
    try:
        return msgspec.json.decode(raw, type=_Line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Line()


def _asked_line(custom_id: str) -> bytes:
    return b'{"asked":%b}\n' % msgspec.json.encode(custom_id)
