"""Taking a submission up: new, again after a crash or a clear, or in the middle after a deferral."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.input.output_schema import OutputSchema, write_schema
from airflow_claude_batch.batch.input.request_file import REQUESTS_FILE, RequestFile
from airflow_claude_batch.batch.land.manifest import landed_batch_ids
from airflow_claude_batch.batch.land.rows import RESULTS_FILE
from airflow_claude_batch.batch.ledger.ledger import VERSION, AnswerUse, Ledger, Part, new_token
from airflow_claude_batch.batch.ledger.record import LedgerRecord, claim_ledger, load_ledger
from airflow_claude_batch.batch.ledger.stores import LedgerStore
from airflow_claude_batch.exceptions import ConfigurationError, SubmissionRecordError

log = logging.getLogger(__name__)

#: Writes the submission's requests to a file (see ``requests.write_requests``).
WriteInput = Callable[[IO[bytes]], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Which attempt of which task instance this is. ``generation`` grows with every clear, not with retries."""

    submission_id: str
    try_number: int
    generation: int
    now: datetime


def resume_attempt(
    store: LedgerStore, folder: storage.Folder, attempt: Attempt, scratch: Path
) -> tuple[LedgerRecord, RequestFile] | None:
    """Go on with this attempt after a deferral; None if it is not the one that was under way."""
    known = load_ledger(store)
    if known is None or known.try_number != attempt.try_number or known.generation != attempt.generation:
        return None
    if known.landed_batch_ids and not _has_rows(folder):
        return None
    path = storage.local_copy(folder, REQUESTS_FILE, scratch)
    if path is None:
        return None
    requests = RequestFile(path)
    if requests.digest != known.input_digest:
        requests.close()
        return None
    return LedgerRecord(store, known), requests


def begin_attempt(
    store: LedgerStore,
    folder: storage.Folder,
    attempt: Attempt,
    write_input: WriteInput,
    scratch: Path,
    *,
    reuse_answers: bool,
    output_schema: OutputSchema | None = None,
) -> tuple[LedgerRecord, RequestFile]:
    """Begin an attempt: read the input, and take over whatever earlier attempts have left.

    :param output_schema: what the answers to the input must satisfy, for whoever lands them.
    :raises InputError: the input cannot be sent.
    :raises ConfigurationError: the submission's folder cannot be written.
    :raises SubmissionRecordError: there is a ledger, but it cannot be read.
    """
    path = scratch / REQUESTS_FILE
    with path.open("wb", buffering=storage.BUFFER_BYTES) as file:
        write_input(file)
    requests = RequestFile(path, verify=False)
    try:
        _check_writable(folder)
        claim_ledger(store)
        known = load_ledger(store)
        ledger = _taken_over(known, requests, folder, attempt, scratch, reuse_answers=reuse_answers)
        if output_schema is not None:
            write_schema(folder, output_schema)
        # Also when it is there already: it may be damaged, and whoever says so says that this mends it.
        with path.open("rb") as source, folder.replace_file(REQUESTS_FILE) as file:
            shutil.copyfileobj(source, file, 1 << 20)
        record = LedgerRecord.take_over(store, ledger)
    except BaseException:
        requests.close()
        raise
    return record, requests


def _taken_over(
    known: Ledger | None,
    requests: RequestFile,
    folder: storage.Folder,
    attempt: Attempt,
    scratch: Path,
    *,
    reuse_answers: bool,
) -> Ledger:
    ledger = Ledger(
        version=VERSION,
        submission_id=attempt.submission_id,
        input_digest=requests.digest,
        attempt=new_token(),
        attempt_began_at=attempt.now,
        try_number=attempt.try_number,
        generation=attempt.generation,
    )
    if not reuse_answers and (known is None or known.generation != attempt.generation):
        _set_aside(folder, known)
        return msgspec.structs.replace(ledger, parts=_for(known, AnswerUse.DISCARD))
    if known is None:
        return ledger
    known = known.with_landed(landed_batch_ids(folder), None).archive_landed()
    if known.archived_batch_ids and not _has_rows(folder):
        known = _reopened(known, attempt)
    if known.input_digest != requests.digest:
        use = AnswerUse.PREVIOUS_INPUT if _shares_content(folder, requests, scratch) else AnswerUse.DISCARD
        log.info("The input has changed since the last attempt; answers to unchanged requests are kept")
        _set_aside(folder, known, copy=True)
        return msgspec.structs.replace(
            ledger, parts=_for(known, use), archived_batch_ids=known.archived_batch_ids, dropped=known.dropped
        )
    return msgspec.structs.replace(
        ledger,
        parts=known.parts,
        archived_batch_ids=known.archived_batch_ids,
        dropped=known.dropped,
        created_at=known.created_at,
        ended_at=known.ended_at,
    )


def _has_rows(folder: storage.Folder) -> bool:
    file = folder.open(RESULTS_FILE)
    if file is not None:
        file.close()
    return file is not None


def _reopened(known: Ledger, attempt: Attempt) -> Ledger:
    """A ledger that expects again the answers of which the landed rows are gone: they were paid for."""
    log.warning("The landed rows are gone; these batches are fetched again: %s", ", ".join(known.archived_batch_ids))
    again = tuple(
        Part(
            token=new_token(),
            first=0,
            last=0,
            count=0,
            size=0,
            attempt=known.attempt,
            round=0,
            intended_at=attempt.now,
            batch_id=batch_id,
            answers=AnswerUse.PREVIOUS_INPUT,
        )
        for batch_id in known.archived_batch_ids
    )
    return msgspec.structs.replace(known, parts=(*again, *known.parts), archived_batch_ids=())


def _for(known: Ledger | None, answers: AnswerUse) -> tuple[Part, ...]:
    """What is still open, with what its answers are good for now."""
    parts = known.parts if known else ()
    return tuple(
        part if part.answers == AnswerUse.DISCARD else msgspec.structs.replace(part, answers=answers)
        for part in parts
        if not part.landed
    )


def _shares_content(folder: storage.Folder, requests: RequestFile, scratch: Path) -> bool:
    """Whether the requests of before and now have any in common; if in doubt, yes."""
    path = storage.local_copy(folder, REQUESTS_FILE, scratch)
    if path is None:
        return True
    try:
        with RequestFile(path, verify=False) as before:
            old = {before.hash(index) for index in range(len(before))}
    except SubmissionRecordError:
        return True
    return any(requests.hash(index) in old for index in range(len(requests)))


def _set_aside(folder: storage.Folder, known: Ledger | None, *, copy: bool = False) -> None:
    """Keep what was landed for another input or an earlier clear under a name of its own: it was paid for."""
    file = folder.open(RESULTS_FILE)
    if file is None:
        return
    name = f"results-{known.attempt if known else new_token()}.jsonl"
    with file:
        if file.read(1):
            file.seek(0)
            with folder.replace_file(name) as aside:
                shutil.copyfileobj(file, aside, 1 << 20)
            log.info("The rows landed before are kept as %s", folder.uri(name))
    if not copy:
        storage.write(folder, RESULTS_FILE, b"")


def _check_writable(folder: storage.Folder) -> None:
    try:
        folder.check_writable()
    except Exception as error:  # object stores raise what their libraries raise
        raise ConfigurationError(
            f"{folder.uri('')} cannot be written ({error}). Nothing was sent. Set results_path, or [claude_batch] "
            "results_path, to a place that the workers may write to."
        ) from error
