"""Compare the results of an ended message batch with the requests of a submission, by the content of each request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.input.custom_id import parse_custom_id
from airflow_claude_batch.batch.land.billed_rows import BilledRow, read_billed_rows
from airflow_claude_batch.batch.land.match_requests import RequestMatcher
from airflow_claude_batch.batch.land.row_counts import expected_rows
from airflow_claude_batch.batch.money.bill import Bill
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import APIConnectionError, MalformedResponseError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

#: How often results are read that are cut, or have too few rows.
TRIES: Final = 3


@dataclass(slots=True, kw_only=True)
class Comparison:
    """What the results of one message batch answer.

    :ivar rows: result lines that were read, of ``expected``.
    :ivar answers: of them, requests that were answered, and so billed.
    :ivar foreign: lines whose custom_id this package has not made.
    :ivar tokens: number of lines by the token that begins their custom_ids. A create call has one token.
    :ivar matched: answers to requests of the submission. 0 if its requests are not known.
    :ivar answered: requests of the submission that get an answer, those that share one included.
    :ivar requests: number of requests of the submission. None if they are not known.
    :ivar bill: what all answers of the batch cost, also those to other requests.
    :ivar matched_bill: what the matched ones cost.
    """

    bill: Bill
    matched_bill: Bill
    expected: int
    requests: int | None
    rows: int = 0
    answers: int = 0
    foreign: int = 0
    unreadable: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    matched: int = 0
    answered: int = 0

    @property
    def is_foreign(self) -> bool:
        """Tell whether somebody else has sent the batch: no custom_id has the form of this package."""
        return not self.tokens and self.foreign > 0

    @property
    def is_whole(self) -> bool:
        return self.rows >= self.expected


def compare_results(
    client: ClaudeClient,
    batch: MessageBatch,
    matcher: RequestMatcher | None,
    prices: PriceTable,
    *,
    on_row: Callable[[int], None] = lambda _: None,
) -> Comparison:
    """Read all results of an ended batch, and find the requests of a submission that they answer.

    :param matcher: the requests of the submission. None if they are not known: then only prices are told.
    :param on_row: called with the number of rows read so far, for a progress bar.
    :raises APIError: the results cannot be read.
    """
    for tries_left in reversed(range(TRIES)):
        try:
            found = _compare_once(client, batch, matcher, prices, on_row)
        except (APIConnectionError, MalformedResponseError):
            if not tries_left:
                raise
            continue
        if found.is_whole:
            break
    return found


def _compare_once(
    client: ClaudeClient,
    batch: MessageBatch,
    matcher: RequestMatcher | None,
    prices: PriceTable,
    on_row: Callable[[int], None],
) -> Comparison:
    found = Comparison(
        bill=Bill(prices),
        matched_bill=Bill(prices),
        expected=expected_rows(batch.request_counts, None),
        requests=None if matcher is None else len(matcher),
    )
    answered = bytearray(0 if matcher is None else len(matcher))
    with closing(read_billed_rows(client, batch.id, prices)) as rows:
        for row in rows:
            found.rows += 1
            on_row(found.rows)
            _add(found, row)
            if row.is_answer and row.custom_id is not None and matcher is not None:
                _match(found, row, matcher, answered, batch.id)
    shared = () if matcher is None else matcher.duplicates.items()
    found.answered = sum(answered) + sum(answered[original] for index, original in shared if not answered[index])
    return found


def _add(found: Comparison, row: BilledRow) -> None:
    if row.custom_id is None:
        found.unreadable += 1
        return
    ours = parse_custom_id(row.custom_id)
    if ours is None:
        found.foreign += 1
    else:
        found.tokens[ours.token.lower()] += 1  # a gateway may change the case
    if row.is_answer:
        found.answers += 1
        _charge(found.bill, row)


def _match(found: Comparison, row: BilledRow, matcher: RequestMatcher, answered: bytearray, batch_id: str) -> None:
    assert row.custom_id is not None  # noqa: S101  # the caller has looked
    index = matcher.exact_index(row.custom_id, batch_id)
    if index is None or answered[index]:
        equal = matcher.candidate_indices(row.custom_id)
        index = next((index for index in equal if not answered[index]), None)
    if index is not None:
        answered[index] = 1
        found.matched += 1
        _charge(found.matched_bill, row)


def _charge(bill: Bill, row: BilledRow) -> None:
    if row.charge is None:
        bill.unreadable_answers += 1
    else:
        bill.add_charge(row.charge)
