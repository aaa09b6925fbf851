"""custom_ids tell which request of which part they name."""

from __future__ import annotations

import re

import pytest
from batch.input.request_files import TOKEN, numbered, opened
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.batch.input.custom_id import content_hash, parse_custom_id
from airflow_claude_batch.batch.ledger.ledger import new_token


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
