"""Use an answer store: find answers of earlier submissions before sending, and store the new ones after landing.

Invariants: what is in the store was paid for and landed before. A crash at any moment costs at most that an answer is
stored twice, or stored by the next attempt. No failure of the store fails a task: what is not found is asked anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.handed_over import HandedStore
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.match_requests import SubmissionMatcher
from airflow_claude_batch.batch.land.parse_result import ParsedResult
from airflow_claude_batch.batch.land.reused_rows import reusable_answer, reused_result
from airflow_claude_batch.batch.ledger.ledger import new_token
from airflow_claude_batch.batch.money.amounts import rounded_usd
from airflow_claude_batch.batch.money.model_names import is_same_model
from airflow_claude_batch.batch.money.models import ModelChecker
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.money.reused import ReusedSums
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.reuse.answer_store import AnswerStore, StoredAnswer
from airflow_claude_batch.batch.reuse.question_key import question_key
from airflow_claude_batch.batch.storage import Folder
from airflow_claude_batch.exceptions import APIError, ClaudeBatchError, NotFoundError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)

#: Requests that are looked up at once. A key and its index take some 150 bytes.
_LOOKED_UP_AT_ONCE: Final = 100_000
#: Requests whose params are read at once.
_READ_AT_ONCE: Final = 1_000
#: Rows in memory while their questions are read.
_MOST_BODY_BYTES: Final = 4 * 1024 * 1024
#: What each submission may read in order to merge segments.
_MOST_MERGED_BYTES: Final = 256 * 1024 * 1024
_SCOPE: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ReusableRequests:
    """Requests that have a stored answer, and what those cost first."""

    indices: frozenset[int] = frozenset()
    sums: ReusedSums = field(default_factory=ReusedSums)

    def to_manifest(self) -> dict[str, Any] | None:
        """Return what the manifest says of them, None if there are none."""
        return self.sums.to_manifest(len(self.indices)) if self.indices else None


@dataclass(slots=True, kw_only=True)
class AnswerReuse:
    """The answer store of one submission.

    The answers are in a folder of their own for each workspace. Its name is known once the API has answered.

    :param path: of the store, as the author wrote it.
    :param open_folder: opens a folder below the path, by its name.
    :param connection: names the credential, where the API's responses name no workspace.
    :param clock: current time, aware.
    :param version: the author's. Another one asks everything anew.
    :param max_age: older answers are asked anew. None for any age.
    :param looks_up: False asks everything anew. The new answers are stored.
    :param scope: name of the workspace's folder. None until it is known.
    :param api: the API's version and betas. None for those of the client.
    """

    path: str
    open_folder: Callable[[str], Folder]
    connection: str
    clock: Callable[[], datetime]
    version: str = ""
    max_age: timedelta | None = None
    looks_up: bool = True
    scope: str | None = None
    api: str | None = None
    _store: AnswerStore | None = field(default=None, init=False)

    def find(
        self,
        indices: Iterable[int],
        matcher: SubmissionMatcher,
        client: ClaudeClient,
        *,
        models: ModelChecker,
        prices: PriceTable,
    ) -> Iterator[tuple[int, ParsedResult]]:
        """Yield the requests that have a stored answer which counts today, each with its row, in any order.

        An answer counts if it is young enough, valid for today's schema, and of the model that the request's name of a
        model stands for now, as far as the API's catalogue tells.

        :param indices: requests, in ascending order, without duplicates.
        :raises APIError: no response has named the workspace yet, and the API cannot be asked for it.
        :raises ConfigurationError: the store's path cannot be used.
        """
        least = None if self.max_age is None else self.clock() - self.max_age
        token = new_token()
        for chunk in _chunks(indices, _LOOKED_UP_AT_ONCE):
            store = self._open(client)
            for index, answer in store.find(self._keys(matcher.requests, chunk, client), not_before=least):
                if not _is_current(answer.model, matcher.requests.model(index), models):
                    continue
                if (parsed := _result_of(answer, index, matcher, token, prices)) is not None:
                    yield index, parsed

    def look_up(
        self,
        indices: Sequence[int],
        matcher: SubmissionMatcher,
        client: ClaudeClient,
        *,
        models: ModelChecker,
        prices: PriceTable,
    ) -> ReusableRequests:
        """Return which requests have a stored answer that counts today. See :meth:`find`."""
        found, sums = set[int](), ReusedSums()
        for index, parsed in self.find(indices, matcher, client, models=models, prices=prices):
            found.add(index)
            if parsed.reused_from is not None:
                sums = sums.with_answer(parsed.reused_from.cost_usd, parsed.reused_from.answered_at)
        log_reused(len(found), len(indices), sums, self.path)
        return ReusableRequests(frozenset(found), sums)

    def store(
        self,
        landing: Landing,
        requests: RequestFile,
        client: ClaudeClient,
        *,
        submission_id: str,
        batch_ids: Collection[str],
        ends: Mapping[str, datetime],
    ) -> None:
        """Store the complete answers of message batches that are not in the store yet. Never raises.

        Each answer is dated by the end of its batch: an answer that counted as younger would outlive ``max_age``, take
        the place of a newer one, or come back after it was erased.

        :param batch_ids: batches whose rows are landed.
        :param ends: when they ended, as far as that is known. The API is asked for the others.
        """
        if not (new := sorted(set(batch_ids).difference(landing.stored_batch_ids))):
            return
        try:
            dated = {id_: at for id_ in new if (at := ends.get(id_) or _end_of(id_, client)) is not None}
            if not (new := [*dated]):
                return
            answers = self._answers(landing, requests, dated, client, submission_id)
            store = self._open(client)
            if not store.add(_segment_name(submission_id, new), answers):
                return
            landing.stored_batch_ids = (*landing.stored_batch_ids, *new)
            store.merge(most_bytes=_MOST_MERGED_BYTES)
        except (ClaudeBatchError, OSError, ValueError, msgspec.MsgspecError) as error:
            log.warning(
                "Answers could not be stored in the answer store %s. They are landed; a later submission that asks the "
                "same pays for it again. A clear of this task stores them. %s: %s",
                self.path,
                type(error).__name__,
                error,
            )

    def handed_over(self, client: ClaudeClient) -> HandedStore | None:
        """Return what the sensor must know to store the answers. None if the workspace cannot be asked for now."""
        try:
            scope = self._scope(client)
        except APIError as error:
            log.warning("The sensor does not store the answers: nothing tells which workspace they are of. %s", error)
            return None
        return HandedStore(path=self.path, version=self.version, scope=scope, api=_api(client))

    def _scope(self, client: ClaudeClient) -> str:
        """Return the name of the workspace's folder.

        :raises APIError: no response has named the workspace yet, and the API cannot be asked for it.
        """
        if self.scope is None:
            if client.workspace_id is None:
                client.list_batches(limit=1)  # free; any response names the workspace
            self.scope = _scope(client, self.connection)
        return self.scope

    def _open(self, client: ClaudeClient) -> AnswerStore:
        if self._store is None:
            self._store = AnswerStore(self.open_folder(self._scope(client)), clock=self.clock)
        return self._store

    def _key(self, params: bytes, client: ClaudeClient) -> bytes:
        return question_key(params, version=self.version, api=self.api or _api(client))

    def _keys(self, requests: RequestFile, indices: Sequence[int], client: ClaudeClient) -> list[tuple[bytes, int]]:
        keys: list[tuple[bytes, int]] = []
        for chunk in _chunks(indices, _READ_AT_ONCE):
            requests.verify(chunk)
            keys += [(self._key(requests.written_params(index), client), index) for index in chunk]
        return keys

    def _answers(
        self,
        landing: Landing,
        requests: RequestFile,
        ends: Mapping[str, datetime],
        client: ClaudeClient,
        submission_id: str,
    ) -> Iterator[tuple[bytes, StoredAnswer]]:
        for chunk in _by_size(landing.rows.answered_bodies()):
            found = [(index, answer) for index, body in chunk if (answer := reusable_answer(body)) is not None]
            mine = [(index, answer) for index, answer in found if answer.batch_id in ends]
            requests.verify(sorted(index for index, _ in mine))
            for index, answer in mine:
                at = ends[answer.batch_id]
                yield (
                    self._key(requests.written_params(index), client),
                    StoredAnswer(landing.matcher.key(index), answer.body, submission_id, at, answer.model),
                )


def reuse_answers(
    indices: Sequence[int],
    landing: Landing,
    answers: AnswerReuse,
    client: ClaudeClient,
    models: ModelChecker,
    prices: PriceTable,
) -> int:
    """Give requests the stored answers that count today. Return how many got one, and log that.

    :param indices: requests, in ascending order, without duplicates.
    :raises APIError: as :meth:`AnswerReuse.find`.
    :raises ResultsError: the requests cannot be read, or the local disk refuses.
    """
    assert isinstance(landing.matcher, SubmissionMatcher)  # noqa: S101  # a submission has requests
    before, count = landing.bill.reused, 0
    for index, parsed in answers.find(indices, landing.matcher, client, models=models, prices=prices):
        landing.reuse(index, parsed)
        count += 1
    log_reused(count, len(indices), landing.bill.reused.since(before), answers.path)
    return count


def log_reused(count: int, asked: int, sums: ReusedSums, path: str) -> None:
    """Log how many answers are reused, when they were given, and what they cost then."""
    if not count or sums.oldest is None or sums.newest is None:
        log.info("The answer store has none of %s: %s.", quantity(asked, "request"), path)
        return
    first, last = f"{sums.oldest:%Y-%m-%d}", f"{sums.newest:%Y-%m-%d}"
    log.info(
        "The answer store has %s of %s, answered %s, which cost %s then and nothing now: %s.",
        f"{count:,}",
        quantity(asked, "request"),
        f"on {first}" if first == last else f"between {first} and {last}",
        "an unknown amount" if sums.unknown else f"{rounded_usd(Decimal(sums.usd))} USD",
        path,
    )


def _is_current(answered: str, asked: str, models: ModelChecker) -> bool:
    """Tell whether a name of a model stands for the model that has answered. If nothing tells, it does."""
    if asked == answered:
        return True
    resolved = models.resolve(asked)
    return resolved is None or is_same_model(resolved, answered)


def _result_of(
    answer: StoredAnswer, index: int, matcher: SubmissionMatcher, token: str, prices: PriceTable
) -> ParsedResult | None:
    custom_id = matcher.custom_id(index, token)
    return reused_result(
        answer.body,
        submission_id=answer.submission_id,
        answered_at=answer.answered_at,
        custom_id=custom_id,
        prices=prices,
        validator=matcher.validator(custom_id, ""),
    )


def _scope(client: ClaudeClient, connection: str) -> str:
    """Return the name of the workspace's folder.

    A workspace that only the connection names does not do: another server may answer under that name.
    """
    workspace = client.workspace_id
    if workspace is not None and _SCOPE.fullmatch(workspace):
        return workspace
    named = workspace or client.configured_workspace_id or ""
    digest = hashlib.sha256(f"{connection}\n{client.base_url}\n{named}".encode()).hexdigest()
    return f"connection-{digest[:16]}"


def _end_of(batch_id: str, client: ClaudeClient) -> datetime | None:
    """Ask the API when a batch ended, which is free. None if the API does not know it any more.

    :raises APIError: the API cannot be asked now.
    """
    with contextlib.suppress(NotFoundError):
        if (ended_at := client.retrieve_batch(batch_id).ended_at) is not None:
            return ended_at
    log.warning("The answers of %s are not stored: nothing tells any more how old they are.", batch_id)
    return None


def _api(client: ClaudeClient) -> str:
    """Return the API's version and betas, which may change answers."""
    return " ".join((client.api_version, *sorted(set(client.betas))))


def _segment_name(submission_id: str, batch_ids: Sequence[str]) -> str:
    """Name what is stored, the same each time that the same answers are stored."""
    return hashlib.sha256("\n".join((submission_id, *batch_ids)).encode()).hexdigest()[:32]


def _chunks(items: Iterable[_T], count: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, count)):
        yield chunk


def _by_size(bodies: Iterable[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    chunk: list[tuple[int, bytes]] = []
    size = 0
    for pair in bodies:
        chunk.append(pair)
        size += len(pair[1])
        if size > _MOST_BODY_BYTES or len(chunk) == _READ_AT_ONCE:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
