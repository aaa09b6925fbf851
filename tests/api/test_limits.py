from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.api import endpoints, limits
from airflow_claude_batch.exceptions import InputError


@pytest.mark.parametrize("batch_id", ["msgbatch_01AbCdEfGhJkLmNpQrStUvWx", "batch-2", "a", "A" * 128])
def test_url_safe_word_is_a_batch_id(batch_id):
    assert limits.check_batch_id(batch_id) == batch_id


@pytest.mark.parametrize(
    "batch_id",
    ["bW9kZWxfYmF0Y2g=", "arn:aws:job/01", "projects/p/batches/7", "batch.v1.7", "a" * 255 + "=", "msgbatch_01:AbCd"],
)
def test_id_in_the_form_of_a_gateway_is_a_batch_id(batch_id):
    assert limits.check_batch_id(batch_id) == batch_id


@pytest.mark.parametrize(
    "batch_id",
    [
        *(
            "",
            "a/b",
            "..",
            "../models",
            "a?b",
            "a#b",
            "a b",
            "a%2fb",
            "msgbatch_1\n",
            "ä",
            "A" * 129,
            "a\\b",
            None,
            7,
            b"a",
        ),
        *(".", "batches/../models", "batches/..", "./batches", "batches/.", "/batches", "batches/", "batches//7"),
        *("batches,7,8,9", "batches\x00:7", "batches@host:7", "a" * 256 + "=", None, 7, b"a"),
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
