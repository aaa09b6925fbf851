"""Choices of a task's author for one submission."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final, Literal

from airflow_claude_batch.api import limits
from airflow_claude_batch.batch.allow_failed import allowed_failures

#: Time that canceled batches get to end after the timeout. A canceled batch ends once its running requests have
#: finished: 1 to 25 s were observed, nothing is promised. What they answer later is landed by a retry or a clear.
CANCEL_GRACE_PERIOD: Final = timedelta(seconds=60)
#: Time in which the batch of a create call without a response may still appear in the listing. It counts from the
#: moment when the call must have been sent. No wait that is known is longer:
#:
#: * the API may take 600 s to answer a create call: Anthropic's clients wait that long, and so does this one;
#: * a gateway waits as long for the API, and some send a call once more after that: twice 600 s;
#: * a proxy may hold back an upload until it has the whole, as long as its own timeouts permit, commonly 60 to 600 s;
#: * the listing may show a batch minutes after its creation.
#:
#: All of them in a row take less than an hour. Waiting costs time once in a while, sending too early costs a batch.
LOST_CREATE_GRACE: Final = timedelta(hours=1)
#: The read timeout that ``LOST_CREATE_GRACE`` takes into account, in seconds. A longer one is added twice.
USUAL_READ_TIMEOUT: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Choices of one submission. Most are the operator's arguments of the same names.

    :param wait_for_completion: wait for the batches and land their rows. Otherwise a sensor does both.
    :param timeout: time that one attempt may take.
    :param on_timeout: ``cancel`` the open batches at the timeout, or ``leave`` them running. Or ``ask_directly``:
        cancel them ``direct_reserve`` before the timeout, and ask what has no answer through the Messages API, at full
        price.
    :param direct_reserve: time before the timeout in which requests are asked directly.
    :param direct_concurrency: how many of them are asked at the same time.
    :param cancel_grace: time after the timeout in which canceled batches may end and are landed.
    :param repair_rounds: how many times the requests that ended without an answer are sent again.
    :param repair_invalid: send requests again whose answers do not match the output schema. Those answers are billed.
    :param allow_failed: how many requests may end without an answer: see ``allow_failed``.
    :param on_lost: if the API cannot tell what became of a batch, ``stop``, or ``resend`` and perhaps pay twice.
    :param max_requests: most requests of one part.
    :param max_bytes: largest body of one create call.
    :param max_inline_bytes: largest size of the rows that the manifest carries to XCom.
    :param max_cost: USD that the submission may cost in all. None for no limit.
    :param max_cost_name: setting that ``max_cost`` comes from, for error messages.
    :param approve_above: USD in all above which a person must approve the submission before it is sent. None: nobody is
        asked.
    :param approval_timeout: without an answer for so long, it counts as rejected.
    :param on_rejected: ``fail`` or ``skip`` the task then.
    :param sample: how many requests are sent before the question, so that their real cost is in it.
    :param canary: send one request first. If it is refused, send no other.
    :param warm_cache: send one request first, so that it writes the prompt cache for the others.
    :param delete_batches: delete the batches at the API once their rows are landed.
    :param results_format: file format of the final rows.
    :param request_defaults: model and max_tokens of requests that have none of their own, and where they come from.
    :param lost_create_grace: time in which the batch of a create call without a response may still appear.
    """

    wait_for_completion: bool = True
    timeout: timedelta = timedelta(hours=25)
    on_timeout: Literal["cancel", "leave", "ask_directly"] = "cancel"
    direct_reserve: timedelta = timedelta(minutes=30)
    direct_concurrency: int = 8
    cancel_grace: timedelta = CANCEL_GRACE_PERIOD
    repair_rounds: int = 1
    repair_invalid: bool = False
    allow_failed: float | str = 0
    on_lost: Literal["stop", "resend"] = "stop"
    max_requests: int = limits.MAX_REQUESTS
    max_bytes: int = limits.MAX_BATCH_BYTES
    max_inline_bytes: int = 48 * 1024
    max_cost: Decimal | None = None
    max_cost_name: str = "max_cost"
    approve_above: Decimal | None = None
    approval_timeout: timedelta = timedelta(hours=24)
    on_rejected: Literal["fail", "skip"] = "fail"
    sample: int = 0
    canary: bool = False
    warm_cache: bool = False
    delete_batches: bool = False
    results_format: Literal["jsonl", "parquet", "csv"] = "jsonl"
    request_defaults: Mapping[str, Any] | None = None
    lost_create_grace: timedelta = LOST_CREATE_GRACE

    @property
    def asks_directly(self) -> bool:
        """Return whether the requests that have no answer near the timeout are asked through the Messages API."""
        return self.on_timeout == "ask_directly"

    def allowed_failures(self, request_count: int) -> int:
        """Return how many of these requests may end without an answer."""
        return allowed_failures(self.allow_failed, request_count)


def lost_create_grace(read_timeout: float) -> timedelta:
    """Return the grace for a client that waits this long for a response, in seconds.

    A longer timeout suggests a slower API or gateway, so the grace grows with it.
    """
    return LOST_CREATE_GRACE + 2 * timedelta(seconds=max(0.0, read_timeout - USUAL_READ_TIMEOUT))
