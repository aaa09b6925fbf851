from __future__ import annotations

import io
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.batch.input.create_body import CreateBody
from airflow_claude_batch.batch.input.custom_id import content_hash, parse_custom_id
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_writer import encode_params, write_requests
from airflow_claude_batch.batch.ledger.ledger import new_token
from airflow_claude_batch.batch.send.splitting import ENVELOPE_BYTES
from airflow_claude_batch.exceptions import InputError, InvalidMessageError, SubmissionRecordError

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


def test_no_requests_at_all_is_an_error() -> None:
    with pytest.raises(InputError, match=r"^messages is empty\.\nNothing was sent\.\nSkip the task"):
        write_requests(iter([]), io.BytesIO())


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        pytest.param(["a", "b", "a"], (0, 2), id="text"),
        pytest.param([0, 1, 2, 1], (1, 3), id="numbers"),
        pytest.param([{"a": 1, "b": 2}, {"b": 2, "a": 1}], (0, 1), id="mappings in another order"),
        pytest.param([None, "x", None, None], (0, 2), id="null thrice"),
    ],
)
def test_duplicate_key_is_refused_with_both_elements(keys: list[Any], named: tuple[int, int]) -> None:
    requests = [Request(index, key, {}) for index, key in enumerate(keys)]

    with pytest.raises(
        InvalidMessageError, match=r"have the same key\.\nNothing was sent\.\nGive each element a key"
    ) as error:
        write_requests(iter(requests), io.BytesIO())
    assert f"messages[{named[0]}] and messages[{named[1]}]" in str(error.value)


@pytest.mark.parametrize(
    ("keys", "hinted"),
    [
        pytest.param([5, 1, 1], True, id="the second stands at its position"),
        pytest.param([0, 7, 0], True, id="the first stands at its position"),
        pytest.param([7, 8, 7], False, id="neither does"),
    ],
)
def test_duplicate_key_that_is_a_position_says_where_it_may_come_from(keys: list[int], hinted: bool) -> None:
    requests = [Request(index, key, {}) for index, key in enumerate(keys)]

    with pytest.raises(InvalidMessageError) as error:
        write_requests(iter(requests), io.BytesIO())
    assert ("An element without a key has its position as its key." in str(error.value)) == hinted


def test_keys_of_different_types_are_different() -> None:
    keys = [1, "1", 1.5, "1.5", True, "true", None, "null", [1], [[1]], {}, []]
    with opened([Request(index, key, {}) for index, key in enumerate(keys)]) as read:
        assert [json.loads(read.key(index)) for index in range(len(read))] == keys


@pytest.mark.parametrize("key", [float("nan"), b"x", {1, 2}, "\ud800", {1: 1, "a": 2}], ids=repr)
def test_key_that_is_not_json_is_refused(key: Any) -> None:
    with pytest.raises(
        InvalidMessageError, match=r"messages\[3\]: the key cannot be written as JSON.*\n.*\nUse a string"
    ):
        write_requests(iter([Request(3, key, {})]), io.BytesIO())


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


# ---------------------------------------------------------------- on the wire


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


@given(index=st.integers(0, 99_999_999), params=st.binary())
def test_custom_id_is_valid_and_parses_back(index: int, params: bytes) -> None:
    token, hash_ = new_token(), content_hash(params)
    custom_id = f"{token}-{index}-{hash_.decode()}"
    ours = parse_custom_id(custom_id)

    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", custom_id)  # batch-processing docs, 2026-10
    assert ours is not None
    assert (ours.token, ours.index, ours.hash) == (token, index, hash_)


def test_custom_id_of_a_request_names_its_part_place_and_content() -> None:
    with opened(numbered({"x": 1}, {"x": 2})) as read:
        ours = parse_custom_id(read.custom_id(1, TOKEN))

        assert ours is not None
        assert (ours.token, ours.index, ours.hash) == (TOKEN, 1, read.hash(1))


@pytest.mark.parametrize(
    "custom_id",
    [
        "",
        "request-1",
        f"{TOKEN}-1",
        f"{TOKEN}-1-short",
        f"{TOKEN}-x-{'A' * 22}",
        f"{TOKEN}--{'A' * 22}",
        f"{TOKEN}-1-{'A' * 23}",
        f"short-1-{'A' * 22}",
    ],
)
def test_custom_id_that_we_did_not_make_is_not_parsed(custom_id: str) -> None:
    assert parse_custom_id(custom_id) is None


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
