"""Begin an attempt at a submission, or resume one after a deferral."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.attempt import Attempt
from airflow_claude_batch.batch.attempt_ledger import ledger_of_attempt
from airflow_claude_batch.batch.input.earlier_forms import EarlierInput, contents_of
from airflow_claude_batch.batch.input.earlier_requests import keep_earlier_requests
from airflow_claude_batch.batch.input.kept_columns import remove_other_columns
from airflow_claude_batch.batch.input.output_schema import OutputSchema, write_schema
from airflow_claude_batch.batch.input.request_file import RequestFile, open_requests
from airflow_claude_batch.batch.input.request_index import INDEX_FILE, LEAST_INDEXED_BYTES
from airflow_claude_batch.batch.input.request_lines import REQUESTS_FILE
from airflow_claude_batch.batch.input.request_writer import WriteInput, create_request_file
from airflow_claude_batch.batch.land.landed_parts import has_landed
from airflow_claude_batch.batch.ledger.ledger import Ledger, new_token
from airflow_claude_batch.batch.ledger.record import LedgerRecord, claim_ledger, load_ledger
from airflow_claude_batch.batch.ledger.stores import LedgerStore
from airflow_claude_batch.exceptions import ConfigurationError, SubmissionRecordError


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
        ledger = ledger_of_attempt(known, requests, folder, attempt, kept, reuse_answers=reuses)
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


def _check_writable(folder: storage.Folder) -> None:
    try:
        folder.check_writable()
    except Exception as error:  # object stores raise the errors of their own libraries
        raise ConfigurationError(
            f"{folder.uri('')} cannot be written ({error}).",
            "Nothing was sent.",
            "Set results_path, or [claude_batch] results_path, to a place that every worker may write to.",
        ) from error
