"""The API's JSON objects as typed values.

They are read tolerantly: unknown fields, statuses and result types pass, and only fields that every response has are
required. Times are aware, in each of the API's notations (``Z``, or ``+00:00`` with microseconds). A batch in another
form than the API's is read through :mod:`~airflow_claude_batch.api.gateway_forms`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec

from airflow_claude_batch.api.gateway_forms import normal_batch, normal_counts, normal_status
from airflow_claude_batch.api.limits import BATCH_ID_PATTERN
from airflow_claude_batch.exceptions import MalformedResponseError

Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]
#: An id that can be part of a URL's path.
BatchId = Annotated[str, msgspec.Meta(pattern=BATCH_ID_PATTERN)]
#: A cursor of a listing, which becomes part of a URL too. Some gateways write "" for none.
_Cursor = Annotated[str, msgspec.Meta(pattern=rf"{BATCH_ID_PATTERN}|^\Z")]

T = TypeVar("T")


def check_year(at: datetime) -> None:
    """Raise if the year is not plausible, because arithmetic with such a time could overflow.

    :raises ValueError: the year is not between 2000 and 2999.
    """
    if not 2000 <= at.year < 3000:
        raise ValueError("the year is not between 2000 and 2999")


_STATUSES = frozenset({"in_progress", "canceling", "ended"})


class RequestCounts(msgspec.Struct, frozen=True, gc=False):
    """Numbers of a batch's requests by status. All are ``processing`` until the whole batch has ended."""

    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0

    @property
    def total(self) -> int:
        """The number of requests in the batch. It never changes."""
        return self.processing + self.succeeded + self.errored + self.canceled + self.expired


class MessageBatch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message batch as the API describes it.

    ``results_url`` is never followed. ``server_time`` is the API's clock when it responded (the ``Date`` header, whole
    seconds), None if the header is missing. An age computed with it does not depend on this machine's clock.
    """

    id: BatchId
    processing_status: str
    request_counts: RequestCounts
    created_at: Timestamp
    expires_at: Timestamp | None = None
    ended_at: Timestamp | None = None
    archived_at: Timestamp | None = None
    cancel_initiated_at: Timestamp | None = None
    results_url: str | None = None
    server_time: Timestamp | None = None

    def __post_init__(self) -> None:
        check_year(self.created_at)
        if self.processing_status not in _STATUSES:
            msgspec.structs.force_setattr(self, "processing_status", normal_status(self.processing_status))

    @property
    def ended(self) -> bool:
        """True if no request of the batch runs any more, whether it succeeded or not."""
        return self.processing_status == "ended"


class BatchPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a listing, newest batch first. ``server_time`` is explained at :class:`MessageBatch`.

    ``unreadable`` counts the entries that are no batch in any known form. ``data`` lacks them, so a page with such
    entries does not prove that a batch is missing.
    """

    data: list[MessageBatch]
    has_more: bool
    first_id: _Cursor | None = None
    last_id: _Cursor | None = None
    server_time: Timestamp | None = None
    unreadable: int = 0


class _LoosePage(msgspec.Struct):
    data: list[Any]
    has_more: bool
    first_id: Any = None
    last_id: Any = None


class DeletedMessageBatch(msgspec.Struct, frozen=True):
    """The response to a delete call."""

    id: str


class TokenCount(msgspec.Struct, frozen=True):
    """The response to a count_tokens call. The number is an estimate."""

    input_tokens: int


class ErrorObject(msgspec.Struct, frozen=True):
    """The ``error`` object of an error response."""

    type: str | None = None
    message: str | None = None
    details: Any = None


class ErrorEnvelope(msgspec.Struct, frozen=True):
    """An error, of a response or of an errored request. The edge in front of the API leaves out ``request_id``."""

    error: ErrorObject
    request_id: str | None = None

    @property
    def type(self) -> str | None:
        """The error's type, such as ``invalid_request_error``."""
        return self.error.type

    @property
    def message(self) -> str | None:
        """The message for people. Its wording is not stable."""
        return self.error.message

    @property
    def error_code(self) -> str | None:
        """The only stable code. Usually None."""
        details = self.error.details
        code = details.get("error_code") if isinstance(details, dict) else None
        return code if isinstance(code, str) else None


