"""Remember whose batches were read in a search for a lost create call, so that each is read once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import datetime
from typing import TYPE_CHECKING, Final

from airflow_claude_batch.batch.recover.search import read_first_custom_id

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

#: Remembered batches of a process. Each takes about 200 bytes.
_CAPACITY: Final = 10_000


class PeekedBatches:
    """The first custom_id of ended batches, by API and batch. It never changes, so it is read once.

    Many mapped tasks that lose their responses at once are candidates for each other. Without this, each of them reads
    the results of all others after each end.
    """

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._custom_ids: OrderedDict[tuple[str, str, datetime], str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._custom_ids)

    def get(self, api: str, batch_id: str, created_at: datetime) -> str | None:
        """Return the first custom_id of a batch, None if it was not read.

        :param api: the base URL of the API that has the batch.
        """
        with self._lock:
            return self._custom_ids.get((api, batch_id, created_at))

    def read(self, client: ClaudeClient, api: str, batch_id: str, created_at: datetime, *, rows: int = 1) -> str | None:
        """Return the first custom_id of an ended batch, and read it if that was not done yet. None if it has none.

        :param rows: the number of rows that the batch must have.
        :raises APIError: the results cannot be read.
        """
        custom_id = self.get(api, batch_id, created_at) or read_first_custom_id(client, batch_id, rows=rows)
        if custom_id:
            self.add(api, batch_id, created_at, custom_id)
        return custom_id

    def add(self, api: str, batch_id: str, created_at: datetime, custom_id: str) -> None:
        """Remember the first custom_id of a batch."""
        with self._lock:
            self._custom_ids[api, batch_id, created_at] = custom_id
            while len(self._custom_ids) > self._capacity:
                self._custom_ids.popitem(last=False)


#: What this process has read.
PEEKED: Final = PeekedBatches()
