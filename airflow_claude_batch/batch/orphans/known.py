"""What the submissions of an Airflow know of the message batches of a workspace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from airflow_claude_batch.batch.ledger.ledger import Ledger


@dataclass(frozen=True, slots=True)
class OpenCreate:
    """A create call without a response: a retry of its task looks for its batch.

    :param owner: names the task instance.
    :param count: number of its requests.
    """

    owner: str
    token: str
    count: int
    intended_at: datetime


@dataclass(slots=True)
class KnownBatches:
    """Batches and create calls that ledgers, manifests and snapshots name.

    :ivar owners: the task instance that knows a batch, by batch id.
    :ivar tokens: the task instance that has made a part, by the token of its custom_ids.
    :ivar unread: places that could not be read, each with the reason. They may know further batches.
    """

    owners: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    open_creates: list[OpenCreate] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def add_batches(self, owner: str, batch_ids: Iterable[str]) -> None:
        for batch_id in batch_ids:
            self.owners.setdefault(batch_id, owner)

    def add_ledger(self, owner: str, ledger: Ledger) -> None:
        self.add_batches(owner, ledger.batch_ids)
        for part in ledger.parts:
            self.tokens.setdefault(part.token, owner)
            if part.is_intent and part.token not in {create.token for create in self.open_creates}:
                self.open_creates.append(OpenCreate(owner, part.token, part.count, part.intended_at))