class Result(msgspec.Struct, frozen=True, gc=False):
    """The result of one request. ``type`` is succeeded, errored, canceled or expired, or may be a new one.

    ``message`` and ``error`` are undecoded JSON or None. :func:`decode_error` decodes the error.
    """

    type: str
    _message: msgspec.Raw = msgspec.field(name="message", default=msgspec.Raw(b"null"))
    _error: msgspec.Raw = msgspec.field(name="error", default=msgspec.Raw(b"null"))

    @property
    def message(self) -> msgspec.Raw | None:
        """The message of a succeeded request."""
        return _unless_null(self._message)

    @property
    def error(self) -> msgspec.Raw | None:
        """The error envelope of an errored request."""
        return _unless_null(self._error)


class ResultLine(msgspec.Struct, frozen=True, gc=False):
    """One line of a results stream."""

    custom_id: str
    result: Result


#: A billed number of tokens or calls. A negative one would lower a bill, and no answer has 2**53 tokens.
_Billed = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class CacheCreation(msgspec.Struct, frozen=True, gc=False):
    """Tokens written to the prompt cache, by their time to live."""

    ephemeral_5m_input_tokens: _Billed = 0
    ephemeral_1h_input_tokens: _Billed = 0


class OutputTokensDetails(msgspec.Struct, frozen=True, gc=False):
    """Parts of ``output_tokens``, which includes them."""

    thinking_tokens: int | None = None


class ServerToolUse(msgspec.Struct, frozen=True, gc=False):
    """Calls of tools that the API itself runs. Each call is billed."""

    web_search_requests: _Billed | None = None
    web_fetch_requests: _Billed | None = None


class BilledUsage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The fields of a usage that decide what it costs.

    ``input_tokens`` excludes tokens that the prompt cache read or wrote. ``iterations`` is undecoded JSON, because its
    entries have many forms. ``batch.money.iterations`` reads them.
    """

    input_tokens: _Billed
    output_tokens: _Billed
    cache_creation: CacheCreation | None = None
    cache_creation_input_tokens: _Billed | None = None
    cache_read_input_tokens: _Billed | None = None
    inference_geo: str | None = None
    server_tool_use: ServerToolUse | None = None
    iterations: Any = None


class Usage(BilledUsage, frozen=True, kw_only=True, gc=False):
    """The billed tokens of a message."""

    output_tokens_details: OutputTokensDetails | None = None
    service_tier: str | None = None
    speed: str | None = None


class ContentBlock(msgspec.Struct, frozen=True, gc=False):
    """One block of an answer. Only ``text`` blocks have text. The raw message has the others whole."""

    type: str
    text: str | None = None


def decode(data: bytes | msgspec.Raw, kind: type[T]) -> T:
    """Decode JSON into a value.

    :raises MalformedResponseError: the data is not that. The message names the place, never the data.
    """
    try:
        return _decode(msgspec.json.Decoder(kind), data)
    except MalformedResponseError:
        value = _decode_gateway_form(data, kind)
        if value is None or not isinstance(value, kind):
            raise
        return value


def with_server_time(value: T, server_time: datetime | None) -> T:
    """Return a copy of the value with the server's time in every field for it. Other values are unchanged."""
    if isinstance(value, BatchPage):
        data = [with_server_time(batch, server_time) for batch in value.data]
        return msgspec.structs.replace(value, data=data, server_time=server_time)
    if isinstance(value, MessageBatch):
        return msgspec.structs.replace(value, server_time=server_time)
    return value


def decode_result_line(line: bytes | bytearray | memoryview) -> ResultLine:
    """Decode one line of a results stream. Its message stays undecoded, so 100,000 lines take less than a second.

    :raises MalformedResponseError: the line is not a result.
    """
    try:
        return _RESULT_LINE.decode(line)
    except _UNREADABLE as error:
        failure = _not_expected(error)
    raise failure


