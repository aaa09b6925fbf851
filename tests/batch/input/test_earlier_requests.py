"""Requests whose keys come in another order are the requests that they were."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.batch.input.canonical_json import hash_content
from airflow_claude_batch.batch.input.earlier_requests import keep_earlier_requests
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_writer import write_requests

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
).filter(lambda value: "\ud800" not in json.dumps(value))


def encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def shuffled(value: Any, rng: random.Random) -> Any:
    """Return the same value with the keys of every object in another order."""
    if isinstance(value, dict):
        keys = list(value)
        rng.shuffle(keys)
        return {key: shuffled(value[key], rng) for key in keys}
    return [shuffled(item, rng) for item in value] if isinstance(value, list) else value


def written(path: Path, contents: list[dict[str, Any]], *, deduplicate: bool = False) -> Path:
    with path.open("wb") as file:
        write_requests((Request(i, i, each) for i, each in enumerate(contents)), file, deduplicate=deduplicate)
    return path


def kept(tmp_path: Path, now: Path, before: Path) -> bytes:
    """Return the file of the requests after those of the earlier file are kept."""
    result = tmp_path / "kept"
    with RequestFile(now) as requests, RequestFile(before) as earlier:
        is_written = keep_earlier_requests(requests, earlier, result)
    return result.read_bytes() if is_written else now.read_bytes()


@given(json_values, st.randoms(use_true_random=False))
def test_content_has_one_hash_in_any_order_of_keys(value: Any, rng: random.Random) -> None:
    assert hash_content(encode(value)) == hash_content(encode(shuffled(value, rng)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(b'{"a":[1,2]}', b'{"a":[2,1]}', id="order of a list"),
        pytest.param(b'{"a":1}', b'{"a":1.0}', id="integer and float"),
        pytest.param(b'{"a":0.5}', b'{"a":"0.5"}', id="number and text"),
        pytest.param(b'{"a":null}', b"{}", id="null and absent"),
        pytest.param(b'{"a":{"b":1},"c":2}', b'{"a":{"b":1,"c":2}}', id="other level"),
        pytest.param(b'{"a":1e400}', b'{"a":1e401}', id="numbers out of range"),
    ],
)
def test_other_content_has_another_hash(one: bytes, other: bytes) -> None:
    assert hash_content(one) != hash_content(other)


def test_deep_content_is_hashed_too() -> None:
    assert hash_content(b"[" * 100_000 + b"]" * 100_000) != hash_content(b"[" * 100_001 + b"]" * 100_001)


@given(
    st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 1), max_size=3), min_size=1, max_size=6),
    st.booleans(),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_reordered_input_gets_the_earlier_file(
    tmp_path_factory: pytest.TempPathFactory,
    contents: list[dict[str, Any]],
    reorders_before: bool,
    deduplicate: bool,
    rng: random.Random,
) -> None:
    tmp_path = tmp_path_factory.mktemp("files")
    before = written(tmp_path / "before", contents, deduplicate=deduplicate)
    now = written(tmp_path / "now", [shuffled(each, rng) for each in contents], deduplicate=deduplicate)

    assert kept(tmp_path, now, before) == before.read_bytes()


def test_requests_that_moved_keep_their_lines_and_new_ones_get_theirs(tmp_path: Path) -> None:
    before = written(tmp_path / "before", [{"a": 1, "b": 2}, {"a": 3, "b": 4}, {"a": 5}])
    now = written(tmp_path / "now", [{"a": 5}, {"b": 6, "a": 7}, {"b": 2, "a": 1}, {"b": 4, "a": 3}])

    lines = [json.loads(line) for line in kept(tmp_path, now, before).splitlines()]

    earlier = [json.loads(line) for line in before.read_bytes().splitlines()]
    assert [(line["hash"], line["key"]) for line in lines[2:]] == [(earlier[0]["hash"], 2), (earlier[1]["hash"], 3)]
    assert list(lines[2]["params"]) == ["a", "b"]
    assert list(lines[1]["params"]) == ["b", "a"]
    assert lines[0]["hash"] == earlier[2]["hash"]


def test_unchanged_and_changed_requests_need_no_other_file(tmp_path: Path) -> None:
    before = written(tmp_path / "before", [{"a": 1}, {"a": 2}])
    now = written(tmp_path / "now", [{"a": 1}, {"a": 3}, {"a": 2}])

    with RequestFile(now) as requests, RequestFile(before) as earlier:
        assert not keep_earlier_requests(requests, earlier, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_equal_requests_in_another_order_of_keys_are_sent_once(tmp_path: Path) -> None:
    path = written(
        tmp_path / "now", [{"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}], deduplicate=True
    )

    with RequestFile(path) as requests:
        assert requests.duplicates == {1: 0}


def test_requests_that_an_earlier_release_sent_apart_stay_apart(tmp_path: Path) -> None:
    """Earlier releases compared bytes: both were sent, and both have answers."""
    contents = [{"a": 1, "b": 2}, {"b": 2, "a": 1}]
    before = written(tmp_path / "before", contents)
    now = written(tmp_path / "now", contents[::-1], deduplicate=True)

    assert kept(tmp_path, now, before) == before.read_bytes()
