from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.api.line_splitter import (
    MAX_LINE_BYTES,
    MAX_SHORTENED_BYTES,
    LineSplitter,
    ShortenedLine,
    UnendedLine,
)
from airflow_claude_batch.api.wire import decode_result_line
from airflow_claude_batch.exceptions import MalformedResponseError

# What str.splitlines takes for line ends and JSON allows, or JSON's own white space.
TRICKY = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r", "é", "𝄞", " "]


def split(data: bytes, *cuts: int) -> list[bytes]:
    splitter = LineSplitter()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    lines = []
    for start, end in pairwise(edges):
        lines += splitter.feed(data[start:end])
    return lines + splitter.end()


def test_blank_lines_are_left_out_and_the_last_line_needs_no_end():
    assert split(b'\n\n{"a":1}\n \r\n{"b":2}\r\n\n{"c":3}') == [b'{"a":1}', b'{"b":2}\r', b'{"c":3}']


def test_empty_stream_has_no_lines():
    assert split(b"") == []
    assert split(b"\n \n\t") == []


texts = st.lists(st.sampled_from([*TRICKY, "x", "word", '"', "\\"]), max_size=12).map("".join)


@given(
    texts=st.lists(texts, max_size=8),
    cuts=st.lists(st.integers(min_value=0, max_value=10_000), max_size=20),
    ends=st.booleans(),
)
def test_rows_survive_any_chunking_whatever_their_strings_hold(texts, cuts, ends):
    rows = [{"custom_id": f"r{number}", "text": text} for number, text in enumerate(texts)]
    data = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode() + (b"\n" if ends else b"")

    assert [json.loads(line) for line in split(data, *cuts)] == rows


@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(min_value=0, max_value=10_000), max_size=20))
def test_any_bytes_give_the_same_lines_however_they_arrive(data, cuts):
    expected = [line for line in data.split(b"\n") if line.strip()]

    assert split(data, *cuts) == expected


def test_line_that_is_too_long_is_shortened_and_the_next_is_whole():
    splitter, chunk = LineSplitter(MAX_SHORTENED_BYTES), b"a" * 1024 * 1024
    lines = splitter.feed(b'{"custom_id":"c","result":{"type":"succeeded","message":"')
    for _ in range(MAX_LINE_BYTES // len(chunk) + 3):
        lines += splitter.feed(chunk)
    long, next_ = [*lines, *splitter.feed(b'"}}\n{"a":1}\n')]

    assert isinstance(long, ShortenedLine)
    assert long.startswith(b'{"custom_id":"c"')
    assert long.endswith(b'a"}}')
    assert len(long) < 2 * len(chunk)
    assert long.left_out == MAX_LINE_BYTES + 3 * len(chunk) + 60 - (len(long) - 1)
    with pytest.raises(MalformedResponseError):
        decode_result_line(long)
    assert next_ == b'{"a":1}'


def test_line_without_end_is_cut_off_at_last():
    splitter, chunk = LineSplitter(MAX_SHORTENED_BYTES), b"a" * 8 * 1024 * 1024
    for _ in range(MAX_SHORTENED_BYTES // len(chunk)):
        assert splitter.feed(chunk) == []
    with pytest.raises(MalformedResponseError, match="more than 268,435,456 bytes"):
        splitter.feed(chunk)


def test_only_the_last_line_may_be_unended():
    splitter = LineSplitter()
    lines = [*splitter.feed(b"a\nb\nc"), *splitter.end()]

    assert [type(line) for line in lines] == [bytes, bytes, UnendedLine]
