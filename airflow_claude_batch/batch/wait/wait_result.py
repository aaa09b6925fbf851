"""Describe how a wait ended. One format for the trigger's event and for the blocking wait."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.wait.schedule import PollError, not_found_ids

#: The version of the event format. Readers accept any version.
EVENT_VERSION: Final = 1

Status = Literal["ended", "due", "error"]


@dataclass(frozen=True, slots=True)
class BatchState:
    """The state of a message batch when it was last polled.

    :param request_counts: all ``processing`` until the whole batch has ended.
    :param ended_at: RFC 3339, or None until it has ended.
    """

    processing_status: str
    request_counts: Mapping[str, int] = field(default_factory=dict)
    ended_at: str | None = None

    @classmethod
    def of(cls, batch: MessageBatch) -> BatchState:
        counts = batch.request_counts
        return cls(
            batch.processing_status,
            {name: getattr(counts, name) for name in counts.__struct_fields__},
            batch.ended_at.isoformat() if batch.ended_at else None,
        )

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> BatchState:
        counts = value.get("request_counts")
        items = counts.items() if isinstance(counts, Mapping) else ()
        return cls(
            str(value.get("processing_status")),
            {str(name): count for name, count in items if isinstance(count, int)},
            _text(value.get("ended_at")),
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "processing_status": self.processing_status,
            "request_counts": dict(self.request_counts),
            "ended_at": self.ended_at,
        }


@dataclass(frozen=True, slots=True)
class WaitResult:
    """The result of a wait: why it returned, and the last known state of each batch.

    :param status: ``ended``: all (or any) of the batches have ended. ``due``: the deadline has passed and the batches
        keep running. ``error``: further waiting is useless until a person fixes the cause in ``error``. The batches
        keep running.
    :param batches: by batch id, those that were seen at all.
    :param error: the message, one or more lines.
    :param error_type: the class of the error, such as ``AuthenticationError``.
    :param lost: with an error, the batches that the API has denied for
        :data:`~airflow_claude_batch.batch.wait.schedule.NOT_FOUND_CONFIRM_SECONDS`.

    Example: ``WaitResult.from_event(event)`` in ``execute_complete`` reads what the trigger sent.
    """

    status: Status
    batches: Mapping[str, BatchState] = field(default_factory=dict)
    error: str | None = None
    error_type: str | None = None
    lost: tuple[str, ...] = ()

    @classmethod
    def failed(cls, text: str, error: Exception, batches: Mapping[str, BatchState]) -> WaitResult:
        """Return the result of a wait that failed with an error that a person must fix."""
        return cls("error", batches, text, type(error).__name__)

    @classmethod
    def denied(cls, text: str, denials: Mapping[str, PollError], batches: Mapping[str, BatchState]) -> WaitResult:
        """Return the result of a wait for batches that the API keeps denying."""
        first = next(iter(denials.values()))
        return cls("error", batches, text, type(first).__name__, not_found_ids(denials))

    def to_event(self) -> dict[str, Any]:
        """Return the payload of a trigger event: JSON, small, without secrets."""
        return {
            "version": EVENT_VERSION,
            "status": self.status,
            "batches": {batch_id: state.to_dict() for batch_id, state in self.batches.items()},
            "error": self.error,
            "error_type": self.error_type,
            "lost": list(self.lost),
        }

    @classmethod
    def from_event(cls, event: Any) -> WaitResult:
        """Read the payload of a trigger event, of any version of this package, or of any other shape.

        An unknown status is read as ``due``, so that the caller polls the batches itself.
        """
        event = event if isinstance(event, Mapping) else {}
        status: Status = event["status"] if event.get("status") in ("ended", "error") else "due"
        batches, lost = event.get("batches"), event.get("lost")
        states = batches.items() if isinstance(batches, Mapping) else ()
        return cls(
            status,
            {str(key): BatchState.from_dict(value) for key, value in states if isinstance(value, Mapping)},
            _text(event.get("error")),
            _text(event.get("error_type")),
            tuple(id_ for id_ in lost if isinstance(id_, str)) if isinstance(lost, list | tuple) else (),
        )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
