"""Handle further batches of one create call: something on the way to the API has sent its body more than once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.cancel import cancel_batch
from airflow_claude_batch.batch.input.custom_id import has_token
from airflow_claude_batch.batch.ledger.ledger import new_token
from airflow_claude_batch.batch.ledger.part import AnswerUse, Part
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.recover.peeked import PeekedBatches
from airflow_claude_batch.batch.recover.search import list_batches_since
from airflow_claude_batch.exceptions import APIError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)

#: A proxy sends a call again when it has waited for a response: 600 s at most, as far as is known, and some more.
_LONGEST_DELAY: Final = timedelta(minutes=15)
#: Batches of others that are read for one part. It is a look that costs little, not a search.
_MOST_PEEKS: Final = 20


def find_copies(
    record: LedgerRecord,
    client: ClaudeClient,
    part: Part,
    *,
    clock: Callable[[], datetime],
    api: str,
    peeked: PeekedBatches,
) -> bool:
    """Look for further batches of a part whose create call succeeded, because they may have answers that it lacks.

    A failure is only logged: the look is worth little, and the answers of a copy are paid for in any case.

    :return: whether there are any. They are in the ledger then.
    """
    if part.created_at is None or part.batch_id is None:
        return False
    try:
        listing = list_batches_since(client, part, clock=clock)
        near = [
            listing.by_id[batch.batch_id]
            for batch in listing.batches
            if batch.ended
            and batch.request_count == part.count
            and batch.batch_id not in record.ledger.batch_ids
            and abs(batch.created_at - part.created_at) <= _LONGEST_DELAY
        ]
        copies = [
            batch
            for batch in islice(near, _MOST_PEEKS)
            if has_token(peeked.read(client, api, batch.id, batch.created_at) or "", part.token)
        ]
    except APIError as error:
        log.info("Further batches of the create call of %s were not looked for. %s", part.batch_id, error)
        return False
    if copies and part.batch_id in listing.by_id:
        keep_copies(record, client, part, listing.by_id[part.batch_id], copies)
    return bool(copies)


def keep_copies(
    record: LedgerRecord, client: ClaudeClient, part: Part, kept: MessageBatch, copies: Sequence[MessageBatch]
) -> None:
    """Cancel further batches of the part, and record them: as parts if they may have answers that ``kept`` lacks.

    :param kept: the batch that the part has.
    :param copies: other batches with the part's token.
    """
    for copy in copies:
        log.warning(
            "Message batch %s holds the same requests as %s: a proxy or gateway on the way to the API sent one create "
            "call twice. What both answer is billed. Turn its retries of POST requests off.",
            copy.id,
            kept.id,
        )
        if not copy.ended:
            cancel_batch(client, copy.id)
        ledger = record.ledger
        if kept.request_counts.succeeded < part.count and (copy.request_counts.succeeded or not copy.ended):
            # Its custom_ids have the part's token, so its rows are matched by their content.
            use = AnswerUse.PREVIOUS_INPUT if part.answers == AnswerUse.CURRENT else part.answers
            answers = msgspec.structs.replace(part, token=new_token(), answers=use, landed=False)
            record.save(ledger.with_part(answers.with_batch(copy)))
        else:
            record.save(msgspec.structs.replace(ledger, dropped=(*ledger.dropped, copy.id)))
