"""What the author of a task decides, and how a step of the job answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.exceptions import (
    APIConnectionError,
    BatchError,
    MalformedResponseError,
    OverloadedError,
    RateLimitError,
    ResultsError,
    ServerError,
)

#: A canceled batch ends once what was running has finished (seen: 1 to 25 s; nothing is promised).
CANCEL_GRACE_PERIOD = timedelta(minutes=10)

#: Failures that say nothing about the submission: the API or the road to it is down for a while.
OUTAGE_ERRORS = (APIConnectionError, MalformedResponseError, OverloadedError, RateLimitError, ResultsError, ServerError)
OUTAGE_RETRY_DELAY = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class WaitStep:
    """Call ``advance`` again when all (or any) of these batches have ended, or at ``until``, whichever is first.

    ``open_batch_ids``: what runs meanwhile, waited for or not; to be canceled when the task is killed.
    ``submitted_at``: when the oldest of these was made, if it is known.
    """

    batch_ids: tuple[str, ...]
    wait_for: Literal["all", "any"]
    until: datetime
    reason: str
    open_batch_ids: tuple[str, ...] = ()
    submitted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DoneStep:
    """The end for this attempt. Everything that was answered is landed, whatever ``failure`` says.

    ``permanent``: the same input would fail in the same way, so that a retry is of no use.
    """

    manifest: Manifest
    failure: BatchError | None = None
    permanent: bool = False
