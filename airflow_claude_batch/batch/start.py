"""Begin an attempt at a submission, or resume one after a deferral."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.direct.journal import journal_names, remove_journals
from airflow_claude_batch.batch.input.earlier_forms import EarlierInput, contents_of
from airflow_claude_batch.batch.input.earlier_requests import keep_earlier_requests
from airflow_claude_batch.batch.input.kept_columns import remove_other_columns
from airflow_claude_batch.batch.input.output_schema import OutputSchema, write_schema
from airflow_claude_batch.batch.input.request_file import RequestFile, open_requests
from airflow_claude_batch.batch.input.request_index import INDEX_FILE, LEAST_INDEXED_BYTES
from airflow_claude_batch.batch.input.request_lines import REQUESTS_FILE
from airflow_claude_batch.batch.input.request_writer import WriteInput, create_request_file
from airflow_claude_batch.batch.land.landed_part import DamagedPartError
from airflow_claude_batch.batch.land.landed_parts import has_landed, landed_lines, remove_parts
from airflow_claude_batch.batch.land.manifest import landed_batch_ids
from airflow_claude_batch.batch.land.rows import RESULTS_FILE
from airflow_claude_batch.batch.ledger.approval import Approval, ApprovalState
from airflow_claude_batch.batch.ledger.ledger import PRECEDENCE, VERSION, DirectRecord, Ledger, new_token
from airflow_claude_batch.batch.ledger.part import AnswerUse, Part
from airflow_claude_batch.batch.ledger.record import LedgerRecord, claim_ledger, load_ledger
from airflow_claude_batch.batch.ledger.stores import LedgerStore
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import ConfigurationError, SubmissionRecordError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a task instance.

    :param submission_id: names the task instance; the same for all of its tries.
    :param try_number: Airflow's number of the try.
    :param generation: number that grows with most clears of the task, but not with its retries.
    :param now: when the attempt begins. Its timeout counts from here.
    :param clear_mark: what changes with every clear, but not with a retry: its kind, a space and its value. None if
        this Airflow has none.
    """

    submission_id: str
    try_number: int
    generation: int
    now: datetime
    clear_mark: str | None = None

    def follows_clear(self, known: Ledger) -> bool:
        """Return True if the task was cleared since the known attempt. If that is not certain, it was a retry.

        A retry that counts as a clear would pay for everything again.
        """
        if known.generation != self.generation:
            return True
        if known.clear_mark is msgspec.UNSET or self.clear_mark is None:
            return False
        kind, _, mark = self.clear_mark.partition(" ")
        known_kind, _, known_mark = known.clear_mark.partition(" ")
        return kind == known_kind and mark != known_mark


def resume_attempt(
    store: LedgerStore, folder: storage.Folder, attempt: Attempt, scratch: Path
) -> tuple[LedgerRecord, RequestFile] | None:
    """Continue this attempt after a deferral, without reading the input again.

    :param scratch: directory for a local copy of the requests that are read.
    :return: the ledger and the requests. None if the attempt must begin anew, because another one has begun since, or
        because the rows or the requests are missing from the folder.
    :raises SubmissionRecordError: the ledger or the requests cannot be read.
    """
    known = load_ledger(store)
    if known is None or known.try_number != attempt.try_number or known.generation != attempt.generation:
        return None
    if known.landed_batch_ids and not has_landed(folder):
        return None
    requests = open_requests(folder, scratch, digest=known.input_digest)
    if requests is None:
        return None
    if requests.digest != known.input_digest:
        requests.close()
        return None
    return LedgerRecord(store, known), requests


def read_earlier_input(
    store: LedgerStore, folder: storage.Folder, attempt: Attempt, scratch: Path, *, reuse_answers: bool
) -> EarlierInput:
    """Tell which requests earlier attempts wrote, if this attempt keeps their answers.

    :raises ConfigurationError: the ledger cannot be read, and the submission's folder cannot be written either.
    :raises SubmissionRecordError: there is a ledger, but it cannot be read.
    """
    try:
        known = load_ledger(store)
    except SubmissionRecordError:
        _check_writable(folder)
        raise
    if known is None or not _keeps_answers(known, attempt, reuse_answers=reuse_answers):
        return EarlierInput()

    def read_contents() -> frozenset[bytes]:
        earlier = _open_earlier(folder, scratch)
        if earlier is None:
            return frozenset()
        with earlier:
            return contents_of(earlier)

    return EarlierInput(read_contents, has_earlier_forms=known.precedence is msgspec.UNSET)


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
    """Begin an attempt: read the input, and take over what earlier attempts have left.

    :param write_input: writes the requests and their index.
    :param scratch: local directory for these files.
    :param reuse_answers: keep the answers of earlier attempts. If false, a clear sends everything again.
    :param output_schema: schema that the answers must match. It is stored for the task that lands them.
    :return: the ledger, owned by this attempt, and the requests. The caller closes the requests.
    :raises InputError: the input cannot be sent.
    :raises ConfigurationError: the submission's folder cannot be written.
    :raises SubmissionRecordError: there is a ledger, but it cannot be read.
    :raises SubmissionTakenOverError: another attempt began at the same time.
    """
    path = scratch / REQUESTS_FILE
    requests = create_request_file(path, write_input)
    try:
        _check_writable(folder)
        claim_ledger(store)
        known = load_ledger(store)
        reuses = reuse_answers if known is None else _keeps_answers(known, attempt, reuse_answers=reuse_answers)
        kept = None
        if known is not None and reuses and known.input_digest != requests.digest:
            requests, kept = _compare_with_earlier(requests, path, folder, scratch)
        ledger = _ledger_of_attempt(known, requests, folder, attempt, kept, reuse_answers=reuses)
        if output_schema is not None:
            write_schema(folder, output_schema)
        _publish_requests(requests, path, folder)
        record = LedgerRecord.take_over(store, ledger)
    except BaseException:
        requests.close()
        raise
    return record, requests


