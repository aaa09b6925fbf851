"""A landing: results and landed rows come in, one row for each request goes out in input order."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import Final, NamedTuple

import msgspec

from airflow_claude_batch.api import wire
from airflow_claude_batch.batch.land.equal_requests import EqualRequests
from airflow_claude_batch.batch.land.landed_part import LandedPart
from airflow_claude_batch.batch.land.landed_rows import read_landed_row
from airflow_claude_batch.batch.land.match_requests import RequestMatcher
from airflow_claude_batch.batch.land.odd_lines import OddLine
from airflow_claude_batch.batch.land.parse_result import (
    NO_BATCH,
    ParsedResult,
    parse_direct,
)
from airflow_claude_batch.batch.land.row_table import PaidAnswer, RowTable
from airflow_claude_batch.batch.land.rows import (
    DIRECT,
    PAID,
    RESULTS_FILE,
    Status,
    body_of_duplicate,
    body_of_missing,
    indices_where,
    line_of,
)
from airflow_claude_batch.batch.money.bill import Bill
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import ResultsError

_WITH_RESULT: Final = frozenset(Status) - {Status.NONE, Status.REUSED}


class PublishedRows(NamedTuple):
    """What was written as ``results.jsonl``: where, and its size in bytes."""

    uri: str
    size: int


class Landing:
    """Collects the results of a submission and gives them as rows. Use it as a context manager.

    Any batch may be read in any order and more than once, and landed rows may be restored before or after: what is
    already there is not counted again. Example::

        with Landing(SubmissionMatcher(requests), prices=prices) as landing:
            landing.restore(file)
            read_results(landing, batch_id, lines)
            publish_rows(landing, folder, missing=None)
    """

    def __init__(self, matcher: RequestMatcher, *, prices: PriceTable) -> None:
        self.matcher = matcher
        self.rows = RowTable(len(matcher), prices, matcher.duplicates)
        #: How each request has ended so far, as :class:`~.rows.Status`.
        self.statuses = self.rows.statuses
        #: Batches whose results were read or restored.
        self.batch_ids: set[str] = set()
        #: Batches that have answered the rows which are in no landed part yet.
        self.pending_batch_ids: set[str] = set()
        self.prices = prices
        self._equal_requests = EqualRequests(matcher, self.rows)
        #: Batches whose results were read, not restored.
        self.read_batch_ids: set[str] = set()
        #: Lines of result streams that belong to no request, by batch.
        self.leftover: dict[str, list[OddLine]] = {}
        #: Lines whose requests are known only when all batches have been read, with a token of their batch.
        self.unplaced: dict[str, tuple[list[OddLine], str]] = {}
        #: Batches some of whose answers are not kept as a whole.
        self.shortened_batch_ids: set[str] = set()
        #: Batches whose answers are in the answer store, in order.
        self.stored_batch_ids: tuple[str, ...] = ()
        #: The ``results.jsonl`` that has all rows as they are now, None if there is none.
        self.published: PublishedRows | None = None

    def __enter__(self) -> Landing:
        return self

    def __exit__(self, *exc: object) -> None:
        self.rows.close()

    @property
    def bill(self) -> Bill:
        """Tokens and cost of every answer that was paid for."""
        return self.rows.bill

    def restore_parts(self, parts: Iterable[LandedPart]) -> None:
        """Take over landed parts, in the order in which they were landed. Their rows stay where they are."""
        for part in parts:
            self.rows.add_part(part)
            self.batch_ids.update(part.content.batch_ids)
            self.shortened_batch_ids.update(part.content.shortened_batch_ids)

    def restore(self, lines: Iterable[bytes], *, may_skip: Callable[[bytes], bool] = lambda line: False) -> int:
        """Take over the rows of an earlier ``results.jsonl``.

        :param may_skip: tells which damaged lines to leave out. The caller reads their answers again.
        :return: how many lines were left out.
        :raises ResultsError: a line is damaged.
        """
        damaged = 0
        for number, line in enumerate(lines, 1):
            try:
                self._restore(line)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                damaged += 1
                if may_skip(line):
                    continue
                raise ResultsError(
                    f"Line {number} of the landed {RESULTS_FILE} is damaged ({type(error).__name__}).",
                    "Answers of message batches stay at the API for 29 days; a retry downloads them at no cost.",
                    "Restore the file, or remove it and clear the task.",
                ) from None
        self.rows.copy_to_duplicates()
        return damaged

    def _restore(self, line: bytes) -> None:
        row = read_landed_row(line, self.prices)
        if row is None:
            return
        self.batch_ids |= row.batch_ids
        self.pending_batch_ids |= row.batch_ids
        index = self.matcher.exact_index(row.custom_id, row.batch_id)
        if row.is_copy and index is not None and self.statuses[index]:
            return  # the row that it was copied from says more
        if self.keep(index, row.custom_id, row.batch_id, row.parsed):
            for answer in row.replaced:
                if answer.model is None:
                    self.bill.unreadable_answers += 1
                else:
                    self.bill.add_usage(answer.usage, answer.model, is_direct=answer.way == DIRECT)
        if row.is_shortened:
            self.shortened_batch_ids.add(row.batch_id)

    def keep(self, index: int | None, custom_id: str, batch_id: str, parsed: ParsedResult) -> bool:
        """Keep a result at its exact index if that is free, else at an equal request; False if there is none."""
        if (index := self._equal_requests.place(index, custom_id, parsed.status)) is None:
            return False
        self.rows.keep(index, batch_id, parsed)
        if parsed.reused_from is None and not parsed.is_direct:
            self.pending_batch_ids.add(batch_id)
        self.published = None
        return True

    def read_direct(self, line: bytes) -> None:
        """Keep an answer of the Messages API. Read again, it counts once.

        A second answer to a request that has one is not used, but it is billed: the row names it as ``replaced``.

        :param line: as in the results of a message batch.
        :raises MalformedResponseError: the line is not a result.
        :raises ResultsError: the local disk refuses.
        """
        result = wire.decode_result_line(line)
        validator = self.matcher.validator(result.custom_id, NO_BATCH)
        parsed = parse_direct(result, self.prices, validator)
        index = self.matcher.exact_index(result.custom_id, NO_BATCH)
        if index is not None and self.statuses[index] in PAID and parsed.status in PAID:
            self.rows.add_second(index, result.custom_id, parsed)
            return
        if self.keep(index, result.custom_id, NO_BATCH, parsed):
            self.rows.copy_to_duplicates()

    def explain(self, index: int, reason: str) -> None:
        """Say in the row of a request without an answer why there is none. A request without a row becomes canceled."""
        self.rows.note_reason(index, reason)
        self.published = None

    def reuse(self, index: int, parsed: ParsedResult) -> None:
        """Keep an answer of an earlier submission as the row of a request. See :func:`~.reused_rows.reused_result`.

        :raises ResultsError: the local disk refuses.
        """
        self.rows.keep(index, "", parsed)
        self.published = None

    def answered_indices(self) -> list[int]:
        """Return the requests that have a result, without those that share the answer of another one or reuse one."""
        duplicates = self.matcher.duplicates
        return [index for index in indices_where(self.statuses, _WITH_RESULT) if index not in duplicates]

    def repairable(self) -> Iterator[int]:
        """Yield the requests whose answers are invalid while another answer may be valid."""
        return indices_where(self.statuses, {Status.REPAIRABLE_OUTPUT})

    def answer(self, index: int) -> PaidAnswer:
        """Return how the answer to an answered request ended, and what was paid for it."""
        return self.rows.answer(self.matcher.duplicates.get(index, index))

    def line(self, index: int, *, missing: str) -> bytes:
        """Return the row of one request.

        :param missing: as in :meth:`lines`.
        """
        original = self.matcher.duplicates.get(index, index)
        body = self.rows.body(original) or body_of_missing(missing)
        is_copy = original != index and self.statuses[original]
        return self._line(index, body_of_duplicate(body) if is_copy else body)

    def lines(self, *, missing: str | None) -> Iterator[bytes]:
        """Yield the rows as lines of JSON in input order.

        :param missing: the reason to write into the rows of requests without a result; None leaves these rows out.
        :raises DamagedPartError: a landed part has other bytes than those that were written.
        """
        rows: Iterator[tuple[int, bytes]] = heapq.merge(
            self.rows.landed_lines(), self.pending_lines(), key=itemgetter(0)
        )
        if missing is not None and Status.NONE in self.statuses:
            rows = self._with_missing(rows, missing)
        return map(itemgetter(1), rows)

    def pending_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield the rows that are in no landed part yet, with the indices of their requests, in order."""
        key, kept = self.matcher.key, self.matcher.kept
        return ((index, line_of(index, key(index), body, kept(index))) for index, body in self.rows.pending_bodies())

    def _line(self, index: int, body: bytes) -> bytes:
        return line_of(index, self.matcher.key(index), body, self.matcher.kept(index))

    def _with_missing(self, rows: Iterator[tuple[int, bytes]], reason: str) -> Iterator[tuple[int, bytes]]:
        body, done = body_of_missing(reason), 0
        for index, line in itertools.chain(rows, [(len(self.statuses), b"")]):
            for without in range(done, index):
                yield without, self._line(without, body)
            if line:
                yield index, line
            done = index + 1
