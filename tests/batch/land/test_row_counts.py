from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.api.wire import RequestCounts
from airflow_claude_batch.batch.land.row_counts import Completeness, RowCount, compare_rows

WHOLE, AGREED, UNANSWERED, PARTIAL = Completeness


@pytest.mark.parametrize(
    ("rows", "answers", "counts", "sent", "says"),
    [
        pytest.param(20, 20, {"succeeded": 20}, 20, WHOLE, id="all"),
        pytest.param(20, 5, {"succeeded": 5, "errored": 15}, 20, WHOLE, id="all, some errored"),
        pytest.param(20, 20, {}, 20, WHOLE, id="no counts"),
        pytest.param(20, 20, {"succeeded": 40}, 20, WHOLE, id="doubled counts"),
        pytest.param(20, 20, {"succeeded": 3}, 20, WHOLE, id="counts below the rows"),
        pytest.param(20, 20, {"processing": 20}, 20, WHOLE, id="all are processing"),
        pytest.param(12, 12, {"succeeded": 20}, 20, PARTIAL, id="the API has more answers"),
        pytest.param(12, 12, {"succeeded": 40}, 20, PARTIAL, id="doubled, and rows are missing"),
        pytest.param(12, 12, {}, 20, PARTIAL, id="no counts, and rows are missing"),
        pytest.param(12, 12, {"succeeded": 12, "processing": 8}, 20, PARTIAL, id="the rest is processing"),
        pytest.param(12, 12, {"succeeded": 11}, 20, PARTIAL, id="counts below the rows, and rows are missing"),
        pytest.param(12, 12, {"succeeded": 12, "errored": 3}, 20, PARTIAL, id="counts of neither"),
        pytest.param(12, 10, {"succeeded": 12}, 20, PARTIAL, id="another answer is counted than came"),
        pytest.param(12, 12, {"succeeded": 12}, 20, AGREED, id="the batch has fewer requests than were sent"),
        pytest.param(12, 12, {"succeeded": 12, "expired": 8}, 20, UNANSWERED, id="rows without an answer are missing"),
        pytest.param(0, 0, {"succeeded": 20}, 20, PARTIAL, id="empty stream"),
        pytest.param(0, 0, {}, 20, PARTIAL, id="empty stream, no counts"),
        pytest.param(0, 0, {"expired": 20}, 20, PARTIAL, id="empty stream, nothing answered"),
        pytest.param(0, 0, {}, None, PARTIAL, id="foreign, empty stream, no counts"),
        pytest.param(5, 5, {}, None, WHOLE, id="foreign, no counts"),
        pytest.param(5, 5, {"succeeded": 3}, None, WHOLE, id="foreign, counts below the rows"),
        pytest.param(5, 5, {"succeeded": 8}, None, PARTIAL, id="foreign, the API has more answers"),
        pytest.param(5, 5, {"succeeded": 5, "canceled": 3}, None, UNANSWERED, id="foreign, canceled rows are missing"),
    ],
)
def test_numbers_tell_whether_a_batch_was_read_whole(
    rows: int, answers: int, counts: dict[str, int], sent: int | None, says: Completeness
) -> None:
    assert compare_rows(RowCount(rows, answers), RequestCounts(**counts), sent) is says


COUNTS = st.builds(RequestCounts, *[st.integers(0, 30)] * 5)


@given(st.integers(0, 30), st.integers(0, 30), COUNTS, st.integers(1, 30) | st.none())
def test_no_answer_that_the_api_counts_is_ever_given_up(
    rows: int, answers: int, counts: RequestCounts, sent: int | None
) -> None:
    says = compare_rows(RowCount(rows, min(answers, rows)), counts, sent)

    if says is AGREED:
        assert counts.succeeded == min(answers, rows)
        assert not counts.processing
    if not rows:
        assert says is PARTIAL
    assert (says is WHOLE) is (rows > 0 and rows >= (counts.total if sent is None else sent))
