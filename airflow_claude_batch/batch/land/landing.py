"""A landing: result streams and landed rows come in, one row for each request goes out in input order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from airflow_claude_batch.api import wire
from airflow_claude_batch.batch.land.landed_rows import read_landed_row
from airflow_claude_batch.batch.land.match_requests import RequestMatcher
from airflow_claude_batch.batch.land.parse_result import ParsedResult, parse_result
from airflow_claude_batch.batch.land.row_table import PaidAnswer, RowTable
from airflow_claude_batch.batch.land.rows import ANSWERED, RESULTS_FILE, Status, body_of_duplicate, body_of_missing
from airflow_claude_batch.batch.money.bill import Bill
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import ResultsError


@dataclass(slots=True)
class DownloadSummary:
    """What one result stream held: its rows, and the custom_ids that came twice or belong to no request."""

    rows: int = 0
    repeated: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


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
        self.rows = RowTable(len(matcher), prices)
        #: Batches whose results were read or restored.
        self.batch_ids: set[str] = set()
        self._prices = prices
        # Answers that are not at the request that their custom_id names, and the requests that have them.
        self._moved: dict[str, int] = {}
        self._taken_by_moved: set[int] = set()

    def __enter__(self) -> Landing:
        return self

    def __exit__(self, *exc: object) -> None:
        self.rows.close()

    @property
    def statuses(self) -> bytearray:
        """How each request has ended so far, as :class:`~.rows.Status`."""
        return self.rows.statuses

    @property
    def bill(self) -> Bill:
        """Tokens and cost of every answer that was paid for."""
        return self.rows.bill

    def restore(self, lines: Iterable[bytes]) -> None:
        """Take over the rows of an earlier ``results.jsonl``.

        :raises ResultsError: a line is damaged.
        """
        for number, line in enumerate(lines, 1):
            try:
                self._restore(line)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise ResultsError(
                    f"Line {number} of the landed {RESULTS_FILE} is damaged ({type(error).__name__}).",
                    "The answers stay at the API for 29 days; a retry downloads them at no cost.",
                    "Restore the file, or remove it and clear the task.",
                ) from None
        self.rows.copy_to_duplicates(self.matcher.duplicates)

    def _restore(self, line: bytes) -> None:
        row = read_landed_row(line, self._prices)
        if row is None:
            return
        self.batch_ids |= row.batch_ids
        index = self.matcher.exact_index(row.custom_id, row.batch_id)
        if self._keep(index, row.custom_id, row.batch_id, row.parsed):
            for answer in row.replaced:
                self.bill.add_usage(answer.usage, answer.model)

    def read_results(self, batch_id: str, lines: Iterable[bytes]) -> DownloadSummary:
        """Read one batch's result stream, whose lines come in any order.

        :raises MalformedResponseError: a line is not a result. What came before it is kept.
        :raises ResultsError: the local disk refuses.
        """
        summary = DownloadSummary()
        self.batch_ids.add(batch_id)
        exact_index, has_duplicates = self.matcher.exact_index, bool(self.matcher.duplicates)
        # Which requests came already: a byte each, but for duplicates sent by an earlier attempt, which share an index.
        indices_seen, ids_seen = bytearray(len(self.matcher)), set[str]()
        for line in lines:
            summary.rows += 1
            custom_id, parsed = self._parse(line, batch_id)
            index = exact_index(custom_id, batch_id)
            if index is None or has_duplicates:
                is_repeated = custom_id in ids_seen
                ids_seen.add(custom_id)
            else:
                is_repeated = bool(indices_seen[index])
                indices_seen[index] = True
            if is_repeated:
                summary.repeated.append(custom_id)
            elif not self._keep(index, custom_id, batch_id, parsed):
                summary.unknown.append(custom_id)
        self.rows.copy_to_duplicates(self.matcher.duplicates)
        return summary

    def _parse(self, line: bytes, batch_id: str) -> tuple[str, ParsedResult]:
        result = wire.decode_result_line(line)
        validator = self.matcher.validator(result.custom_id, batch_id)
        return result.custom_id, parse_result(result, batch_id, self._prices, validator)

    def _keep(self, index: int | None, custom_id: str, batch_id: str, parsed: ParsedResult) -> bool:
        """Keep a result at its exact index if that is free, else at an equal request; False if there is none."""
        if index is None or index in self._taken_by_moved or self._has_other_answer(index, custom_id, parsed.status):
            index = self._equal_index(custom_id, parsed.status)
        if index is None:
            return False
        self.rows.keep(index, batch_id, parsed)
        return True

    def _has_other_answer(self, index: int, custom_id: str, status: Status) -> bool:
        """Return whether a request that was sent twice has the other answer already: then this one is to spare."""
        if status not in ANSWERED or self.statuses[index] not in ANSWERED:
            return False
        return self.rows.custom_id(index) != custom_id

    def _equal_index(self, custom_id: str, status: Status) -> int | None:
        """Choose among requests with the same content: one without an answer, and the same one when it comes again."""
        if (index := self._moved.get(custom_id)) is not None:
            return index
        candidates = self.matcher.candidate_indices(custom_id)
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        free = (index for index in candidates if self.statuses[index] not in ANSWERED)
        index = next(free, candidates[0])
        if status in ANSWERED:
            self._moved[custom_id] = index
            self._taken_by_moved.add(index)
        return index

    def repairable(self) -> Iterator[int]:
        """Yield the requests whose answers are invalid while another answer may be valid."""
        return (index for index, status in enumerate(self.statuses) if status == Status.REPAIRABLE_OUTPUT)

    def answer(self, index: int) -> PaidAnswer:
        """Return how the answer to an answered request ended, and what was paid for it."""
        return self.rows.answer(self.matcher.duplicates.get(index, index))

    def model_of(self, index: int) -> str | None:
        """Return the model that answered, else the one that was asked, None if neither is known."""
        return self.rows.model(index) or self.matcher.model(index)

    def lines(self, *, missing: str | None) -> Iterator[bytes]:
        """Yield the rows as lines of JSON in input order.

        :param missing: the reason to write into the rows of requests without a result; None leaves these rows out.
        """
        no_result = b"" if missing is None else body_of_missing(missing)
        for index, (key, body) in enumerate(zip(self.matcher.keys(), self._bodies(), strict=True)):
            if body or no_result:
                yield b'{"index":%d,"key":%b,%b\n' % (index, key, body or no_result)

    def _bodies(self) -> Iterator[bytes]:
        """Yield the row body of each request; a duplicate has that of the request whose answer it shares."""
        duplicates = self.matcher.duplicates
        if not duplicates:
            return self.rows.bodies()
        bodies = enumerate(self.rows.bodies())
        return (self._duplicate_body(duplicates[index]) if index in duplicates else body for index, body in bodies)

    def _duplicate_body(self, first: int) -> bytes:
        body = self.rows.body(first)
        return body and body_of_duplicate(body)
