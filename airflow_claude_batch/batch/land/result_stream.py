"""Read one batch's result stream into a landing: each line becomes the row of its request, or is put aside."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from airflow_claude_batch.api import wire
from airflow_claude_batch.api.lenient_json import MAX_DEPTH, TOO_DEEP, is_too_deep
from airflow_claude_batch.api.line_splitter import ShortenedLine, UnendedLine
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.odd_lines import OddLine, read_odd_line, read_odd_lines, without_mark
from airflow_claude_batch.batch.land.parse_result import ParsedResult, parse_result, unreadable_result
from airflow_claude_batch.batch.land.rows import PAID
from airflow_claude_batch.exceptions import MalformedResponseError

#: Lines that are put aside are in memory. A stream with more of them is not the API's.
_MOST_ODD_BYTES: Final = 256 * 1024 * 1024


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


def read_results(landing: Landing, batch_id: str, lines: Iterable[bytes]) -> DownloadSummary:
    """Read one batch's result stream, whose lines come in any order. A line that is no result costs no other one.

    :raises MalformedResponseError: the stream ends within a line, or it is not the API's. What came is kept.
    :raises ResultsError: the local disk refuses.
    """
    stream = _Stream(landing, batch_id, bytearray(len(landing.matcher)), bool(landing.matcher.duplicates))
    landing.batch_ids.add(batch_id)
    stream.read(lines)
    landing.read_batch_ids.add(batch_id)
    landing.rows.copy_to_duplicates()
    return stream.summary


def parse_odd(landing: Landing, odd: OddLine, custom_id: str, batch_id: str) -> ParsedResult:
    """Turn an odd line into the row of the request with this custom_id."""
    if odd.result is None:
        return unreadable_result(odd.reason, batch_id, custom_id, odd.raw_line)
    validator = landing.matcher.validator(custom_id, batch_id)
    return parse_result(wire.ResultLine(custom_id, odd.result), batch_id, landing.prices, validator, odd.raw_line)


@dataclass(slots=True)
class _Stream:
    """One result stream while it is read."""

    landing: Landing
    batch_id: str
    # Which requests came already: a byte each, but for duplicates sent by an earlier attempt, which share an index.
    indices_seen: bytearray
    has_duplicates: bool
    ids_seen: set[str] = field(default_factory=set)
    #: Numbered lines that are not results by themselves.
    odd_lines: list[tuple[int, bytes]] = field(default_factory=list)
    odd_bytes: int = 0
    summary: DownloadSummary = field(default_factory=DownloadSummary)

    def read(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            self.summary.rows += 1
            try:
                custom_id, parsed = self._parse(line)
            except MalformedResponseError as error:
                self._read_odd_line(line, error)
            else:
                self._take(line, custom_id, parsed)
                self.summary.custom_id = custom_id
        self._finish_odd_lines()

    def _finish_odd_lines(self) -> None:
        """Read the lines that were put aside, now that those around them are known.

        :raises MalformedResponseError: nothing in the stream is a result of this batch. A page of a proxy is no answer.
        """
        summary = self.summary
        odd_lines = read_odd_lines(self.odd_lines)
        summary.rows += len(odd_lines) - len(self.odd_lines)
        summary.odd += odd_lines
        has_result = summary.custom_id or any(self._is_known(odd) for odd in summary.odd)
        if summary.odd and not has_result:
            raise MalformedResponseError(f"No line of the results is a result; the first: {summary.odd[0].reason}.")

    def _parse(self, line: bytes) -> tuple[str, ParsedResult]:
        """Parse a line that is in the API's form.

        :raises MalformedResponseError: it is not.
        """
        result = wire.decode_result_line(line)
        validator = self.landing.matcher.validator(result.custom_id, self.batch_id)
        parsed = parse_result(result, self.batch_id, self.landing.prices, validator)
        if len(line) - parsed.flat_bytes > 2 * MAX_DEPTH and is_too_deep(line):  # each list or object has two brackets
            raise MalformedResponseError(f"The line has {TOO_DEEP}.")
        if parsed.is_unreadable:
            raise MalformedResponseError("The line has a message that is not in the API's form.")
        return result.custom_id, parsed

    def _take(self, line: bytes, custom_id: str, parsed: ParsedResult) -> None:
        """Keep a result unless its custom_id came before in this stream. Then only an answer is better than none."""
        index = self.landing.matcher.exact_index(custom_id, self.batch_id)
        if index is None or self.has_duplicates:
            is_repeated = custom_id in self.ids_seen
            self.ids_seen.add(custom_id)
        else:
            is_repeated = bool(self.indices_seen[index])
        if index is not None:
            self.indices_seen[index] = True
        if is_repeated:
            self.summary.repeated.append(custom_id)
            if parsed.status in PAID:
                self._keep_repeated(line, index, custom_id, parsed)
        elif not self.landing.keep(index, custom_id, self.batch_id, parsed):
            self.summary.unknown.append(custom_id)

    def _keep_repeated(self, line: bytes, index: int | None, custom_id: str, parsed: ParsedResult) -> None:
        """Keep an answer whose custom_id came before with an error. A second answer goes beside the rows."""
        if index is None or self.landing.statuses[index] not in PAID:
            self.landing.keep(index, custom_id, self.batch_id, parsed)
        elif self.landing.rows.body(index) != parsed.body:
            self.landing.leftover.setdefault(self.batch_id, []).append(
                OddLine(line, "it is a second answer", custom_id)
            )

    def _read_odd_line(self, line: bytes, error: MalformedResponseError) -> None:
        """Keep what a line says if it names its request and arrived undamaged. Else put it aside."""
        if isinstance(line, ShortenedLine):
            self.summary.odd.append(OddLine.of_shortened(line))
            return
        if (unmarked := without_mark(line)) != line:
            with contextlib.suppress(MalformedResponseError):
                self._take(line, *self._parse(unmarked))
                return
        odd = read_odd_line(line)
        is_whole = odd.is_json and not odd.may_be_damaged
        if is_whole and odd.custom_id is not None and self.landing.matcher.may_name(odd.custom_id):
            self._take(line, odd.custom_id, parse_odd(self.landing, odd, odd.custom_id, self.batch_id))
            self.summary.altered += 1
            self.summary.custom_id = odd.custom_id
            return
        self.odd_bytes += len(line)
        if (isinstance(line, UnendedLine) and not odd.is_json) or self.odd_bytes > _MOST_ODD_BYTES:
            raise error
        self.odd_lines.append((self.summary.rows, line))

    def _is_known(self, odd: OddLine) -> bool:
        """Tell whether an odd line certainly is a result: it names one of the requests, or has a result in it."""
        is_named = odd.custom_id is not None and self.landing.matcher.has(odd.custom_id, self.batch_id)
        return is_named or odd.result is not None or self.landing.matcher.find_damaged(odd.raw) is not None