def _keeps_answers(known: Ledger, attempt: Attempt, *, reuse_answers: bool) -> bool:
    """Return whether the attempt keeps what earlier ones have sent: always, if a person has brought in a batch."""
    return reuse_answers or not attempt.follows_clear(known) or bool(known.adopted_open)


def _publish_requests(requests: RequestFile, path: Path, folder: storage.Folder) -> None:
    """Write the requests to the folder, and beside them their kept columns and the index of a large file.

    Written even if they are there: they may be damaged, and the error for that says to begin a new attempt.
    """
    folder.remove(INDEX_FILE)  # an index of earlier requests never lies beside new ones
    requests_digest = requests.index.content.digest
    if requests.kept is not None:
        requests.kept.publish(folder, requests_digest)
    with path.open("rb") as source, folder.replace_file(REQUESTS_FILE) as file:
        shutil.copyfileobj(source, file, 1 << 20)
    if requests.index.content.size > LEAST_INDEXED_BYTES:
        requests.index.copy_to(folder)
    remove_other_columns(folder, None if requests.kept is None else requests_digest)


def _ledger_of_attempt(
    known: Ledger | None,
    requests: RequestFile,
    folder: storage.Folder,
    attempt: Attempt,
    kept: int | None,
    *,
    reuse_answers: bool,
) -> Ledger:
    """Make the new attempt's ledger from the known one. Every batch in it is kept, or marked as discarded.

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
        if _back_up_rows(folder, known):
            storage.write(folder, RESULTS_FILE, b"")
            remove_parts(folder, must=True)
        if known is not None and known.direct:
            remove_journals(folder, journal_names(folder))
        return msgspec.structs.replace(ledger, parts=_unlanded_parts(known, AnswerUse.DISCARD))
    if known is None:
        return ledger
    known = known.with_landed(landed_batch_ids(folder), None)
    if known.input_digest == requests.digest:
        known = known.with_sample_ended()
    known = known.archive_landed()
    if known.archived_batch_ids and not has_landed(folder):
        known = _reopen_archived(known, attempt)
    if known.input_digest != requests.digest:
        use = AnswerUse.DISCARD if kept == 0 else AnswerUse.PREVIOUS_INPUT
        known = known.archive_landed(keep_missing=use != AnswerUse.DISCARD)
        _log_changed_input(known, attempt, kept, len(requests))
        _back_up_rows(folder, known)
        return msgspec.structs.replace(
            ledger,
            parts=_unlanded_parts(known, use, kept=known.adopted_open),
            archived_batch_ids=known.archived_batch_ids,
            archived_counts=known.archived_counts,
            dropped=known.dropped,
            unread_batches=known.unread_batches,
            deleted=known.deleted,
            direct=_direct_of_attempt(known, attempt, ledger.attempt),
            earlier_estimate=(kept == len(requests) and known.first_estimate) or msgspec.UNSET,
        )
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


def _compare_with_earlier(
    requests: RequestFile, path: Path, folder: storage.Folder, scratch: Path
) -> tuple[RequestFile, int | None]:
    """Compare the requests with the previous input.

    :param path: the file of the requests. It is replaced if requests of the previous input are in it with their keys in
        another order.
    :return: the requests, and how many of them the previous input had. None if it cannot be read.
    """
    earlier = _open_earlier(folder, scratch)
    if earlier is None:
        return requests, None
    with earlier:
        rewritten = path.with_name(f"{new_token()}-{REQUESTS_FILE}")
        if keep_earlier_requests(requests, earlier, rewritten):
            requests.close()
            rewritten.replace(path)
            requests = RequestFile(path, verify=False, kept=requests.kept)
        hashes = {earlier.hash(index) for index in range(len(earlier))}
    return requests, sum(requests.hash(index) in hashes for index in range(len(requests)))


def _open_earlier(folder: storage.Folder, scratch: Path) -> RequestFile | None:
    """Open the requests of the previous input. None if they are missing, or cannot be read."""
    path = storage.local_copy(folder, REQUESTS_FILE, scratch)
    try:
        return None if path is None else RequestFile(path)
    except SubmissionRecordError:
        return None


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


def _check_writable(folder: storage.Folder) -> None:
    try:
        folder.check_writable()
    except Exception as error:  # object stores raise the errors of their own libraries
        raise ConfigurationError(
            f"{folder.uri('')} cannot be written ({error}).",
            "Nothing was sent.",
            "Set results_path, or [claude_batch] results_path, to a place that every worker may write to.",
        ) from error
