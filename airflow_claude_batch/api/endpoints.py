"""The API's operations as values, for both clients: what to ask, what the answer is, and what sending twice does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.evidence import Effect
from airflow_claude_batch.api.http import HTTPRequest
from airflow_claude_batch.api.limits import COUNT_TOKENS_FIELDS, DEFAULT_LIST_LIMIT, LIST_LIMIT, check_batch_id
from airflow_claude_batch.api.listing import check_moves, newer_edge, older_edge
from airflow_claude_batch.api.request_body import BytesBody, RequestBody, TimedBody
from airflow_claude_batch.api.wire import (
    BatchPage,
    DeletedMessageBatch,
    MessageBatch,
    ModelInfo,
    ModelPage,
    ResultLine,
    TokenCount,
)
from airflow_claude_batch.exceptions import InputError

T = TypeVar("T", bound=msgspec.Struct)

_BATCHES: Final = "/v1/messages/batches"

# What a 404 means depends on what was asked for.
_NO_SUCH_BATCH: Final = (
    "Objects are seen only from the workspace that made them: check that the credential belongs to it."
)
_NO_SUCH_PLACE: Final = "The API is not there: check the base URL, which is the connection's host."

# Seconds. Everything but a create and the results is answered at once; a poll must not hang on a dead connection
# for as long as a create may take.
QUICK_READ_TIMEOUT: Final = 60.0

MAX_RESPONSE_BYTES: Final = 64 * 1024 * 1024  # a page of 1000 batches has about half a megabyte


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One operation.

    :param what: completes "could not …".
    :param attributed: carries the user profile.
    :param slow: may take the whole of the configured read timeout.
    :param deadline: no attempt begins after it.
    :param write_timeout: a shorter one than the configured.
    """

    what: str
    path: str
    kind: type[T]
    method: str = "GET"
    effect: Effect = Effect.READ_ONLY
    query: Sequence[tuple[str, str]] = ()
    body: RequestBody | None = None
    accept: str = "application/json"
    attributed: bool = False
    slow: bool = False
    deadline: float = math.inf
    write_timeout: float = math.inf

    def request(self, config: ClientConfig, credential_headers: Mapping[str, str]) -> HTTPRequest:
        """Make the request for one attempt."""
        headers = config.fixed_headers() | dict(credential_headers) | {"accept": self.accept}
        if self.attributed and config.user_profile_id:
            headers["anthropic-user-profile-id"] = config.user_profile_id
        if self.body is not None:
            headers["content-type"] = "application/json"
        query = f"?{urlencode(self.query)}" if self.query else ""
        return HTTPRequest(
            what=self.what,
            effect=self.effect,
            method=self.method,
            url=f"{config.base_url.rstrip('/')}{self.path}{query}",
            headers=headers,
            body=self.body,
            read_timeout=config.read_timeout if self.slow else min(config.read_timeout, QUICK_READ_TIMEOUT),
            write_timeout=min(config.write_timeout, self.write_timeout),
            credential_remedy=config.credentials.remedy,
            not_found_remedy=self._missing_remedy(),
            max_response_bytes=MAX_RESPONSE_BYTES,
        )

    def _missing_remedy(self) -> str:
        if self.path == _BATCHES:
            return _NO_SUCH_PLACE
        return _NO_SUCH_BATCH if self.path.startswith(f"{_BATCHES}/") else ""


def create_batch(
    body: RequestBody | bytes, *, seconds: float, write_timeout: float, clock: Callable[[], float]
) -> Call[MessageBatch]:
    """Make a message batch: the one call that must not be sent twice, so its life is bounded.

    :param seconds: from now on; no byte leaves later.
    :param write_timeout: the configured one; what a slice that begins in time may still take.
    """
    last_slice_seconds = min(write_timeout, seconds / 4)
    deadline = clock() + seconds - last_slice_seconds
    whole = BytesBody(body) if isinstance(body, bytes) else body
    return Call(
        what="create a message batch",
        method="POST",
        path=_BATCHES,
        kind=MessageBatch,
        effect=Effect.NOT_IDEMPOTENT,
        body=TimedBody(whole, deadline, clock),
        attributed=True,
        slow=True,
        deadline=deadline,
        write_timeout=last_slice_seconds,
    )


