"""Land the answers that earlier processes have left in their journals of direct requests."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.direct.journal import read_journals, remove_journals
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.odd_lines import OddLine
from airflow_claude_batch.batch.land.parse_result import NO_BATCH
from airflow_claude_batch.batch.land.place_odd_lines import UNREADABLE_FILE
from airflow_claude_batch.batch.ledger.ledger import DirectRecord
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.result_collector import ResultCollector
from airflow_claude_batch.exceptions import MalformedResponseError, ResultsError

log = logging.getLogger(__name__)


def take_over_journals(
    record: LedgerRecord, folder: storage.Folder, landing: Landing, collector: ResultCollector
) -> None:
    """Land the answers that are in the journals of this attempt and of earlier ones, and tell what was lost.

    :param folder: the submission's. It checks who owns the submission.
    :raises ResultsError: the storage refuses.
    """
    direct = record.ledger.direct
    if not direct:
        return
    with _reading(folder):
        found = read_journals(folder, direct.attempts)
    if not found.names:
        return
    for line in found.answers:
        _land(line, landing, folder)
    collector.note_new_rows()
    collector.publish()
    _note_unseen(record, direct, found.in_flight)
    _log_found(len(found.answers), len(found.in_flight))
    remove_journals(folder, found.names)


def _land(line: bytes, landing: Landing, folder: storage.Folder) -> None:
    """Land an answer. One in an unknown form, perhaps of a later release, is kept as it is."""
    try:
        landing.read_direct(line)
    except MalformedResponseError as error:
        landing.leftover.setdefault(NO_BATCH, []).append(OddLine(line, "it is not a result"))
        log.warning(
            "An answer in the journal of direct requests cannot be read (%s). It is paid for, and kept in %s. Its "
            "request is asked and paid for again.",
            error.summary,
            folder.uri(UNREADABLE_FILE),
        )


def _note_unseen(record: LedgerRecord, direct: DirectRecord, in_flight: Sequence[str]) -> None:
    """Note which requests were in flight when an earlier process ended."""
    known = dict.fromkeys((*direct.unseen, *in_flight))
    if tuple(known) != direct.unseen:
        changed = msgspec.structs.replace(direct, unseen=tuple(known))
        record.save(msgspec.structs.replace(record.ledger, direct=changed))


def _log_found(answers: int, in_flight: int) -> None:
    log.warning(
        "An earlier process of this task was asking requests directly when it ended. %s of it %s landed, and not "
        "asked again. %s in flight then: %s may have been answered and paid for, and %s.",
        quantity(answers, "answer"),
        "is" if answers == 1 else "are",
        f"{quantity(in_flight, 'request')} {'was' if in_flight == 1 else 'were'}",
        "it" if in_flight == 1 else "they",
        "is asked, and then paid for, again" if in_flight == 1 else "are asked, and then paid for, again",
    )


@contextlib.contextmanager
def _reading(folder: storage.Folder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResultsError(
            f"The journal of direct requests in {folder.uri('')} could not be read ({error}).",
            "Nothing is asked or sent now: answers that are paid for are in it.",
            "Make sure that the storage can be read, then retry the task.",
        ) from error
