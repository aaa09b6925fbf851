from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.api.limits import MAX_BATCH_BYTES, MAX_REQUESTS
from airflow_claude_batch.batch.send.splitting import ENVELOPE_BYTES, Slice, split


def dealt(sizes: list[int], *, max_requests: int = 3, max_bytes: int = 100) -> list[Slice]:
    return list(split(enumerate(sizes), max_requests=max_requests, max_bytes=max_bytes))


@given(
    sizes=st.lists(st.integers(1, 85), max_size=60),
    max_requests=st.integers(1, 10),
    max_bytes=st.integers(100, 300),
    first=st.integers(0, 1000),
    step=st.integers(1, 7),
)
def test_slices_keep_the_limits_and_lose_repeat_or_reorder_nothing(
    sizes: list[int], max_requests: int, max_bytes: int, first: int, step: int
) -> None:
    numbered = [(first + step * place, size) for place, size in enumerate(sizes)]
    slices = list(split(numbered, max_requests=max_requests, max_bytes=max_bytes))

    assert [index for piece in slices for index in piece.indices] == [index for index, _ in numbered]
    size_of = dict(numbered)
    for piece in slices:
        assert 1 <= len(piece.indices) <= max_requests
        assert piece.size == ENVELOPE_BYTES + sum(size_of[index] for index in piece.indices) <= max_bytes
        assert (piece.first, piece.last) == (min(piece.indices), max(piece.indices))
    for piece, after in itertools.pairwise(slices):
        full = len(piece.indices) == max_requests
        assert full or piece.size + size_of[after.first] > max_bytes


def test_nothing_to_send_gives_no_slice() -> None:
    assert dealt([]) == []


def test_slice_is_filled_to_the_last_byte_and_not_beyond() -> None:
    room = 100 - ENVELOPE_BYTES

    assert [list(piece.indices) for piece in dealt([room - 40, 40])] == [[0, 1]]
    assert [list(piece.indices) for piece in dealt([room - 40, 41])] == [[0], [1]]


def test_slice_holds_max_requests_and_not_one_more() -> None:
    assert [list(piece.indices) for piece in dealt([1] * 4)] == [[0, 1, 2], [3]]


def test_default_limits_are_the_api_s_own() -> None:
    by_count = list(split((index, 1) for index in range(MAX_REQUESTS + 1)))
    by_size = list(split([(0, MAX_BATCH_BYTES - ENVELOPE_BYTES), (1, 1)]))

    assert [len(piece.indices) for piece in by_count] == [MAX_REQUESTS, 1]
    assert [piece.size for piece in by_size] == [MAX_BATCH_BYTES, ENVELOPE_BYTES + 1]
