"""How many rows are fetched at once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.batch.input.rows.fetch_size import FetchSize

LARGE = 40_000_000


def sizes(rows: list[Any], count: int) -> list[int]:
    """Return the sizes of the groups in which a query's rows are fetched, which repeat those given."""
    size, fetched, at = FetchSize(), [1], 0
    while len(fetched) < count:
        group = [rows[(at + number) % len(rows)] for number in range(fetched[-1])]
        at += len(group)
        fetched.append(size.after(group))
    return fetched


def test_groups_of_small_rows_grow_to_a_limit() -> None:
    assert sizes([("x" * 1000, 1)], 11) == [1, 2, 4, 8, 16, 32, 64, 128, 200, 200, 200]


@pytest.mark.parametrize(
    "value",
    ["x" * LARGE, b"x" * LARGE, memoryview(b"x" * LARGE), {"a": ["x" * LARGE]}, [("x" * LARGE, None)]],
    ids=lambda value: type(value).__name__,
)
def test_large_rows_come_one_by_one(value: Any) -> None:
    assert sizes([(1, value)], 5) == [1, 1, 1, 1, 1]


def test_groups_shrink_at_a_large_row_and_grow_slowly_after_it() -> None:
    size = FetchSize()
    large, small = ("x" * LARGE,), ("x",)
    assert size.after([small] * 100) == 200
    assert size.after([small] * 100 + [large]) == 1
    assert [size.after([small] * count) for count in (1, 1, 1, 1, 1)] == [1, 1, 1, 1, 1]


@given(st.lists(st.integers(0, 5_000_000), min_size=1, max_size=100))
def test_a_group_is_never_empty_and_bounded_by_the_largest_row_before(lengths: list[int]) -> None:
    size, count = FetchSize(), 1
    for length in lengths:
        following = size.after([("x" * length,)] * count)
        assert 1 <= following <= min(2 * count, 200)
        assert following == 1 or following * length <= 1024 * 1024
        count = following
