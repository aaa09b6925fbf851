"""Asking the API to cancel a batch, or to delete one that has ended."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from airflow_claude_batch.exceptions import APIError, BadRequestError, NotFoundError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)


def cancel_batch(client: ClaudeClient, batch_id: str) -> None:
    """Cancel a batch; one that has ended meanwhile refuses, and that is fine.

    A failure is a line in the log that says what goes on being billed: whoever cancels has other things to finish.
    """
    try:
        client.cancel_batch(batch_id)
    except (BadRequestError, NotFoundError):
        log.info("Message batch %s had ended before it could be canceled", batch_id)
    except APIError as error:
        log.warning(
            "Message batch %s could not be canceled (%s): it goes on, for 24 hours at most, and every request that it "
            "answers is billed",
            batch_id,
            error,
        )
    else:
        log.warning("Canceled message batch %s; what was answered by then is billed, and kept", batch_id)


def delete_batches(client: ClaudeClient, batch_ids: Iterable[str]) -> None:
    """Delete batches whose rows are landed, with their results; the API would keep them for 29 days.

    One that is gone already is fine; one that cannot be deleted is named in the log.
    """
    for batch_id in batch_ids:
        try:
            client.delete_batch(batch_id)
        except NotFoundError:
            log.info("Message batch %s was deleted before", batch_id)
        except APIError as error:
            log.warning(
                "Message batch %s could not be deleted (%s); the API deletes its results in time", batch_id, error
            )
        else:
            log.info("Deleted message batch %s: its rows are landed", batch_id)
