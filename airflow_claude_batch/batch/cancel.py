"""Cancel a message batch, or delete batches that have ended."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from airflow_claude_batch.exceptions import APIError, BadRequestError, NotFoundError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)


def cancel_batch(client: ClaudeClient, batch_id: str) -> None:
    """Cancel a batch. The API refuses that for a batch that has ended, which is no error here.

    A failure is only logged, because the caller has more batches to cancel or a process to end.
    """
    try:
        client.cancel_batch(batch_id)
    except (BadRequestError, NotFoundError):
        log.info("Message batch %s ended before it could be canceled.", batch_id)
    except APIError as error:
        log.warning(
            "Message batch %s could not be canceled. It runs for 24 hours at most, and what it answers is billed. %s",
            batch_id,
            error,
        )
    else:
        log.warning("Canceled message batch %s. What it has answered is billed and will be landed.", batch_id)


def delete_batches(client: ClaudeClient, batch_ids: Iterable[str]) -> None:
    """Delete batches whose rows are landed, together with their results. The API would keep the results for 29 days.

    A batch that cannot be deleted is named in the log.
    """
    for batch_id in batch_ids:
        try:
            client.delete_batch(batch_id)
        except NotFoundError:
            log.info("Message batch %s was deleted before.", batch_id)
        except APIError as error:
            log.warning(
                "Message batch %s could not be deleted. The API deletes its results after 29 days. %s", batch_id, error
            )
        else:
            log.info("Deleted message batch %s, whose rows are landed.", batch_id)
