"""Files of what submissions spend on a day: one small file for each change, and its name has the amount.

One listing gives the sums of a day. Invariant: a file is never changed, and none is removed while its day lasts, but
for a reservation that was refused. So a listing that runs while others write misses nothing that was there before it.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.money.day_limit import DaySpending, Entry
from airflow_claude_batch.exceptions import ConfigurationError

log = logging.getLogger(__name__)

#: For how many days the files are kept. Only today's count.
KEPT_DAYS: Final = 8
#: How many old files one reservation removes at most. It writes about two, so that they do not pile up.
REMOVED_AT_ONCE: Final = 10
_NAME: Final = re.compile(
    r"([0-9a-f]{8,64})-([0-9a-f]{1,64})-([0-9]{1,9})-(open|billed)-([0-9]{1,18})-([0-9]{12})\.json"
)
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class DayEntries:
    """Entries of all submissions, day by day.

    :param folder: returns the folder of a day by its name, such as ``2026-11-29``, and the folder of all days for "".
    :param about: says whose entries are written, for people. Stored in each file.
    """

    def __init__(self, folder: Callable[[str], storage.Folder], about: Mapping[str, Any]) -> None:
        self._folder = folder
        self._about = about

    def read(self, day: date) -> list[Entry]:
        """List the entries of a day. Other files count as none.

        :raises OSError: the storage cannot be read.
        """
        return [entry for name in self._folder(day.isoformat()).names() if (entry := entry_of(name)) is not None]

    def load(self, day: date, entry: Entry) -> DaySpending:
        """Read an entry. One that is damaged counts as spent.

        :raises OSError: the storage cannot be read.
        """
        data = storage.read(self._folder(day.isoformat()), name_of(entry))
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, ArithmeticError):
            found = msgspec.json.decode(data or b"", type=DaySpending)
            if found.is_valid and found.micro_usd == entry.micro_usd:
                return found
        return DaySpending(spent_usd=entry.usd)

    def write(self, day: date, entry: Entry, spending: DaySpending) -> None:
        """Add an entry.

        :raises OSError: the storage cannot be written.
        """
        content = {**self._about, **msgspec.structs.asdict(spending)}
        storage.write(self._folder(day.isoformat()), name_of(entry), msgspec.json.encode(content) + b"\n")

    def take_back(self, day: date, entry: Entry) -> None:
        """Remove a reservation that was refused.

        :raises OSError: the storage refuses.
        """
        self._folder(day.isoformat()).remove(name_of(entry))

    def remove_old(self, today: date) -> None:
        """Remove some of the files that are older than ``KEPT_DAYS``. A failure stops nothing."""
        try:
            old = [name for name in self._folder("").names() if _is_old(name, today)]
            if old:
                self._remove_some(self._folder(min(old)))
        except (OSError, ConfigurationError) as error:
            log.warning("Old files of daily spending could not be removed. They do not count any more. %s", error)

    def _remove_some(self, folder: storage.Folder) -> None:
        names = [name for name in folder.names() if entry_of(name) is not None]
        for name in names[:REMOVED_AT_ONCE]:
            folder.remove(name)
        if len(names) <= REMOVED_AT_ONCE and isinstance(folder, storage.LocalFolder):
            with contextlib.suppress(OSError):  # something else is in it
                folder.path.rmdir()


def entry_of(name: str) -> Entry | None:
    """Read the name of a file. None if it is not an entry's."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    dag, submission_id, number, state, micro_usd, written_at = match.groups()
    return Entry(dag, submission_id, int(number), state == "open", int(micro_usd), written_at)


def name_of(entry: Entry) -> str:
    """Return the name of an entry's file.

    >>> name_of(Entry("1f0c5a6b7d8e", "0123456789abcdef", 2, True, 12_500_000, "093005123456"))
    '1f0c5a6b7d8e-0123456789abcdef-2-open-12500000-093005123456.json'
    """
    state = "open" if entry.is_open else "billed"
    parts = (entry.dag, entry.submission_id, str(entry.number), state, str(entry.micro_usd), entry.written_at)
    return f"{'-'.join(parts)}.json"


def time_of_day(now: datetime) -> str:
    """Return the time of day in UTC, as an entry's name has it."""
    return f"{now.astimezone(UTC):%H%M%S%f}"


def _is_old(name: str, today: date) -> bool:
    if not _DAY.fullmatch(name):
        return False
    with contextlib.suppress(ValueError):
        return today - date.fromisoformat(name) > timedelta(days=KEPT_DAYS)
    return False
