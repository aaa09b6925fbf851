"""The body of a create call is valid JSON of the announced length, in chunks."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.batch.input.create_body import CreateBody
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.send.splitting import ENVELOPE_BYTES

TOKEN = "0123456789ab"
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


PARAMS = st.dictionaries(st.text(max_size=8), JSON_VALUES, max_size=4)


def numbered(*params: Any) -> list[Request]:
    return [Request(index, index, value) for index, value in enumerate(params)]


@contextmanager
def opened(requests: list[Request], **options: Any) -> Iterator[RequestFile]:
    """The requests written to a file and read again."""
    with tempfile.NamedTemporaryFile() as file:
        assert write_requests(iter(requests), file, **options) == len(requests)
        file.flush()
        with RequestFile(Path(file.name)) as read:
            yield read


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
