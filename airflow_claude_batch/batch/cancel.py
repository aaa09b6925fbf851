"""Cancel a message batch, or delete batches that have ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from airflow_claude_batch.api.evidence import Proof, proof_of
from airflow_claude_batch.exceptions import APIError, APIStatusError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)

#: A 404 of a batch that exists, or a gateway's page, is often gone at the next call. Seconds before each further try.
RETRY_PAUSES: Final = (1.0, 3.0)


class Canceling(StrEnum):
    """What came of the request to cancel a batch."""

    #: Its running requests are still answered, and billed.
    ACCEPTED = "accepted"
    #: It had ended before.
    ENDED = "ended"
    #: The batch may still run.
    FAILED = "failed"


def cancel_batch(client: ClaudeClient, batch_id: str, *, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Cancel a batch, and log what came of it.

    A failure is only logged, because the caller has more batches to cancel or a process to end.

    :return: whether the batch certainly runs no longer than its running requests.
    """
    outcome, error = try_to_cancel(client, batch_id, sleep=sleep)
    if outcome is Canceling.ACCEPTED:
        log.warning("Canceled message batch %s. What it has answered is billed and will be landed.", batch_id)
    elif outcome is Canceling.ENDED:
        log.info("Message batch %s ended before it could be canceled.", batch_id)
    else:
        log.warning(
            "Message batch %s could not be canceled. It runs for 24 hours at most, and what it answers is billed. "
            "Cancel it in the Claude Console if its answers are not wanted. %s",
            batch_id,
            error,
        )
    return outcome is not Canceling.FAILED


def try_to_cancel(
    client: ClaudeClient, batch_id: str, *, sleep: Callable[[float], None] = time.sleep
) -> tuple[Canceling, APIError | None]:
    """Cancel a batch. Return what came of it, and the error if it failed.

    The API refuses to cancel a batch that has ended, which is no error here. A 404 is no proof that the batch is gone,
    and a gateway's response is no proof of anything: both are tried again.

    Example::

        outcome, error = try_to_cancel(client, "msgbatch_01AbCd")
    """
    error = _cancel(client, batch_id)
    for pause in RETRY_PAUSES:
        if not _may_be_passing(error):
            break
        sleep(pause)
        error = _cancel(client, batch_id)
    if error is None:
        return Canceling.ACCEPTED, None
    if proof_of(error) is Proof.REFUSED:
        return Canceling.ENDED, None
    return Canceling.FAILED, error


def delete_batches(client: ClaudeClient, batch_ids: Iterable[str]) -> list[str]:
    """Delete batches whose rows are landed, together with their results. The API would keep the results for 29 days.

    A batch that cannot be deleted is named in the log.

    :return: the batches that were deleted now.
    """
    deleted = []
    for batch_id in batch_ids:
        try:
            client.delete_batch(batch_id)
        except APIError as error:
            if proof_of(error) is Proof.DOES_NOT_EXIST:
                log.info("Message batch %s is not there: it was deleted before.", batch_id)
                continue
            log.warning(
                "Message batch %s could not be deleted. The API deletes its results after 29 days. %s", batch_id, error
            )
        else:
            log.info("Deleted message batch %s, whose rows are landed.", batch_id)
            deleted.append(batch_id)
    return deleted


def _cancel(client: ClaudeClient, batch_id: str) -> APIError | None:
    try:
        client.cancel_batch(batch_id)
    except APIError as error:
        return error
    return None


def _may_be_passing(error: APIError | None) -> bool:
    """Return whether the response proves nothing yet. Without a response, the client has tried again by itself."""
    return isinstance(error, APIStatusError) and proof_of(error) in (Proof.NOTHING, Proof.DOES_NOT_EXIST)
