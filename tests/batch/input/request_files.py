"""Requests written to a file and read again, and any values that they may have."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_writer import write_requests

TOKEN = "0123456789ab"
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PARAMS = st.dictionaries(st.text(max_size=8), JSON_VALUES, max_size=4)


def numbered(*params: Any) -> list[Request]:
    """Make requests with these params, whose keys are their positions."""
    return [Request(index, index, value) for index, value in enumerate(params)]


@contextmanager
def opened(requests: list[Request], **options: Any) -> Iterator[RequestFile]:
    """Write requests to a file, and open it."""
    with tempfile.NamedTemporaryFile() as file:
        assert write_requests(iter(requests), file, **options) == len(requests)
        file.flush()
        with RequestFile(Path(file.name)) as read:
            yield read
