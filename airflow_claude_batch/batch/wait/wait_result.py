"""How a wait ended: one shape for the trigger's event and for the synchronous wait."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.wait.schedule import PollError, lost_ids

VERSION = 1

Status = Literal["ended", "due", "error"]


@dataclass(frozen=True, slots=True)
class BatchState:
    """What was last seen of a message batch.

    :param request_counts: all ``processing`` until the whole batch has ended.
    :param ended_at: RFC 3339; None until it has ended.
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
        counted = counts.items() if isinstance(counts, Mapping) else ()
        return cls(
            str(value.get("processing_status")),
            {str(name): count for name, count in counted if isinstance(count, int)},
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
    """Why a wait came back, and what it had seen by then.

    :param status: ``ended``: all (or any) of the batches have. ``due``: the time set for the wait is over; the batches
        go on. ``error``: waiting longer is of no use until somebody mends what ``error`` says; the batches go on.
    :param batches: by batch id, those that were seen at all.
    :param error_type: the class of the error, such as ``AuthenticationError``.
    :param lost: with an error: the batches of which the API has said for ten minutes that they do not exist.
    """

    status: Status
    batches: Mapping[str, BatchState] = field(default_factory=dict)
    error: str | None = None
    error_type: str | None = None
    lost: tuple[str, ...] = ()

    @classmethod
    def failed(cls, text: str, error: Exception, batches: Mapping[str, BatchState]) -> WaitResult:
        """Return the wake of a wait that a person must mend."""
        return cls("error", batches, text, type(error).__name__)

    @classmethod
    def gone(cls, text: str, errors: Mapping[str, PollError], batches: Mapping[str, BatchState]) -> WaitResult:
        """Return the wake of a wait for batches that the API denies."""
        first = next(iter(errors.values()))
        return cls("error", batches, text, type(first).__name__, lost_ids(errors))

    def to_event(self) -> dict[str, Any]:
        """Return it as the payload of a trigger event: JSON, small, no secrets."""
        return {
            "version": VERSION,
            "status": self.status,
            "batches": {batch_id: state.to_dict() for batch_id, state in self.batches.items()},
            "error": self.error,
            "error_type": self.error_type,
            "lost": list(self.lost),
        }

    @classmethod
    def from_event(cls, event: Any) -> WaitResult:
        """Read the payload of a trigger event, also of an older or newer version of this package, or of nobody's.

        A status not known here is taken for ``due``: the caller looks for itself.
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
