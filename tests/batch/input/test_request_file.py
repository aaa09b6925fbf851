from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from batch.input.request_files import JSON_VALUES, PARAMS, numbered, opened
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.batch.input.custom_id import content_hash
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_writer import encode_params, write_requests
from airflow_claude_batch.exceptions import SubmissionRecordError


def canonical(value: Any) -> str:
    """Keys are the same if their JSON is."""
    return json.dumps(value, sort_keys=True)


# ---------------------------------------------------------------- written and read again


@given(
    pairs=st.lists(st.tuples(JSON_VALUES, PARAMS), min_size=1, max_size=8, unique_by=lambda pair: canonical(pair[0]))
)
def test_any_keys_and_params_come_back(pairs: list[tuple[Any, Any]]) -> None:
    requests = [Request(index, key, params) for index, (key, params) in enumerate(pairs)]
    with opened(requests) as read:
        assert len(read) == len(pairs)
        for index, (key, params) in enumerate(pairs):
            assert json.loads(read.key(index)) == key
            assert json.loads(read.params(index)) == params
            assert read.params_size(index) == len(read.params(index))
            assert read.hash(index) == content_hash(encode_params(requests[index]))


@pytest.mark.parametrize(
    "text",
    ['"key":', '","params":null}', "\u2028\u2029\x85", "\\\n\r\0", '{"hash":', "𝄞", ""],
    ids=["key", "params", "line separators", "control", "hash", "beyond the plane", "empty"],
)
def test_text_that_looks_like_a_line_of_the_file_changes_nothing(text: str) -> None:
    with opened([Request(0, text, {text: text}), Request(1, [text], {"x": [text]})]) as read:
        assert [json.loads(read.key(index)) for index in range(2)] == [text, [text]]
        assert [json.loads(read.params(index)) for index in range(2)] == [{text: text}, {"x": [text]}]


def test_digest_tells_keys_contents_and_order() -> None:
    base = [Request(0, "a", {"x": 1}), Request(1, "b", {"x": 2})]
    others = [
        [Request(0, "b", {"x": 2}), Request(1, "a", {"x": 1})],
        [Request(0, "a", {"x": 1}), Request(1, "c", {"x": 2})],
        [Request(0, "a", {"x": 1}), Request(1, "b", {"x": 3})],
        base[:1],
    ]
    digests = []
    for requests in [base, base, *others]:
        with opened(requests) as read:
            digests.append(read.digest)

    assert digests[0] == digests[1]
    assert len(set(digests)) == 5


def test_keys_of_different_types_are_different() -> None:
    keys = [1, "1", 1.5, "1.5", True, "true", None, "null", [1], [[1]], {}, []]
    with opened([Request(index, key, {}) for index, key in enumerate(keys)]) as read:
        assert [json.loads(read.key(index)) for index in range(len(read))] == keys


# ---------------------------------------------------------------- damage


def lines_of(*params: Any) -> bytes:
    file = io.BytesIO()
    write_requests(iter(numbered(*params)), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        pytest.param(lambda data: data[:-1], 2, id="last byte lost"),
        pytest.param(lambda data: data[:-2], 2, id="last two bytes lost"),
        pytest.param(lambda data: data[:-30], 2, id="cut in the middle"),
        pytest.param(lambda data: b"\0" * len(data), 1, id="zeros"),
        pytest.param(lambda data: data.replace(b'"hash"', b'"hush"', 1), 1, id="another field"),
        pytest.param(lambda data: data.replace(b'"hash":"', b'"hash":"AAAA', 1), 1, id="longer hash"),
        pytest.param(lambda data: data[:8] + data[12:], 1, id="shorter hash"),
        pytest.param(lambda data: data.replace(b"\n", b"\n\n", 1), 2, id="blank line"),
        pytest.param(lambda data: data.replace(b'"key":', b'"key": ', 1), 1, id="written by another program"),
        pytest.param(lambda data: data.replace(b"}\n", b"} \n", 1), 1, id="blank before the end"),
        pytest.param(lambda data: data.replace(b'{"x":1}', b"null", 1), 1, id="params lost"),
        pytest.param(lambda data: data.replace(b'{"x":2}', b'{"x":3}'), 2, id="other params of the same length"),
        pytest.param(lambda data: b"[" * 5000, 1, id="nested without end"),
    ],
)
def test_damaged_file_is_refused_with_its_line(damage: Any, line: int, tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(damage(lines_of({"x": 1}, {"x": 2})))

    with pytest.raises(SubmissionRecordError, match=rf"Line {line} of the submission's requests.jsonl is damaged"):
        RequestFile(path)


# ---------------------------------------------------------------- duplicates


def test_equal_requests_become_duplicates_of_the_first_when_asked_for() -> None:
    requests = numbered({"x": 1}, {"x": 2}, {"x": 1}, {"x": 1}, {"x": 3})
    with opened(requests, deduplicate=True) as read:
        assert read.duplicates == {2: 0, 3: 0}
        assert len(read) == 5
        assert [json.loads(read.key(index)) for index in range(5)] == [0, 1, 2, 3, 4]
        assert read.hash(3) == read.hash(0)


def test_equal_requests_are_each_sent_unless_asked_otherwise() -> None:
    with opened(numbered({"x": 1}, {"x": 1})) as read:
        assert read.duplicates == {}
        assert read.params(1) == b'{"x":1}'


def test_duplicates_make_another_digest() -> None:
    requests = numbered({"x": 1}, {"x": 1})
    with opened(requests) as original, opened(requests, deduplicate=True) as deduplicated:
        assert original.digest != deduplicated.digest
