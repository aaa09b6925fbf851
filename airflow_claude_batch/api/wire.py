"""What the API says, as typed values.

Read tolerantly: unknown fields pass, unknown statuses and result types pass, and only what every answer has is
required. Times are aware, whichever way the API wrote them (``Z``, or ``+00:00`` with microseconds).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec

from airflow_claude_batch.api.limits import BATCH_ID_PATTERN
from airflow_claude_batch.exceptions import MalformedResponseError

Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]
#: An id that may stand in a URL's path, wherever it came from.
BatchId = Annotated[str, msgspec.Meta(pattern=BATCH_ID_PATTERN)]
#: A place in a listing, which becomes part of a URL too; some gateways write "" for none.
Cursor = Annotated[str, msgspec.Meta(pattern=rf"{BATCH_ID_PATTERN}|^\Z")]

T = TypeVar("T")


def check_year(at: datetime) -> None:
    """Refuse a time with which no times can be reckoned.

    :raises ValueError: it is none of this age.
    """
    if not 2000 <= at.year < 3000:
        raise ValueError("a time of another age")


class RequestCounts(msgspec.Struct, frozen=True, gc=False):
    """How a message batch's requests stand. All are ``processing`` until the whole batch has ended."""

    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0

    @property
    def total(self) -> int:
        """The number of requests of the batch, at any moment of its life."""
        return self.processing + self.succeeded + self.errored + self.canceled + self.expired


class MessageBatch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message batch as the API describes it; ``server_time`` is the answer's, not the batch's.

    ``results_url`` is kept for the record and never followed. ``server_time`` is the API's clock when it answered
    (the ``Date`` header, whole seconds): ages computed with it do not depend on our own clock. None if the header
    was missing.
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

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any more. Not whether it went well: that is in the counts and the results."""
        return self.processing_status == "ended"


class BatchPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a listing, newest batch first; ``server_time`` as in :class:`MessageBatch`."""

    data: list[MessageBatch]
    has_more: bool
    first_id: Cursor | None = None
    last_id: Cursor | None = None
    server_time: Timestamp | None = None


class DeletedMessageBatch(msgspec.Struct, frozen=True):
    """What a delete answers."""

    id: str


class TokenCount(msgspec.Struct, frozen=True):
    """What count_tokens answers: an estimate."""

    input_tokens: int


class Capability(msgspec.Struct, frozen=True):
    """One thing that a model can or cannot do."""

    supported: bool


class ModelCapabilities(msgspec.Struct, frozen=True):
    """What a model can do, as far as it matters to a batch."""

    batch: Capability | None = None
    structured_outputs: Capability | None = None


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the catalogue. ``lifecycle`` is active, deprecated or retired; ``max_tokens`` caps one answer."""

    id: str
    display_name: str | None = None
    created_at: Timestamp | None = None
    line: str | None = None
    lifecycle: str | None = None
    deprecated_at: Timestamp | None = None
    retires_at: Timestamp | None = None
    max_input_tokens: int | None = None
    max_tokens: int | None = None
    capabilities: ModelCapabilities | None = None

    @property
    def batch_supported(self) -> bool | None:
        """Whether the model runs in message batches; None if the API does not say."""
        batch = self.capabilities.batch if self.capabilities else None
        return batch.supported if batch else None


class ModelPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of the model catalogue."""

    data: list[ModelInfo]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None


class ErrorObject(msgspec.Struct, frozen=True):
    """The inner part of an error."""

    type: str | None = None
    message: str | None = None
    details: Any = None


class ErrorEnvelope(msgspec.Struct, frozen=True):
    """An error, of an answer or of an errored row. The edge in front of the API leaves ``request_id`` out."""

    error: ErrorObject
    request_id: str | None = None

    @property
    def type(self) -> str | None:
        """Such as ``invalid_request_error``."""
        return self.error.type

    @property
    def message(self) -> str | None:
        """For people: its wording is not stable."""
        return self.error.message

    @property
    def error_code(self) -> str | None:
        """The only stable code, and usually None."""
        details = self.error.details
        code = details.get("error_code") if isinstance(details, dict) else None
        return code if isinstance(code, str) else None


