"""The body of a create call is valid JSON of the announced length, in chunks."""

from __future__ import annotations

import json
from typing import Any

from batch.input.request_files import PARAMS, TOKEN, numbered, opened
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.batch.input.create_body import CreateBody
from airflow_claude_batch.batch.send.splitting import ENVELOPE_BYTES


@given(
    params=st.lists(PARAMS, min_size=1, max_size=12),
    drawn=st.lists(st.integers(0, 11), min_size=1, max_size=12, unique=True),
)
def test_create_body_is_valid_json_of_the_length_it_announces(params: list[Any], drawn: list[int]) -> None:
    indices = sorted(index % len(params) for index in drawn)
    indices = sorted(set(indices))
    with opened(numbered(*params)) as read:
        body = CreateBody(read, indices, TOKEN)
        data = b"".join(body.chunks())
        again = b"".join(body.chunks())

        assert len(data) == body.content_length
        assert body.content_length + 1 == ENVELOPE_BYTES + sum(read.wire_size(index) for index in indices)
        assert again == data
        items = json.loads(data)["requests"]
    assert [item["params"] for item in items] == [params[index] for index in indices]
    custom_ids = [item["custom_id"] for item in items]
    assert len(set(custom_ids)) == len(custom_ids)


def test_large_body_comes_in_pieces() -> None:
    with opened(numbered(*({"x": "a" * 100_000, "n": n} for n in range(10)))) as read:
        body = CreateBody(read, range(10), TOKEN)
        pieces = list(body.chunks())

        assert len(pieces) == 4
        assert len(b"".join(pieces)) == body.content_length
        assert max(map(len, pieces)) < 400_000
