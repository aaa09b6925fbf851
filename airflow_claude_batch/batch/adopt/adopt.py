"""Bring a message batch into the submission of a task: plan it, and then write it into the ledger.

The plan only reads. It compares the batch's results with the requests of the submission, so it needs no ledger. What is
written is one ledger, under the rules by which attempts of a task take it over: claim, read, save. A crash in between
leaves the ledger as it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from airflow_claude_batch.api.evidence import Proof, proof_of
from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.adopt.change_ledger import (
    Standing,
    empty_ledger,
    standing_of,
    with_adopted,
    with_expected,
)
from airflow_claude_batch.batch.adopt.compare import Comparison, compare_results
from airflow_claude_batch.batch.adopt.refusals import (
    check_comparison,
    check_ended,
    missing_batch_error,
    missing_results_error,
)
from airflow_claude_batch.batch.input.request_file import open_requests
from airflow_claude_batch.batch.land.landed_part import DamagedPartError
from airflow_claude_batch.batch.land.landed_parts import landed_lines
from airflow_claude_batch.batch.land.manifest import load_manifest
from airflow_claude_batch.batch.land.match_requests import SubmissionMatcher
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.ledger.record import LedgerRecord, claim_ledger, load_ledger
from airflow_claude_batch.batch.ledger.stores import LedgerStore
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import NotFoundError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

#: The next attempt lands such a batch, or has done so. There is nothing to do.
DONE = frozenset({Standing.LANDED, Standing.EXPECTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptionPlan:
    """What an adoption would do.

    :param standing: what the ledger knows of the batch.
    :param comparison: None if there is nothing to do.
    :param has_ledger: False if the submission's ledger is lost. Then it gets a new one.
    :param input_digest: identifies the requests. Empty if they are lost.
    """

    batch_id: str
    standing: Standing
    has_ledger: bool
    batch: MessageBatch | None = None
    comparison: Comparison | None = None
    input_digest: str = ""

    @property
    def is_done(self) -> bool:
        """Return True if there is nothing to do."""
        return self.standing in DONE


def plan_adoption(
    batch_id: str,
    store: LedgerStore,
    folder: storage.Folder,
    client: ClaudeClient,
    prices: PriceTable,
    scratch: Path,
    *,
    on_row: Callable[[int], None] = lambda _: None,
) -> AdoptionPlan:
    """Read everything that an adoption depends on, and check that it may be done. Changes nothing.

    :param store: the ledger of the task instance's submission.
    :param folder: the submission's folder.
    :param scratch: local directory for copies of what is read.
    :param on_row: called with the number of result rows read so far.
    :raises AdoptionError: the batch cannot be adopted. The message says why, and what to do instead.
    :raises SubmissionRecordError: the ledger or the requests cannot be read.
    :raises APIError: the API cannot be asked just now.
    """
    known = load_ledger(store)
    standing = standing_of(known, batch_id)
    if standing in DONE:
        return AdoptionPlan(batch_id=batch_id, standing=standing, has_ledger=True)
    batch = _retrieve(client, batch_id)
    check_ended(batch, has_open_creates=known is not None and bool(known.intents))
    comparison, digest = _compare(client, batch, folder, prices, scratch, on_row)
    check_comparison(batch, comparison)
    return AdoptionPlan(
        batch_id=batch_id,
        standing=standing_of(known, batch_id, comparison.tokens),
        has_ledger=known is not None,
        batch=batch,
        comparison=comparison,
        input_digest=digest,
    )


def adopt(plan: AdoptionPlan, store: LedgerStore, folder: storage.Folder, *, submission_id: str, now: datetime) -> bool:
    """Write the batch into the ledger, so that the next attempt lands its answers. Return False if it was there.

    The caller makes sure that the task instance does not run meanwhile.

    :param store: must not have read or claimed the ledger before.
    :raises SubmissionTakenOverError: an attempt of the task began at the same time.
    :raises SubmissionRecordError: the ledger cannot be read or written.
    """
    if plan.batch is None or plan.comparison is None:
        return False
    claim_ledger(store)
    known = load_ledger(store)
    if standing_of(known, plan.batch_id) in DONE:
        return False
    if known is None:
        known = _rebuilt_ledger(plan, folder, submission_id, now)
        if standing_of(known, plan.batch_id) is Standing.LANDED:
            LedgerRecord.take_over(store, known)
            return False
    LedgerRecord.take_over(store, with_adopted(known, plan.batch, plan.comparison.tokens, now=now))
    return True


def _retrieve(client: ClaudeClient, batch_id: str) -> MessageBatch:
    try:
        return client.retrieve_batch(batch_id)
    except NotFoundError as error:
        if proof_of(error) is not Proof.DOES_NOT_EXIST:
            raise
        raise missing_batch_error(batch_id) from error


def _compare(
    client: ClaudeClient,
    batch: MessageBatch,
    folder: storage.Folder,
    prices: PriceTable,
    scratch: Path,
    on_row: Callable[[int], None],
) -> tuple[Comparison, str]:
    """Compare the batch's results with the requests in the folder. Return that, and what identifies the requests."""
    requests = open_requests(folder, scratch)
    try:
        if requests is None:
            return compare_results(client, batch, None, prices, on_row=on_row), ""
        with requests:
            matcher = SubmissionMatcher(requests)
            return compare_results(client, batch, matcher, prices, on_row=on_row), requests.digest
    except NotFoundError as error:
        if proof_of(error) is not Proof.DOES_NOT_EXIST:
            raise
        raise missing_results_error(batch) from error


def _rebuilt_ledger(plan: AdoptionPlan, folder: storage.Folder, submission_id: str, now: datetime) -> Ledger:
    """Return a ledger with the batches that the folder names.

    Those of rows that the manifest calls landed are. The others are read again, at no cost: perhaps not all of their
    rows came. A batch that was given up has no rows, and is left out.
    """
    manifest = load_manifest(folder)
    named, landed = ([], []) if manifest is None else (manifest.batch_ids, manifest.landed_batch_ids)
    with_rows = _batches_of_rows(folder)
    open_ids = dict.fromkeys(id_ for id_ in (*with_rows, *named) if id_ not in landed and id_ != plan.batch_id)
    archived = [id_ for id_ in with_rows if id_ in landed]
    return with_expected(empty_ledger(submission_id, plan.input_digest, now), archived, [*open_ids], now=now)


class _Row(msgspec.Struct):
    batch_id: str | None = None


def _batches_of_rows(folder: storage.Folder) -> list[str]:
    """Return the batches whose answers are in the landed rows. A row that cannot be read names none."""
    found: dict[str, None] = {}
    decode = msgspec.json.Decoder(_Row).decode
    with contextlib.suppress(DamagedPartError), landed_lines(folder) as lines:
        for line in lines or ():
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                found.setdefault(decode(line).batch_id or "")
    return [batch_id for batch_id in found if batch_id]
