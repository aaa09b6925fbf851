"""Handle further batches of one create call: something on the way to the API has sent its body more than once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.cancel import cancel_batch
from airflow_claude_batch.batch.ledger.ledger import Part, new_token
from airflow_claude_batch.batch.ledger.record import LedgerRecord

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)


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
            answers = msgspec.structs.replace(part, token=new_token()).with_batch(copy)
            record.save(ledger.with_part(answers))
        else:
            record.save(msgspec.structs.replace(ledger, dropped=(*ledger.dropped, copy.id)))