def retrieve_batch(batch_id: str) -> Call[MessageBatch]:
    """Ask how a message batch stands."""
    return Call(
        what=f"look up message batch {batch_id}", path=f"{_BATCHES}/{check_batch_id(batch_id)}", kind=MessageBatch
    )


def cancel_batch(batch_id: str) -> Call[MessageBatch]:
    """Cancel a message batch. No body: the API wants none."""
    return Call(
        what=f"cancel message batch {batch_id}",
        method="POST",
        path=f"{_BATCHES}/{check_batch_id(batch_id)}/cancel",
        kind=MessageBatch,
        effect=Effect.IDEMPOTENT,
    )


def delete_batch(batch_id: str) -> Call[DeletedMessageBatch]:
    """Delete a message batch and its results."""
    return Call(
        what=f"delete message batch {batch_id}",
        method="DELETE",
        path=f"{_BATCHES}/{check_batch_id(batch_id)}",
        kind=DeletedMessageBatch,
        effect=Effect.IDEMPOTENT,
    )


def stream_results(batch_id: str) -> Call[ResultLine]:
    """Read the results. The path is ours: ``results_url`` comes from outside and would get the credential."""
    return Call(
        what=f"read the results of message batch {batch_id}",
        path=f"{_BATCHES}/{check_batch_id(batch_id)}/results",
        kind=ResultLine,
        accept="application/binary",
        slow=True,
    )


def count_tokens(params: Mapping[str, Any]) -> Call[TokenCount]:
    """Count the input tokens of a request's params; what does not bear on them is left out."""
    body = {name: value for name, value in params.items() if name in COUNT_TOKENS_FIELDS}
    return Call(
        what="count tokens",
        method="POST",
        path="/v1/messages/count_tokens",
        kind=TokenCount,
        body=BytesBody(msgspec.json.encode(body)),
        attributed=True,
    )


def list_models(*, limit: int, lifecycle: Sequence[str]) -> Call[ModelPage]:
    """List the model catalogue, one page."""
    query = [("limit", str(_checked(limit))), *(("lifecycle[]", name) for name in lifecycle)]
    return Call(what="list the models", path="/v1/models", kind=ModelPage, query=query)


def retrieve_model(model_id: str) -> Call[ModelInfo]:
    """Look up one model, by its id or an alias."""
    if model_id in ("", ".", ".."):
        raise InputError(f"{model_id!r} is not the id of a model")
    return Call(what="look up a model", path=f"/v1/models/{quote(model_id, safe='')}", kind=ModelInfo)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A place in the listing of message batches, which is newest first.

    ``after_id`` goes on to older batches, ``before_id`` to newer ones; not both. ``passed`` are the places before.
    """

    before_id: str | None = None
    after_id: str | None = None
    limit: int = DEFAULT_LIST_LIMIT
    passed: frozenset[str] = field(default=frozenset(), repr=False)

    def __post_init__(self) -> None:
        if self.before_id and self.after_id:
            raise InputError("a listing takes before_id or after_id, not both")
        for batch_id in (self.before_id, self.after_id):
            if batch_id is not None:
                check_batch_id(batch_id)
        _checked(self.limit)

    def call(self) -> Call[BatchPage]:
        """Ask for the page here."""
        cursors = {"before_id": self.before_id, "after_id": self.after_id}
        query = [(name, value) for name, value in cursors.items() if value] + [("limit", str(self.limit))]
        return Call(what="list message batches", path=_BATCHES, kind=BatchPage, query=query)

    def next(self, page: BatchPage) -> Cursor | None:
        """Say where the next page begins, going on in the direction taken; None if this was the last.

        :raises MalformedResponseError: there is said to be more, but the place does not move.
        """
        if not page.has_more or not page.data:
            return None
        to = newer_edge(page) if self.before_id else older_edge(page)
        passed = self.passed | {self.before_id or self.after_id or ""}
        check_moves(to, passed)
        if self.before_id:
            return replace(self, before_id=to, passed=passed)
        return replace(self, after_id=to, passed=passed)


def _checked(limit: int) -> int:
    if not 1 <= limit <= LIST_LIMIT:
        raise InputError(f"a page has 1 to {LIST_LIMIT} objects, not {limit}")
    return limit
