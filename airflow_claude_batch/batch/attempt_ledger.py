"""Make the ledger that a new attempt begins with: of what earlier ones have sent, it keeps or discards every batch."""

from __future__ import annotations

import logging
from collections.abc import Collection

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.attempt import Attempt
from airflow_claude_batch.batch.direct.journal import remove_all_journals
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.landed_part import DamagedPartError
from airflow_claude_batch.batch.land.landed_parts import has_landed, landed_lines, remove_parts
from airflow_claude_batch.batch.land.manifest import landed_batch_ids
from airflow_claude_batch.batch.land.rows import RESULTS_FILE
from airflow_claude_batch.batch.ledger.approval import Approval, ApprovalState
from airflow_claude_batch.batch.ledger.ledger import PRECEDENCE, VERSION, DirectRecord, Ledger, new_token
from airflow_claude_batch.batch.ledger.part import AnswerUse, Part
from airflow_claude_batch.batch.quantity import quantity

log = logging.getLogger(__name__)


def ledger_of_attempt(
    known: Ledger | None,
    requests: RequestFile,
    folder: storage.Folder,
    attempt: Attempt,
    kept: int | None,
    *,
    reuse_answers: bool,
) -> Ledger:
    """Make the new attempt's ledger from the known one. Every batch in it is kept, or marked as discarded.

    Rows in the folder that are not the new attempt's are copied to a file of their own.

    :param kept: the number of requests that the previous input had too. None if that is not known.
    :param reuse_answers: keep the answers of earlier attempts.
    """
    ledger = Ledger(
        version=VERSION,
        submission_id=attempt.submission_id,
        input_digest=requests.digest,
        attempt=new_token(),
        attempt_began_at=attempt.now,
        try_number=attempt.try_number,
        generation=attempt.generation,
        clear_mark=attempt.clear_mark or msgspec.UNSET,
        precedence=known.precedence if known and reuse_answers else PRECEDENCE,
        adopted=(known and known.adopted_open) or msgspec.UNSET,
    )
    if not reuse_answers:
        _clear_folder(folder, known)
        return msgspec.structs.replace(ledger, parts=_unlanded_parts(known, AnswerUse.DISCARD))
    if known is None:
        return ledger
    known = known.with_landed(landed_batch_ids(folder), None)
    if known.input_digest == requests.digest:
        known = known.with_sample_ended()
    known = known.archive_landed()
    if known.archived_batch_ids and not has_landed(folder):
        known = _reopen_archived(known, attempt)
    if known.input_digest == requests.digest:
        return _with_same_input(ledger, known, attempt)
    _log_changed_input(known, attempt, kept, len(requests))
    _back_up_rows(folder, known)
    return _with_changed_input(ledger, known, attempt, kept, len(requests))


def _clear_folder(folder: storage.Folder, known: Ledger | None) -> None:
    """Remove rows and journals from the folder, because everything is asked anew. The rows are backed up."""
    if _back_up_rows(folder, known):
        storage.write(folder, RESULTS_FILE, b"")
        remove_parts(folder, must=True)
    if known is not None and known.direct:
        remove_all_journals(folder)


def _with_same_input(ledger: Ledger, known: Ledger, attempt: Attempt) -> Ledger:
    """Take over everything that is known of the same requests."""
    return msgspec.structs.replace(
        ledger,
        parts=known.parts,
        archived_batch_ids=known.archived_batch_ids,
        archived_counts=known.archived_counts,
        dropped=known.dropped,
        created_at=known.created_at,
        ended_at=known.ended_at,
        unread_batches=known.unread_batches,
        deleted=known.deleted,
        approval=_approval_of_attempt(known, attempt),
        direct=_direct_of_attempt(known, attempt, ledger.attempt),
        earlier_estimate=known.first_estimate or msgspec.UNSET,
    )


def _with_changed_input(ledger: Ledger, known: Ledger, attempt: Attempt, kept: int | None, count: int) -> Ledger:
    """Take over the batches of another input. If no request is unchanged, their answers are discarded.

    :param kept: the number of requests that the previous input had too. None if that is not known.
    :param count: the number of requests.
    """
    use = AnswerUse.DISCARD if kept == 0 else AnswerUse.PREVIOUS_INPUT
    known = known.archive_landed(keep_missing=use != AnswerUse.DISCARD)
    return msgspec.structs.replace(
        ledger,
        parts=_unlanded_parts(known, use, kept=known.adopted_open),
        archived_batch_ids=known.archived_batch_ids,
        archived_counts=known.archived_counts,
        dropped=known.dropped,
        unread_batches=known.unread_batches,
        deleted=known.deleted,
        direct=_direct_of_attempt(known, attempt, ledger.attempt),
        earlier_estimate=(kept == count and known.first_estimate) or msgspec.UNSET,
    )


