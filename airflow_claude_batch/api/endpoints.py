"""The API's endpoints as values: what to send, how to read the response, and what sending twice does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.evidence import Effect
from airflow_claude_batch.api.http import BATCH_MONEY, HTTPRequest
from airflow_claude_batch.api.limits import COUNT_TOKENS_FIELDS, DEFAULT_LIST_LIMIT, LIST_LIMIT, check_batch_id
from airflow_claude_batch.api.model_info import ModelInfo, ModelPage
from airflow_claude_batch.api.request_body import BytesBody, DeadlineBody, RequestBody
from airflow_claude_batch.api.wire import (
    BatchPage,
    DeletedMessageBatch,
    MessageBatch,
    ResultLine,
    TokenCount,
)
from airflow_claude_batch.exceptions import InputError

T = TypeVar("T", bound=msgspec.Struct)

_BATCHES: Final = "/v1/messages/batches"

# The meaning of a 404 depends on the path.
_NO_SUCH_BATCH: Final = "Check that the credential belongs to the batch's workspace: other workspaces do not see it."
_NO_SUCH_PATH: Final = "Check the base URL, which is the connection's host: the API is not there."

# What the failure of a single message means for money: if it may have been accepted, and if it was not.
_MESSAGE_MONEY: Final = (
    "The request may have been answered, and is then billed. To ask it again may pay for it twice.",
    "The request was not accepted, and is not billed.",
)

# Seconds. All calls but create and results respond at once. A poll must not hang on a dead connection for as long as
# a create call may take.
QUICK_READ_TIMEOUT: Final = 60.0

# Seconds after which no attempt of a call begins that responds at once, whatever its responses ask for.
QUICK_CALL_SECONDS: Final = 600.0

# The slowest upload that is waited for, in bytes per second: 3 Mbit/s.
MIN_UPLOAD_RATE: Final = 375_000

MAX_RESPONSE_BYTES: Final = 64 * 1024 * 1024  # a page of 1000 batches has about half a megabyte


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One call of an endpoint.

    :param action: completes "Could not …" in error messages.
    :param response_type: the type into which the response is decoded.
    :param is_attributed: the call carries the user profile.
    :param is_slow: the call may take the whole configured read timeout.
    :param deadline: monotonic seconds; no attempt begins after it.
    :param upload_seconds: how long sending the body may take. By default, what its size needs.
    :param write_timeout: seconds, if shorter than the configured write timeout.
    :param total_seconds: how long one attempt may take, whatever the configured read timeout is.
    :param money: what a failure means for money, if the call may have been accepted, and if it certainly was not.
    """

    action: str
    path: str
    response_type: type[T]
    method: str = "GET"
    effect: Effect = Effect.READ_ONLY
    query: Sequence[tuple[str, str]] = ()
    body: RequestBody | None = None
    accept: str = "application/json"
    is_attributed: bool = False
    is_slow: bool = False
    deadline: float = math.inf
    write_timeout: float = math.inf
    upload_seconds: float | None = None
    total_seconds: float | None = None
    money: tuple[str, str] = BATCH_MONEY

    def request(self, config: ClientConfig) -> HTTPRequest:
        """Build the request of one attempt. It is not signed yet."""
        headers = config.fixed_headers() | {"accept": self.accept}
        if self.is_attributed and config.user_profile_id:
            headers["anthropic-user-profile-id"] = config.user_profile_id
        if self.body is not None:
            headers["content-type"] = "application/json"
        if self.method == "GET":
            headers["cache-control"] = "no-cache"  # an old listing or status of a cache on the way proves nothing
        query = f"?{urlencode(self.query)}" if self.query else ""
        read_timeout = config.read_timeout if self.is_slow else min(config.read_timeout, QUICK_READ_TIMEOUT)
        total_timeout = config.connect_timeout + self._upload_seconds() + read_timeout
        if self.total_seconds is not None:
            read_timeout = total_timeout = self.total_seconds
        return HTTPRequest(
            action=self.action,
            effect=self.effect,
            method=self.method,
            url=f"{config.base_url.rstrip('/')}{self.path}{query}",
            headers=headers,
            body=self.body,
            read_timeout=read_timeout,
            write_timeout=min(config.write_timeout, self.write_timeout),
            total_timeout=total_timeout,
            credential_remedy=config.credentials.remedy,
            not_found_remedy=self._not_found_remedy(),
            money=self.money,
            max_response_bytes=MAX_RESPONSE_BYTES,
            platform=config.platform,
        )

    def _upload_seconds(self) -> float:
        if self.upload_seconds is not None:
            return self.upload_seconds
        return self.body.content_length / MIN_UPLOAD_RATE if self.body is not None else 0.0

    def _not_found_remedy(self) -> str:
        if self.path == _BATCHES:
            return _NO_SUCH_PATH
        return _NO_SUCH_BATCH if self.path.startswith(f"{_BATCHES}/") else ""