class Result(msgspec.Struct, frozen=True, gc=False):
    """The outcome of one request. ``type``: succeeded, errored, canceled, expired, or one not known yet.

    ``message`` and ``error`` are the undecoded JSON, or None: see :func:`decode_message` and :func:`decode_error`.
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


class CacheCreation(msgspec.Struct, frozen=True, gc=False):
    """Tokens written to the prompt cache, by how long they stay there."""

    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0


class OutputTokensDetails(msgspec.Struct, frozen=True, gc=False):
    """Parts of ``output_tokens``, which already includes them."""

    thinking_tokens: int | None = None


class ServerToolUse(msgspec.Struct, frozen=True, gc=False):
    """Calls of the tools that the API itself runs; billed by the piece."""

    web_search_requests: int | None = None
    web_fetch_requests: int | None = None


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a message is billed for, in tokens. ``input_tokens`` leaves out what the prompt cache read or wrote."""

    input_tokens: int
    output_tokens: int
    cache_creation: CacheCreation | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    inference_geo: str | None = None
    output_tokens_details: OutputTokensDetails | None = None
    server_tool_use: ServerToolUse | None = None
    service_tier: str | None = None
    speed: str | None = None


class ContentBlock(msgspec.Struct, frozen=True, gc=False):
    """One block of an answer. Only ``text`` blocks have text; others are in the raw message."""

    type: str
    text: str | None = None


class StopDetails(msgspec.Struct, frozen=True, gc=False):
    """Why the model refused."""

    type: str | None = None
    category: str | None = None
    explanation: str | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """The essentials of an answer. ``model`` is the resolved id, which may differ from the one asked for."""

    id: str
    model: str
    content: list[ContentBlock]
    usage: Usage
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None

    @property
    def text(self) -> str:
        """The text blocks joined: an answer may begin with thinking, so the first block is not always text."""
        return "".join(block.text or "" for block in self.content if block.type == "text")


def decode(data: bytes | msgspec.Raw, kind: type[T]) -> T:
    """Read JSON into a value.

    :raises MalformedResponseError: says where it went wrong, never what the data was.
    """
    return _decode(msgspec.json.Decoder(kind), data)


def with_server_time(value: T, server_time: datetime | None) -> T:
    """Give the same value with the server's clock in it, in every place that is made for it."""
    if isinstance(value, BatchPage):
        data = [with_server_time(batch, server_time) for batch in value.data]
        return msgspec.structs.replace(value, data=data, server_time=server_time)
    if isinstance(value, MessageBatch):
        return msgspec.structs.replace(value, server_time=server_time)
    return value


def decode_result_line(line: bytes | bytearray | memoryview) -> ResultLine:
    """Read one line of a results stream, leaving the message itself undecoded: 100,000 lines take part of a second.

    :raises MalformedResponseError: the line is no result.
    """
    return _decode(_RESULT_LINE, line)


def decode_message(raw: bytes | msgspec.Raw) -> Message:
    """Read the message of a succeeded request.

    :raises MalformedResponseError: it is no message.
    """
    return _decode(_MESSAGE, raw)


def decode_error(raw: bytes | msgspec.Raw) -> ErrorEnvelope:
    """Read the error of a refused call, or of an errored request.

    :raises MalformedResponseError: it is no error that the API makes.
    """
    return _decode(_ERROR, raw)


_NULL = msgspec.Raw(b"null")


def _unless_null(raw: msgspec.Raw) -> msgspec.Raw | None:
    return None if raw == _NULL else raw


_RESULT_LINE = msgspec.json.Decoder(ResultLine)
_MESSAGE = msgspec.json.Decoder(Message)
_ERROR = msgspec.json.Decoder(ErrorEnvelope)


def _decode(decoder: msgspec.json.Decoder[T], data: bytes | bytearray | memoryview | msgspec.Raw) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # A UnicodeDecodeError carries the data, so only its reason may be shown, and it may not be chained.
        reason = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
    raise MalformedResponseError(f"the answer is not the JSON expected: {reason}")