def decode_error(raw: bytes | msgspec.Raw) -> ErrorEnvelope:
    """Decode the error of a response or of an errored request.

    :raises MalformedResponseError: the data is not an error of the API.
    """
    return _decode(_ERROR, raw)


def decode_usage(raw: bytes | msgspec.Raw) -> BilledUsage | None:
    """Decode the usage of a message, None if what it bills is in a form that is not known.

    A field that bills nothing may have any form.
    """
    for decoder in (_USAGE, _BILLED_USAGE):
        try:
            return decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return None


_NULL = msgspec.Raw(b"null")


def _unless_null(raw: msgspec.Raw) -> msgspec.Raw | None:
    return None if raw == _NULL else raw


_RESULT_LINE = msgspec.json.Decoder(ResultLine)
_ERROR = msgspec.json.Decoder(ErrorEnvelope)
_USAGE = msgspec.json.Decoder(Usage)
_BILLED_USAGE = msgspec.json.Decoder(BilledUsage)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _decode(decoder: msgspec.json.Decoder[T], data: bytes | bytearray | memoryview | msgspec.Raw) -> T:
    try:
        return decoder.decode(data)
    except _UNREADABLE as error:
        failure = _not_expected(error)
    raise failure  # not in the except block: a UnicodeDecodeError holds the data, and would be chained


def _not_expected(error: Exception) -> MalformedResponseError:
    """Return the error of data that cannot be decoded. It quotes nothing of them."""
    reason = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
    reason = re.sub(r"matching regex '.*'", "that can be an id", reason)
    return MalformedResponseError(f"The response is not the expected JSON: {reason}.")


def _decode_gateway_form(data: bytes | msgspec.Raw, kind: type[Any]) -> msgspec.Struct | None:
    """Decode a batch, a page or counts in a form that is not the API's. None if they cannot be understood."""
    read = _GATEWAY_READERS.get(kind)
    try:
        return read(msgspec.json.decode(data)) if read else None
    except (msgspec.MsgspecError, ValueError, RecursionError):  # of JSON, of UTF-8 and of times
        return None


def _read_batch(value: Any) -> MessageBatch:
    return msgspec.convert(normal_batch(value), MessageBatch)


def _read_counts(value: Any) -> RequestCounts:
    return msgspec.convert(normal_counts(msgspec.convert(value, dict[str, Any])), RequestCounts)


def _read_page(value: Any) -> BatchPage:
    page = msgspec.convert(value, _LoosePage)
    batches = [batch for entry in page.data if (batch := _batch_or_none(entry)) is not None]
    if page.data and not batches:
        raise ValueError("no entry of the page can be read")
    return BatchPage(
        data=batches,
        has_more=page.has_more,
        first_id=_cursor(page.first_id, page.data[:1]),
        last_id=_cursor(page.last_id, page.data[-1:]),
        unreadable=len(page.data) - len(batches),
    )


def _batch_or_none(value: Any) -> MessageBatch | None:
    try:
        return _read_batch(value)
    except (msgspec.MsgspecError, ValueError):
        return None


def _cursor(value: Any, at_edge: list[Any]) -> str | None:
    """Return a cursor, or None if it names an entry that cannot be read. Then the next entry's id replaces it."""
    if any(isinstance(entry, dict) and entry.get("id") == value for entry in at_edge) and not _is_cursor(value):
        return None
    return msgspec.convert(value, _Cursor | None)


def _is_cursor(value: Any) -> bool:
    try:
        msgspec.convert(value, _Cursor)
    except msgspec.MsgspecError:
        return False
    return True


_GATEWAY_READERS: dict[type[Any], Callable[[Any], msgspec.Struct]] = {
    MessageBatch: _read_batch,
    RequestCounts: _read_counts,
    BatchPage: _read_page,
}
