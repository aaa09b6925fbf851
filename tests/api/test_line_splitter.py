from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.api.line_splitter import LineSplitter

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
