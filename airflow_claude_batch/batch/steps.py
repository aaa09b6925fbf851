"""Results of one ``advance()`` of a submission or a collection: wait, ask a person, or done.

``WaitStep`` says which message batches to wait for and until when. ``AskStep`` has the question for a person.
``DoneStep`` carries the manifest and, if there is one, the failure. None of them does anything: the caller sleeps,
defers or raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from airflow_claude_batch.api.evidence import Proof, proof_of
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.money.question import Question
from airflow_claude_batch.exceptions import (
    APIConnectionError,
    APIError,
    ApprovalRejectedError,
    AuthenticationError,
    BatchError,
    MalformedResponseError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    ResultsError,
    ServerError,
)

#: Errors of an outage: the API, the network or the storage fails for a while. They prove nothing about the batches,
#: so the task waits and tries again.
OUTAGE_ERRORS = (
    APIConnectionError,
    MalformedResponseError,
    OverloadedError,
    RateLimitError,
    ResultsError,
    ServerError,
)
#: Pause before the next try after an outage.
OUTAGE_RETRY_DELAY = timedelta(seconds=60)
#: No timer for another look at a batch is shorter, whatever the clocks say.
SHORTEST_PAUSE = timedelta(seconds=5)


def is_outage(error: APIError | ResultsError) -> bool:
    """Return whether a failure proves nothing: of the API, the network or the storage, or a gateway's response."""
    return isinstance(error, OUTAGE_ERRORS) or proof_of(error) is Proof.NOTHING


def is_refusal(error: APIError | ResultsError) -> bool:
    """Return whether the API rejects the credential. While a key is rotated that lasts for seconds or minutes."""
    is_about_credential = isinstance(error, AuthenticationError | PermissionDeniedError)
    return is_about_credential and proof_of(error) is Proof.NOT_ACCEPTED


@dataclass(frozen=True, slots=True)
class WaitStep:
    """Call ``advance()`` again when all (or any) of these batches have ended, or at ``until``, whichever is first.

    Without batches it is a timer.

    :param batch_ids: batches to wait for.
    :param wait_for: ``all`` or ``any`` of them.
    :param until: latest time of the next call.
    :param reason: why to wait, for the log.
    :param open_batch_ids: every batch that still runs, waited for or not. They are canceled when the task is killed.
    :param submitted_at: creation time of the oldest open batch, None if unknown.
    :param ended_batches: how many batches of the submission have ended already, and their requests, for the log.
    :param read_connection: read the connection again before the next call: the API rejected its credential.
    """

    batch_ids: tuple[str, ...]
    wait_for: Literal["all", "any"]
    until: datetime
    reason: str
    open_batch_ids: tuple[str, ...] = ()
    submitted_at: datetime | None = None
    ended_batches: int = 0
    ended_requests: int = 0
    read_connection: bool = False


@dataclass(frozen=True, slots=True)
class DirectStep:
    """Requests were asked through the Messages API, and their answers are published. Advance again at once.

    :param asked: how many.
    """

    asked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AskStep:
    """Ask a person, then call ``answer()`` and ``advance()`` again. No message batch is open meanwhile.

    :param until: without an answer by then, it counts as rejected.
    :param most: what an approval allows the whole submission to cost, in USD. None for any amount.
    """

    question: Question
    until: datetime
    most: Decimal | None


@dataclass(frozen=True, slots=True)
class DoneStep:
    """This attempt has ended. Everything that was answered is landed, even if ``failure`` is set.

    :param manifest: summary of the submission.
    :param failure: error that the task raises, None if it succeeds.
    :param permanent: a retry with the same input would fail in the same way.
    :param is_old: earlier attempts had sent and landed everything, so that nothing is billed now.
    :param skips: the author wants the task to be skipped for this failure.
    """

    manifest: Manifest
    failure: BatchError | ApprovalRejectedError | None = None
    permanent: bool = False
    is_old: bool = False
    skips: bool = False