def _approval_of_attempt(known: Ledger, attempt: Attempt) -> Approval | msgspec.UnsetType:
    """Return what the new attempt keeps of the question. After a rejection only a clear asks again."""
    if not known.approval or not known.approval.is_refused or not attempt.follows_clear(known):
        return known.approval
    sampled = known.approval.sampled
    if not sampled:
        return msgspec.UNSET
    return Approval(input=known.input_digest, state=ApprovalState.SAMPLED, sampled=sampled)


def _direct_of_attempt(known: Ledger, attempt: Attempt, name: str) -> DirectRecord | msgspec.UnsetType:
    """Return what the new attempt keeps of asking directly.

    It goes on at once if the earlier one was killed meanwhile. After another end, or a clear, it begins with batches.

    :param name: of the new attempt.
    """
    if not known.direct or not known.asks_directly or attempt.follows_clear(known):
        return known.direct and msgspec.structs.replace(known.direct, began_at=None, lost=())
    return msgspec.structs.replace(known.direct, attempts=(*known.direct.attempts, name), lost=())


def _reopen_archived(known: Ledger, attempt: Attempt) -> Ledger:
    """Make open parts of the archived batches. Their rows are gone from the folder, but paid for."""
    log.warning(
        "The landed rows are gone from the folder. The results of these message batches are downloaded again, at no "
        "cost: %s.",
        ", ".join(known.archived_batch_ids),
    )
    reopened = tuple(
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
    return msgspec.structs.replace(known, parts=(*reopened, *known.parts), archived_batch_ids=())


def _unlanded_parts(known: Ledger | None, answers: AnswerUse, *, kept: Collection[str] = ()) -> tuple[Part, ...]:
    """Return the parts that are not landed as a whole, with the new use of their answers.

    What was discarded stays discarded. A landed part without all of its rows is read again: in another input nobody
    knows which of its requests must not be sent again.

    :param kept: batches that a person has brought in. They may answer requests that the previous input did not have.
    """
    parts = known.parts if known else ()
    return tuple(
        msgspec.structs.replace(part, answers=AnswerUse.PREVIOUS_INPUT)
        if part.batch_id in kept
        else part
        if part.answers == AnswerUse.DISCARD
        else msgspec.structs.replace(part, answers=answers, landed=False, missing=0)
        for part in parts
        if not part.landed or (part.missing and answers != AnswerUse.DISCARD)
    )


def _log_changed_input(known: Ledger, attempt: Attempt, kept: int | None, count: int) -> None:
    """Say what a changed input costs. Warn if a retry has changed most of it: that pays for everything again."""
    if kept is None:
        log.info(
            "The input has changed since the last attempt, whose requests cannot be read. Answers to requests that are "
            "still asked are kept, if there are any."
        )
        return
    if known.batch_ids and not attempt.follows_clear(known) and 2 * kept < count:
        log.warning(
            "%s of %s changed since the last try, although nobody cleared the task. %s sent and paid for again, and so "
            "on each further try. A template that renders differently each time does this, such as now() or a random "
            "value. Use values that stay the same for a run, such as {{ ts }} or {{ run_id }}.",
            f"{count - kept:,}",
            quantity(count, "request"),
            "It is" if count - kept == 1 else "They are",
        )
    elif kept:
        text = "The input has changed since the last attempt. %s of %s unchanged; answers to these are kept."
        log.info(text, f"{kept:,}", f"{quantity(count, 'request')} {'is' if kept == 1 else 'are'}")
    else:
        log.info("The input has changed since the last attempt. No request is unchanged, so no answer is kept.")


def _back_up_rows(folder: storage.Folder, known: Ledger | None) -> bool:
    """Copy the rows of another input or an earlier clear to a file of their own: they were paid for.

    Return whether there were rows.
    """
    name = f"results-{known.attempt if known else new_token()}.jsonl"
    while True:
        try:
            return _copy_rows(folder, name)
        except DamagedPartError as error:  # only its owner may drop it, so that the rest can be read
            log.warning("%s", error)
            error.part.drop()


def _copy_rows(folder: storage.Folder, name: str) -> bool:
    with landed_lines(folder) as lines:
        if lines is None:
            return False
        if (first := next(lines, None)) is not None:
            with folder.replace_file(name) as backup:
                backup.write(first)
                backup.writelines(lines)
            log.info("The rows that were landed before are kept as %s.", folder.uri(name))
    return True
