"""Resolve open create calls: intents in the ledger for which no batch is known.

Searches the workspace, asks ``decide``, and records the decision. Only here is an intent given a batch or removed. What
a search has found out is stored, because the next one may run in another process.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from airflow_claude_batch.api.evidence import Proof, proof_of
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.ledger.part import Part
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.observer import Observer
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.recover import search
from airflow_claude_batch.batch.recover.clocks import latest_moment
from airflow_claude_batch.batch.recover.copies import keep_copies
from airflow_claude_batch.batch.recover.decide import (
    SEARCH_INTERVAL,
    Adopt,
    Candidate,
    Decision,
    LookAgain,
    Peek,
    Send,
    Stop,
    decide,
    is_too_late,
    possible_batches,
)
from airflow_claude_batch.batch.recover.peeked import PeekedBatches
from airflow_claude_batch.exceptions import (
    APIError,
    APIStatusError,
    RateLimitError,
    ServerError,
    SubmissionUnknownError,
)

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)

#: Batches of one part that the ledger names, each with about 30 bytes. More are read again in each search.
_STORED_BATCHES: Final = 1000
#: The name of the call under which the ledger counts 404s of the listing.
LIST: Final = "list message batches"


@dataclass(frozen=True, slots=True)
class OpenCreate:
    """A create call about which nothing can be decided yet.

    :param batch_ids: message batches that it may have become.
    :param until: when to search again, unless one of them ends before.
    """

    batch_ids: tuple[str, ...]
    until: datetime


def resolve_open_creates(
    record: LedgerRecord,
    client: ClaudeClient,
    policy: Policy,
    *,
    clock: Callable[[], datetime],
    deadline: datetime,
    observer: Observer,
    api: str = "",
    peeked: PeekedBatches | None = None,
) -> OpenCreate | None:
    """Give every intent its batch, or remove it if it was not accepted. Return what must be waited for, if anything.

    :param deadline: longest wait for a batch that may be ours, by the worker's clock.
    :param peeked: remembers whose batches were read, beyond this call, under the API's base URL ``api``.
    :raises SubmissionUnknownError: the API cannot tell what happened, and ``on_lost`` is ``stop``.
    :raises APIError: the listing cannot be read, and has not been readable for long.
    """
    resolver = _Resolver(
        record,
        client,
        policy,
        clock=clock,
        deadline=deadline,
        observer=observer,
        api=api,
        peeked=PeekedBatches() if peeked is None else peeked,
    )
    for part in record.ledger.intents:
        open_create = resolver.resolve(part)
        if open_create is not None:
            return open_create
    return None


@dataclass(slots=True)
class _Resolver:
    record: LedgerRecord
    client: ClaudeClient
    policy: Policy
    clock: Callable[[], datetime] = field(kw_only=True)
    deadline: datetime = field(kw_only=True)
    observer: Observer = field(kw_only=True)
    api: str = field(kw_only=True)
    peeked: PeekedBatches = field(kw_only=True)

    def resolve(self, part: Part) -> OpenCreate | None:
        self.record.check_ownership()
        try:
            listing = search.list_batches_since(self.client, part, clock=self.clock)
        except APIStatusError as error:
            return self._wait_for_listing(error)
        self._save(self.record.ledger.without_repeated(LIST))
        listing = self._with_unlisted_candidates(part, listing)
        decision = self._decide(part, listing)
        if isinstance(decision, Peek):
            listing = dataclasses.replace(listing, batches=self._with_custom_ids(listing, decision.batch_ids))
            decision = self._decide(part, listing)
        if isinstance(decision, Send):
            listing = search.confirm(self.client, part, listing)
            decision = self._decide(part, listing)
        return self._act(decision, part, listing)

    def _decide(self, part: Part, listing: search.Listing) -> Decision:
        known, grace = self.record.ledger.batch_ids, self.policy.lost_create_grace
        return decide(part, listing.batches, known=known, now=listing.now, grace=grace, trust=listing.trust)

    def _act(self, decision: Decision, part: Part, listing: search.Listing) -> OpenCreate | None:
        match decision:
            case Adopt(batch_id, copies):
                self.record.add_batch(part, listing.by_id[batch_id])  # as listed: another call may get a 404 now
                log.info(
                    "Found message batch %s of a create call that got no response. It is not sent again.", batch_id
                )
                keep_copies(self.record, self.client, part, listing.by_id[batch_id], [listing.by_id[c] for c in copies])
                self.observer.recovered("adopted")
            case LookAgain() | Peek():
                return self._look_again(decision, part, listing)
            case Stop(batch_ids) if self.policy.on_lost == "stop":
                raise unknown_create_error(part, batch_ids)
            case _:
                self._send_again(part)
        return None

    def _send_again(self, part: Part) -> None:
        self.record.save(self.record.ledger.without_part(part))
        if part.refused:
            return
        log.info("A create call of %s was not accepted; it is sent again.", quantity(part.count, "request"))
        self.observer.recovered("sent_again")

    def _look_again(self, decision: LookAgain | Peek, part: Part, listing: search.Listing) -> OpenCreate:
        self._save(self.record.ledger.with_part(self._with_findings(part, listing)))
        pause = decision.pause if isinstance(decision, LookAgain) else SEARCH_INTERVAL
        _log_search(part, decision.batch_ids)
        return OpenCreate(decision.batch_ids, self.deadline if pause is None else self.clock() + pause)

    def _with_findings(self, part: Part, listing: search.Listing) -> Part:
        """Return the part with what this search has found out, for the next one."""
        grace = self.policy.lost_create_grace
        known = self.record.ledger.batch_ids
        possible = possible_batches(part, listing.batches, known=known, now=listing.now, grace=grace)
        foreign = tuple(batch.batch_id for batch in possible if batch.first_custom_id)
        candidates = tuple(batch.batch_id for batch in possible if not batch.first_custom_id)
        latest, known_as_odd = latest_moment(listing.now), part.odd_candidates
        from_future = [b.batch_id for b in possible if b.created_at > latest and b.batch_id not in known_as_odd]
        is_whole = len(candidates) <= _STORED_BATCHES and is_too_late(part, listing.now, grace, listing.trust)
        return msgspec.structs.replace(
            part,
            searched_since=part.searched_since or (None if part.intended_at_worker else listing.now.api),
            candidates=candidates[:_STORED_BATCHES],
            odd_candidates=(*part.odd_candidates, *from_future)[-_STORED_BATCHES:],
            foreign=(*part.foreign, *foreign)[-_STORED_BATCHES:],
            has_all_candidates=part.has_all_candidates or is_whole,
        )

    def _with_unlisted_candidates(self, part: Part, listing: search.Listing) -> search.Listing:
        """Add the candidates of earlier searches that this listing lacks, unless the API has deleted them.

        A cache or a slow node may have given an old listing.
        """
        for batch_id in part.candidates:
            if batch_id in listing.by_id:
                continue
            call = f"look up {batch_id}"
            try:
                listing = listing.with_batch(self.client.retrieve_batch(batch_id))
                self._save(self.record.ledger.without_repeated(call))
            except APIError as error:
                if not self._is_gone(call, error):
                    unreadable = Candidate(batch_id, part.count, True, part.intended_at, None, True, 0, True)
                    listing = dataclasses.replace(listing, batches=(*listing.batches, unreadable))
        return listing

    def _with_custom_ids(self, listing: search.Listing, batch_ids: tuple[str, ...]) -> tuple[Candidate, ...]:
        return tuple(self._with_custom_id(batch) if batch.batch_id in batch_ids else batch for batch in listing.batches)

    def _with_custom_id(self, batch: Candidate) -> Candidate:
        """Return the candidate with its first custom_id, empty if its results are gone and have been for long enough.

        A failure of this one batch must not keep the others from being found.
        """
        call, custom_id, error = f"results of {batch.batch_id}", None, None
        try:
            custom_id = self.peeked.read(
                self.client, self.api, batch.batch_id, batch.created_at, rows=batch.request_count
            )
        except APIError as failed:
            error = failed
        if custom_id:
            self._save(self.record.ledger.without_repeated(call))
            return dataclasses.replace(batch, first_custom_id=custom_id)
        if self._is_gone(call, error):
            return dataclasses.replace(batch, first_custom_id="")
        return dataclasses.replace(batch, is_unreadable=True)

    def _is_gone(self, call: str, error: APIError | None) -> bool:
        """Count an answer that says that there is nothing. Return whether it has lasted long enough to be believed.

        :param error: None for a stream without a readable line.
        """
        if error is not None and proof_of(error) is not Proof.DOES_NOT_EXIST:
            log.warning("The search goes on without one answer (%s). %s", call, error)
            return False
        now = self.clock()
        self.record.save(self.record.ledger.with_repeated(call, now))
        answer = self.record.ledger.repeated_answer(call)
        return answer is not None and answer.has_lasted(now)

    def _wait_for_listing(self, error: APIStatusError) -> OpenCreate:
        """Search again soon after an error of the listing that does not say that it will last.

        :raises APIStatusError: it has lasted, or it is an outage or a refusal, which the caller waits out.
        """
        proof = proof_of(error)
        if proof is Proof.NOT_ACCEPTED or isinstance(error, RateLimitError | ServerError):
            raise error
        if proof is not Proof.NOTHING:
            now = self.clock()
            self.record.save(self.record.ledger.with_repeated(LIST, now))
            answer = self.record.ledger.repeated_answer(LIST)
            if answer is not None and answer.has_lasted(now):
                raise error
        log.warning("The message batches could not be listed just now; the search goes on. %s", error)
        return OpenCreate((), self.clock() + SEARCH_INTERVAL)

    def _save(self, ledger: Ledger) -> None:
        """Save the ledger if it has changed."""
        if ledger != self.record.ledger:
            self.record.save(ledger)


def _log_search(part: Part, batch_ids: tuple[str, ...]) -> None:
    log.info(
        "A create call of %s, begun at %s, %s. Message batches that it may have become: %s.",
        quantity(part.count, "request"),
        f"{part.intended_at:%Y-%m-%d %H:%M:%S} UTC",
        "was refused" if part.refused else "got no response",
        ", ".join(batch_ids) or "none is listed yet",
    )


def unknown_create_error(part: Part, batch_ids: tuple[str, ...] = ()) -> SubmissionUnknownError:
    """Build the error for a create call about which nothing can be decided any more.

    :param batch_ids: message batches that it may have become.
    """
    named = ", ".join(batch_ids or part.candidates) or "none is listed"
    return SubmissionUnknownError(
        f"It is unknown whether the API accepted a create call of {quantity(part.count, 'request')}, begun at "
        f"{part.intended_at:%Y-%m-%d %H:%M:%S} UTC.",
        f"Message batches that it may have become: {named}. Its custom_ids begin with {part.token}.",
        "If it was accepted, its batch runs and is billed. Nothing was sent again.",
        "Retry the task to search again. Or set on_lost='resend' to send these requests again and perhaps pay twice.",
    )


def unproven_create_error(request_count: int, error: APIError) -> SubmissionUnknownError:
    """Build the error for create calls that something on the way to the API refuses, again and again."""
    return SubmissionUnknownError(
        f"It is unknown whether the API accepted a create call of {quantity(request_count, 'request')}.",
        f"The response is not the API's, and no batch is listed yet. {error}",
        "Fix that, and retry the task: it searches for the batch first, and sends nothing again before.",
    )
