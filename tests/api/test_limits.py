from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.api import endpoints, limits
from airflow_claude_batch.exceptions import InputError


@pytest.mark.parametrize(
    "batch_id",
    [
        "msgbatch_01AbCdEfGhJkLmNpQrStUvWx",
        "batch-2",
        "a",
        "A" * 256,
        "bW9kZWw=",
        "arn:aws:job/01",
        "projects/p/batches/7",
        "batch.v1.7",
    ],
)
def test_word_of_a_path_is_a_batch_id(batch_id):
    assert limits.check_batch_id(batch_id) == batch_id


@pytest.mark.parametrize(
    "batch_id",
    [
        "",
        ".",
        "..",
        "../models",
        "a/../models",
        "a/..",
        "./a",
        "a/.",
        "/a",
        "a/",
        "a//b",
        "a?b",
        "a#b",
        "a b",
        "a,b",
        "a%2fb",
        "msgbatch_1\n",
        "a\x00",
        "ä",
        "A" * 257,
        "a\\b",
        "a@b",
        None,
        7,
        b"a",
    ],
    ids=repr,
)
def test_anything_else_is_refused_before_it_gets_into_a_url(batch_id):
    with pytest.raises(InputError, match="not the id of a message batch"):
        limits.check_batch_id(batch_id)


def test_a_refused_id_is_named_but_not_at_length():
    with pytest.raises(InputError) as caught:
        limits.check_batch_id("../../" + "x" * 5000)

    assert "'../../xxx" in str(caught.value)
    assert len(str(caught.value)) < 200


@given(st.text() | st.text("a./:=%\\?#", max_size=12))
def test_accepted_id_stays_in_its_segment_of_the_path(text):
    try:
        checked = limits.check_batch_id(text)
    except InputError:
        return
    assert checked == text
    assert not set(checked) & set("\\?#%@ \t\r\n")
    assert not set(checked.split("/")) & {"", ".", ".."}
    path = endpoints.retrieve_batch(checked).path
    assert path.removeprefix("/v1/messages/batches/").count("/") == 0
    assert unquote(path) == f"/v1/messages/batches/{checked}"
