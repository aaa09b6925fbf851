"""Make rows of the lines of result streams that are not results, once reading them again gives no better ones.

Invariant: a line that may be a paid answer is kept, and the request that it may belong to is not sent again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from airflow_claude_batch.batch.input.custom_id import parse_custom_id
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.odd_lines import OddLine
from airflow_claude_batch.batch.land.parse_result import unreadable_result
from airflow_claude_batch.batch.land.result_stream import DownloadSummary, parse_odd
from airflow_claude_batch.batch.land.rows import FINAL, PAID
from airflow_claude_batch.batch.quantity import quantity

#: File beside the rows, with lines that belong to no request for certain.
UNREADABLE_FILE: Final = "unreadable_lines.jsonl"
_NO_TOKEN: Final = "0" * 12


def keep_odd_lines(
    landing: Landing, batch_id: str, summary: DownloadSummary, members: Sequence[int] | None = None
) -> None:
    """Make rows of the odd lines of a stream.

    A line that names no request belongs to one whose result is not among the others. If there is one such request, the
    line is its row. If there are several, each gets a row that says so, because each may have been paid for.

    :param members: the requests that may be in the batch. None: they are known only when all batches have been read,
        and :func:`place_lines` is called then.
    """
    if not summary.odd:
        return
    unplaced = [odd for odd in summary.odd if not _keep_named(landing, odd, batch_id)]
    if any(odd.left_out for odd in summary.odd):
        landing.shortened_batch_ids.add(batch_id)
    if unplaced:
        ours = parse_custom_id(summary.custom_id)
        landing.unplaced[batch_id] = unplaced, ours.token if ours else _NO_TOKEN
        if members is not None:
            _place(landing, [batch_id], members)
    landing.rows.copy_to_duplicates()


def place_lines(landing: Landing) -> None:
    """Make rows of the odd lines that name no request, after all batches have been read."""
    if landing.unplaced:
        _place(landing, list(landing.unplaced), range(len(landing.matcher)))
        landing.rows.copy_to_duplicates()


def _keep_named(landing: Landing, odd: OddLine, batch_id: str) -> bool:
    """Keep a line as the row of the request that it names. False if it names none, or one that has an answer."""
    custom_id: str | None = odd.custom_id
    if custom_id is None or not landing.matcher.has(custom_id, batch_id):
        custom_id = landing.matcher.find_damaged(odd.raw) or landing.matcher.name_line()
    if custom_id is None:
        return False
    index = landing.matcher.exact_index(custom_id, batch_id)
    if index is not None and landing.statuses[index] in PAID and not landing.rows.is_unreadable(index):
        return False
    return landing.keep(index, custom_id, batch_id, parse_odd(landing, odd, custom_id, batch_id))


def _place(landing: Landing, batch_ids: Sequence[str], members: Sequence[int]) -> None:
    """Give the lines of these batches to the requests that have no result of them."""
    without = [index for index in members if _has_no_result(landing, index, batch_ids)]
    batch_id, token = batch_ids[0], landing.unplaced[batch_ids[0]][1]
    lines = {id_: landing.unplaced.pop(id_)[0] for id_ in batch_ids}
    if len(without) == 1:
        odd = OddLine.joined(lines.pop(batch_id))
        custom_id = landing.matcher.custom_id(without[0], token)
        landing.keep(without[0], custom_id, batch_id, parse_odd(landing, odd, custom_id, batch_id))
    elif without:
        reason = (
            f"{quantity(sum(map(len, lines.values())), 'line')} of the results could not be read and may be the answer "
            f"to this request. What came is in {UNREADABLE_FILE}"
        )
        for index in without:
            custom_id = landing.matcher.custom_id(index, token)
            landing.keep(index, custom_id, batch_id, unreadable_result(reason, batch_id, custom_id))
    for id_, odd_lines in lines.items():
        landing.leftover.setdefault(id_, []).extend(odd_lines)


def _has_no_result(landing: Landing, index: int, batch_ids: Collection[str]) -> bool:
    """Tell whether a request lacks a row of these batches. A row of an earlier round may have been sent again."""
    status = landing.statuses[index]
    if not status or status in FINAL or index in landing.matcher.duplicates:
        return not status and index not in landing.matcher.duplicates
    from_batch = landing.rows.answer(index).batch_id
    return from_batch not in batch_ids and from_batch not in landing.read_batch_ids
