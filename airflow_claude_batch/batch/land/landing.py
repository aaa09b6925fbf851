"""A landing: result streams and landed rows come in, one row for each request goes out in input order."""

from __future__ import annotations

import contextlib
import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final, NamedTuple

import msgspec

from airflow_claude_batch.api import wire
from airflow_claude_batch.api.lenient_json import MAX_DEPTH, TOO_DEEP, is_too_deep
from airflow_claude_batch.api.line_splitter import ShortenedLine, UnendedLine
from airflow_claude_batch.batch.land.landed_part import LandedPart
from airflow_claude_batch.batch.land.landed_rows import read_landed_row
from airflow_claude_batch.batch.land.match_requests import RequestMatcher
from airflow_claude_batch.batch.land.odd_lines import OddLine, read_odd_line, read_odd_lines, without_mark
from airflow_claude_batch.batch.land.parse_result import (
    NO_BATCH,
    ParsedResult,
    parse_direct,
    parse_result,
    unreadable_result,
)
from airflow_claude_batch.batch.land.row_table import PaidAnswer, RowTable
from airflow_claude_batch.batch.land.rows import (
    ANSWERED,
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
from airflow_claude_batch.exceptions import MalformedResponseError, ResultsError

#: Lines that are put aside are in memory. A stream with more of them is not the API's.
_MOST_ODD_BYTES: Final = 256 * 1024 * 1024
_WITH_RESULT: Final = frozenset(Status) - {Status.NONE, Status.REUSED}


class PublishedRows(NamedTuple):
    """What was written as ``results.jsonl``: where, and its size in bytes."""

    uri: str
    size: int


@dataclass(slots=True)
class DownloadSummary:
    """What one result stream held: its rows, and the custom_ids that came twice or belong to no request.

    :ivar altered: the number of rows that were read although they are not in the API's form.
    :ivar custom_id: one of the custom_ids that were read, empty if there is none.
    :ivar odd: lines that were not made into rows yet. Reading the stream again may give better ones. If it does not,
        call :func:`~.place_odd_lines.keep_odd_lines`.
    """

    rows: int = 0
    repeated: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    altered: int = 0
    custom_id: str = ""
    odd: list[OddLine] = field(default_factory=list)


@dataclass(slots=True)
class _Stream:
    """One result stream while it is read."""

    batch_id: str
    summary: DownloadSummary
    # Which requests came already: a byte each, but for duplicates sent by an earlier attempt, which share an index.
    indices_seen: bytearray
    ids_seen: set[str] = field(default_factory=set)
    #: Numbered lines that are not results by themselves.
    odd_lines: list[tuple[int, bytes]] = field(default_factory=list)
    odd_bytes: int = 0


class Landing:
    """Collects the results of a submission and gives them as rows. Use it as a context manager.

    Any batch may be read in any order and more than once, and landed rows may be restored before or after: what is
    already there is not counted again. Example::

        with Landing(SubmissionMatcher(requests), prices=prices) as landing:
            landing.restore(file)
            landing.read_results(batch_id, lines)
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
        self._prices = prices
        # Answers that are not at the request that their custom_id names, and the requests that have them.
        self._moved: dict[str, int] = {}
        self._taken_by_moved: set[int] = set()
        # The first of equal requests whose custom_ids were read from landed parts.
        self._read_ids_of: set[int] = set()
        self._has_duplicates = bool(matcher.duplicates)
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
        row = read_landed_row(line, self._prices)
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

    def read_results(self, batch_id: str, lines: Iterable[bytes]) -> DownloadSummary:
        """Read one batch's result stream, whose lines come in any order. A line that is no result costs no other one.

        :raises MalformedResponseError: the stream ends within a line, or it is not the API's. What came is kept.
        :raises ResultsError: the local disk refuses.
        """
        summary = DownloadSummary()
        stream = _Stream(batch_id, summary, bytearray(len(self.matcher)))
        self.batch_ids.add(batch_id)
        for line in lines:
            summary.rows += 1
            try:
                custom_id, parsed = self._parse(line, batch_id)
            except MalformedResponseError as error:
                self._read_odd_line(stream, line, error)
            else:
                self._take(stream, line, custom_id, parsed)
                summary.custom_id = custom_id
        self._finish_odd_lines(stream)
        self.read_batch_ids.add(batch_id)
        self.rows.copy_to_duplicates()
        return summary

    def _parse(self, line: bytes, batch_id: str) -> tuple[str, ParsedResult]:
        """Parse a line that is in the API's form.

        :raises MalformedResponseError: it is not.
        """
        result = wire.decode_result_line(line)
        validator = self.matcher.validator(result.custom_id, batch_id)
        parsed = parse_result(result, batch_id, self._prices, validator)
        if len(line) - parsed.flat_bytes > 2 * MAX_DEPTH and is_too_deep(line):  # each list or object has two brackets
            raise MalformedResponseError(f"The line has {TOO_DEEP}.")
        if parsed.is_unreadable:
            raise MalformedResponseError("The line has a message that is not in the API's form.")
        return result.custom_id, parsed

    def _take(self, stream: _Stream, line: bytes, custom_id: str, parsed: ParsedResult) -> None:
        """Keep a result unless its custom_id came before in this stream. Then only an answer is better than none."""
        index = self.matcher.exact_index(custom_id, stream.batch_id)
        if index is None or self._has_duplicates:
            is_repeated = custom_id in stream.ids_seen
            stream.ids_seen.add(custom_id)
        else:
            is_repeated = bool(stream.indices_seen[index])
        if index is not None:
            stream.indices_seen[index] = True
        if is_repeated:
            stream.summary.repeated.append(custom_id)
            if parsed.status in PAID:
                self._keep_repeated(stream.batch_id, line, index, custom_id, parsed)
        elif not self.keep(index, custom_id, stream.batch_id, parsed):
            stream.summary.unknown.append(custom_id)

    def _keep_repeated(
        self, batch_id: str, line: bytes, index: int | None, custom_id: str, parsed: ParsedResult
    ) -> None:
        """Keep an answer whose custom_id came before with an error. A second answer goes beside the rows."""
        if index is None or self.statuses[index] not in PAID:
            self.keep(index, custom_id, batch_id, parsed)
        elif self.rows.body(index) != parsed.body:
            self.leftover.setdefault(batch_id, []).append(OddLine(line, "it is a second answer", custom_id))

    def _read_odd_line(self, stream: _Stream, line: bytes, error: MalformedResponseError) -> None:
        """Keep what a line says if it names its request and arrived undamaged. Else put it aside."""
        if isinstance(line, ShortenedLine):
            stream.summary.odd.append(OddLine.of_shortened(line))
            return
        if (unmarked := without_mark(line)) != line:
            with contextlib.suppress(MalformedResponseError):
                self._take(stream, line, *self._parse(unmarked, stream.batch_id))
                return
        odd = read_odd_line(line)
        is_whole = odd.is_json and not odd.may_be_damaged
        if is_whole and odd.custom_id is not None and self.matcher.may_name(odd.custom_id):
            self._take(stream, line, odd.custom_id, self.parse_odd(odd, odd.custom_id, stream.batch_id))
            stream.summary.altered += 1
            stream.summary.custom_id = odd.custom_id
            return
        stream.odd_bytes += len(line)
        if (isinstance(line, UnendedLine) and not odd.is_json) or stream.odd_bytes > _MOST_ODD_BYTES:
            raise error
        stream.odd_lines.append((stream.summary.rows, line))

    def _finish_odd_lines(self, stream: _Stream) -> None:
        """Read the lines that were put aside, now that those around them are known.

        :raises MalformedResponseError: nothing in the stream is a result of this batch. A page of a proxy is no answer.
        """
        summary = stream.summary
        odd_lines = read_odd_lines(stream.odd_lines)
        summary.rows += len(odd_lines) - len(stream.odd_lines)
        summary.odd += odd_lines
        has_result = summary.custom_id or any(self._is_known(odd, stream.batch_id) for odd in summary.odd)
        if summary.odd and not has_result:
            raise MalformedResponseError(f"No line of the results is a result; the first: {summary.odd[0].reason}.")

    def _is_known(self, odd: OddLine, batch_id: str) -> bool:
        """Tell whether an odd line certainly is a result: it names one of the requests, or has a result in it."""
        is_named = odd.custom_id is not None and self.matcher.has(odd.custom_id, batch_id)
        return is_named or odd.result is not None or self.matcher.find_damaged(odd.raw) is not None

    def parse_odd(self, odd: OddLine, custom_id: str, batch_id: str) -> ParsedResult:
        """Turn an odd line into the row of the request with this custom_id."""
        if odd.result is None:
            return unreadable_result(odd.reason, batch_id, custom_id, odd.raw_line)
        validator = self.matcher.validator(custom_id, batch_id)
        return parse_result(wire.ResultLine(custom_id, odd.result), batch_id, self._prices, validator, odd.raw_line)

    def keep(self, index: int | None, custom_id: str, batch_id: str, parsed: ParsedResult) -> bool:
        """Keep a result at its exact index if that is free, else at an equal request; False if there is none."""
        if index is None or (self.statuses[index] and self._is_taken(index, custom_id, parsed.status)):
            index = self._equal_index(custom_id, parsed.status)
        if index is None:
            return False
        self.rows.keep(index, batch_id, parsed)
        if parsed.reused_from is None and not parsed.is_direct:
            self.pending_batch_ids.add(batch_id)
        self.published = None
        return True

    def _is_taken(self, index: int, custom_id: str, status: Status) -> bool:
        """Return whether the row of a request is another answer: one that was moved there, or the first of two."""
        if index in self._taken_by_moved:
            return True
        if status not in ANSWERED or self.statuses[index] not in ANSWERED:
            return False
        return self.rows.custom_id(index).lower() != custom_id.lower()

    def _equal_index(self, custom_id: str, status: Status) -> int | None:
        """Choose among requests with the same content: one without an answer, and the same one when it comes again."""
        if (index := self._moved.get(custom_id)) is not None:
            return index
        candidates = self.matcher.candidate_indices(custom_id)
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        self._read_restored_ids(candidates)
        if (index := self._moved.get(custom_id)) is not None:
            return index
        free = (index for index in candidates if self.statuses[index] not in ANSWERED)
        index = next(free, candidates[0])
        if status in ANSWERED:
            self._moved[custom_id] = index
            self._taken_by_moved.add(index)
        return index

    def _read_restored_ids(self, candidates: Sequence[int]) -> None:
        """Find the answers of landed parts that are not at the request that their custom_id names, once for these.

        Parts are restored without their rows being read. An answer that came again would be kept twice.
        """
        is_read = candidates[0] in self._read_ids_of
        self._read_ids_of.add(candidates[0])
        for index in candidates if not is_read else ():
            if self.statuses[index] in ANSWERED and not self.rows.pending[index]:
                custom_id = self.rows.custom_id(index)
                if self.matcher.exact_index(custom_id, "") != index:
                    self._moved.setdefault(custom_id, index)
                    self._taken_by_moved.add(index)

    def read_direct(self, line: bytes) -> None:
        """Keep an answer of the Messages API. Read again, it counts once.

        A second answer to a request that has one is not used, but it is billed: the row names it as ``replaced``.

        :param line: as in the results of a message batch.
        :raises MalformedResponseError: the line is not a result.
        :raises ResultsError: the local disk refuses.
        """
        result = wire.decode_result_line(line)
        validator = self.matcher.validator(result.custom_id, NO_BATCH)
        parsed = parse_direct(result, self._prices, validator)
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
