"""Find answers that are paid for already, before requests are sent or asked: in the answer store, in second batches."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from airflow_claude_batch.batch.answer_reuse import AnswerReuse, reuse_answers
from airflow_claude_batch.batch.attempt_memory import AttemptMemory
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.rows import FINAL, count_where
from airflow_claude_batch.batch.ledger.part import AnswerUse
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.money.models import ModelChecker
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.recover.copies import find_copies
from airflow_claude_batch.batch.recover.peeked import PEEKED
from airflow_claude_batch.batch.result_collector import ResultCollector
from airflow_claude_batch.batch.send.create import unsent_requests
from airflow_claude_batch.exceptions import ConfigurationError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidAnswers:
    """Finds answers that are paid for already, during one ``advance()``.

    :param store: where answers of earlier submissions are found. None for no store.
    :param models: resolves names of models, to compare stored answers with today's.
    """

    client: ClaudeClient
    record: LedgerRecord
    requests: RequestFile
    landing: Landing
    policy: Policy
    prices: PriceTable
    collector: ResultCollector
    store: AnswerReuse | None
    models: ModelChecker
    memory: AttemptMemory
    clock: Callable[[], datetime]

    def reuse_stored(self) -> None:
        """Before anything is sent, land what the answer store has of the requests that would be sent. Once an attempt.

        While batches of an earlier input are open, their answers come first. A crash in between costs nothing: what is
        not landed is looked up again.
        """
        ledger = self.record.ledger
        is_done = ledger.answers_looked_up and not self.collector.may_lack_reused
        if self.store is None or not self.store.looks_up or is_done or ledger.round:
            return
        if any(part.answers == AnswerUse.PREVIOUS_INPUT for part in ledger.open_parts):
            return
        unsent = array("I", unsent_requests(ledger, self.requests, self.landing.statuses, self.policy))
        if not unsent:
            return
        count = self._reuse(unsent, self.store)
        self.collector.may_lack_reused = False
        if count:
            self.memory.is_old = False
            self.collector.publish_reused()
        self.record.save(msgspec.structs.replace(self.record.ledger, answers_looked_up=True))

    def _reuse(self, unsent: array[int], store: AnswerReuse) -> int:
        """Return how many requests got a stored answer. A store that cannot be used stops only a first attempt.

        :raises ConfigurationError: the store cannot be used, and nothing was sent before.
        """
        ledger = self.record.ledger
        try:
            return reuse_answers(unsent, self.landing, store, self.client, self.models, self.prices)
        except ConfigurationError as error:
            if not (ledger.parts or ledger.archived_batch_ids):
                raise
            log.warning("The answer store cannot be used, and everything else is sent. %s", error)
            return 0

    def find_copies(self) -> bool:
        """Look for second batches of create calls that lack answers. Return whether there are any to collect."""
        for part in self.record.ledger.parts:
            if not part.landed or part.answers != AnswerUse.CURRENT:
                continue  # indices of an earlier input say nothing of this one
            statuses = self.landing.statuses[part.first : part.last + 1]
            if part.sample:
                statuses = bytearray(self.landing.statuses[index] for index in part.sample)
            if count_where(statuses, FINAL) < len(statuses):
                find_copies(self.record, self.client, part, clock=self.clock, api=self.client.base_url, peeked=PEEKED)
        return bool(self.record.ledger.open_parts)

    def find_before_asking(self) -> bool:
        """Before anything is asked directly, use the answer store, and look once for second batches of landed ones.

        Return whether there is such a batch to collect first.
        """
        landed, looked_for = self.record.ledger.landed_batch_ids, self.memory.copies_looked_for
        self.memory.copies_looked_for = looked_for | landed
        if not landed <= looked_for and self.find_copies():
            return True
        self.reuse_stored()
        return False
