"""The record of the message batches whose event was fired. It is stored, so that a restart fires none twice."""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from airflow_claude_batch.api.wire import Timestamp, check_year
from airflow_claude_batch.exceptions import SubmissionRecordError

RECORD_VERSION: Final = 1


class EventRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a workspace's batches.

    Its size depends on how many batches run at the same time, not on how long it is kept.

    :param watermark: when the newest known batch was created, by the API's clock. None: no batch is known.
    :param open: when each batch was created whose end is still to be noticed.
    :param done: when each batch was created that needs nothing more. Those well before the watermark are left out.
    :param firing: open batches whose event may have been fired already.
    """

    version: int = RECORD_VERSION
    watermark: Timestamp | None = None
    open: dict[str, Timestamp] = msgspec.field(default_factory=dict)
    done: dict[str, Timestamp] = msgspec.field(default_factory=dict)
    firing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.watermark is not None:
            check_year(self.watermark)


class RecordStore(Protocol):
    """Where the record is kept. Any exception means that it could not be read or written now."""

    async def load(self) -> EventRecord | None:
        """Return the record, None only if there certainly is none."""

    async def save(self, record: EventRecord) -> None:
        """Replace the record. It must be durable when this returns."""


def encode(record: EventRecord) -> str:
    """Return the record as JSON."""
    return msgspec.json.encode(msgspec.structs.replace(record, version=RECORD_VERSION)).decode()


def decode(text: str) -> EventRecord:
    """Read a record of any version.

    :raises SubmissionRecordError: it is no record. It is never taken for a missing one.
    """
    try:
        return msgspec.json.decode(text, type=EventRecord)
    except msgspec.MsgspecError as error:
        reason = str(error)
    raise SubmissionRecordError(
        f"The record of fired events cannot be read: {reason:.60}",
        "No event is fired until it can be. Batches run on and are billed as before.",
        "Restore it. Or pause the DAGs that watch, delete it, and unpause them: then events begin anew.",
    )