def create_batch(
    body: RequestBody | bytes, *, seconds: float, write_timeout: float, clock: Callable[[], float]
) -> Call[MessageBatch]:
    """Create a message batch. This call must not be sent twice, so it has a deadline.

    :param seconds: from now on. No byte is sent later.
    :param write_timeout: the configured one. A slice whose sending begins in time may still take this long.
    """
    last_slice_seconds = min(write_timeout, seconds / 4)
    deadline = clock() + seconds - last_slice_seconds
    whole = BytesBody(body) if isinstance(body, bytes) else body
    return Call(
        action="create a message batch",
        method="POST",
        path=_BATCHES,
        response_type=MessageBatch,
        effect=Effect.NOT_IDEMPOTENT,
        body=DeadlineBody(whole, deadline, clock),
        is_attributed=True,
        is_slow=True,
        deadline=deadline,
        write_timeout=last_slice_seconds,
        upload_seconds=seconds,
    )


def retrieve_batch(batch_id: str) -> Call[MessageBatch]:
    """Retrieve a message batch."""
    return Call(action=f"look up {batch_id}", path=_path_of(batch_id), response_type=MessageBatch)


def list_batches(
    *, before_id: str | None = None, after_id: str | None = None, limit: int = DEFAULT_LIST_LIMIT
) -> Call[BatchPage]:
    """List one page of message batches, newest first.

    :param before_id: continue to newer batches from here.
    :param after_id: continue to older batches from here.
    """
    if before_id and after_id:
        raise InputError("A listing takes before_id or after_id, not both.")
    cursors = {"before_id": before_id, "after_id": after_id}
    query = [(name, check_batch_id(value)) for name, value in cursors.items() if value is not None]
    return Call(
        action="list message batches",
        path=_BATCHES,
        response_type=BatchPage,
        query=[*query, ("limit", str(_checked(limit)))],
    )


def cancel_batch(batch_id: str) -> Call[MessageBatch]:
    """Cancel a message batch. The call has no body."""
    return Call(
        action=f"cancel {batch_id}",
        method="POST",
        path=f"{_path_of(batch_id)}/cancel",
        response_type=MessageBatch,
        effect=Effect.IDEMPOTENT,
    )


def delete_batch(batch_id: str) -> Call[DeletedMessageBatch]:
    """Delete a message batch and its results."""
    return Call(
        action=f"delete {batch_id}",
        method="DELETE",
        path=_path_of(batch_id),
        response_type=DeletedMessageBatch,
        effect=Effect.IDEMPOTENT,
    )


def stream_results(batch_id: str) -> Call[ResultLine]:
    """Read the results. ``results_url`` is not used: it comes from outside and would get the credential."""
    return Call(
        action=f"read the results of {batch_id}",
        path=f"{_path_of(batch_id)}/results",
        response_type=ResultLine,
        accept="application/binary",
        is_slow=True,
    )


def create_message(params: Mapping[str, Any] | bytes, *, seconds: float) -> Call[ResultLine]:
    """Ask one request directly. The call has no idempotency key: sent twice, it is answered and billed twice.

    :param params: of the request, or their JSON.
    :param seconds: for the whole call. Until the answer is complete, no byte of it comes.
    """
    return Call(
        action="create a message",
        method="POST",
        path="/v1/messages",
        response_type=ResultLine,
        effect=Effect.NOT_IDEMPOTENT,
        body=BytesBody(params if isinstance(params, bytes) else msgspec.json.encode(params)),
        is_attributed=True,
        total_seconds=seconds,
        money=_MESSAGE_MONEY,
    )


def count_tokens(params: Mapping[str, Any]) -> Call[TokenCount]:
    """Count the input tokens of a request's params. Params that do not affect the count are left out."""
    body = {name: value for name, value in params.items() if name in COUNT_TOKENS_FIELDS}
    return Call(
        action="count tokens",
        method="POST",
        path="/v1/messages/count_tokens",
        response_type=TokenCount,
        body=BytesBody(msgspec.json.encode(body)),
        is_attributed=True,
    )


def list_models(*, limit: int, lifecycle: Sequence[str]) -> Call[ModelPage]:
    """List one page of the model catalogue."""
    query = [("limit", str(_checked(limit))), *(("lifecycle[]", name) for name in lifecycle)]
    return Call(action="list the models", path="/v1/models", response_type=ModelPage, query=query)


def retrieve_model(model_id: str) -> Call[ModelInfo]:
    """Retrieve one model, by its id or an alias."""
    if model_id in ("", ".", ".."):
        raise InputError(f"{model_id!r} is not the id of a model.")
    return Call(action="look up a model", path=f"/v1/models/{quote(model_id, safe='')}", response_type=ModelInfo)


def _path_of(batch_id: str) -> str:
    # A slash in an id must not begin another segment of the path.
    return f"{_BATCHES}/{quote(check_batch_id(batch_id), safe=':=')}"


def _checked(limit: int) -> int:
    if not 1 <= limit <= LIST_LIMIT:
        raise InputError(f"A page has 1 to {LIST_LIMIT} objects, not {limit}.")
    return limit
