"""Lines in the very form of the API are read the short way, to what the long way makes of them; all others are not."""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_claude_batch.api import wire
from airflow_claude_batch.batch.land import parse_result as results
from airflow_claude_batch.batch.land.parse_result import Outcome
from airflow_claude_batch.batch.land.plain import PlainReader
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import MalformedResponseError

TABLE = PriceTable.load()
BATCH_ID = "msgbatch_01"
THINKING = {"type": "thinking", "thinking": "hm", "signature": "x"}
TOOL_USE = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": [1, {"b": None}]}}
USAGE = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 3,
    "cache_read_input_tokens": 4,
    "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2},
    "output_tokens": 2,
    "service_tier": "batch",
    "inference_geo": "us",
}


def text(words: Any) -> dict[str, Any]:
    return {"type": "text", "text": words}


def message(*content: Any, **changes: Any) -> dict[str, Any]:
    return {
        "model": "claude-haiku-4-5",
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": list(content),
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": copy.deepcopy(USAGE),
        **changes,
    }


def line(message: Any, *, custom_id: str = "0123456789ab-7-abcdefghijklmnopqrstuv", ascii_only: bool = True) -> bytes:
    """A line as the API writes it."""
    value = {"custom_id": custom_id, "result": {"type": "succeeded", "message": message}}
    return json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":")).encode(errors="surrogatepass")


def row(outcome: Outcome) -> Any:
    return json.loads(b"{" + outcome.tail)


def short(data: bytes) -> tuple[str, Outcome] | None:
    return PlainReader(BATCH_ID, TABLE).read(data)


def long(data: bytes) -> tuple[str, Outcome]:
    read = wire.decode_result_line(data)
    return read.custom_id, results.read_outcome(read, BATCH_ID, TABLE)


def check_same(data: bytes) -> bool:
    """Whatever the short way reads, the long way reads likewise."""
    read = short(data)
    if read is None:
        return False
    custom_id, outcome = long(data)
    assert read[0] == custom_id
    assert row(read[1]) == row(outcome)
    assert list(row(read[1])) == list(row(outcome))
    assert msgspec.structs.replace(read[1], tail=b"") == msgspec.structs.replace(outcome, tail=b"")
    return True


@pytest.mark.parametrize(
    "data",
    [
        line(message(text("hi"))),
        line(message(text(""))),
        line(message(text('says "what" \\ \n\t\x01'))),
        line(message(text("héllo \u2028 \U0001f600"))),
        line(message(text("héllo \u2028 \U0001f600")), custom_id="x", ascii_only=False),
        line(message(THINKING, text("hi"))),
        line(message({**text("hi"), "citations": [{"type": "page", "n": 1.5}]})),
        line(message(TOOL_USE, text("hi"))),
        line(message({"type": "text"}, text("hi"))),
        line(message(text("hi"), model="nobody-knows")),
        line(message(text("hi"), model='a "model" \\u0000', stop_reason="€")),
        line(message(text("hi"), stop_reason="max_tokens")),
        line(message(text("hi"), stop_reason=None)),
        line(message(text("hi"), usage={"input_tokens": 0, "output_tokens": 0})),
        line({key: message(text("hi"))[key] for key in sorted(message(), reverse=True)}),
    ],
)
def test_what_the_api_writes_is_read_the_short_way(data):
    assert check_same(data)


GOOD = line(message(text("hi")))


@pytest.mark.parametrize(
    "data",
    [
        line(message(text(None))),
        line(message(text(3))),
        line(message({"type": "text"})),
        line(message({"type": "new", "text": "hi"})),
        line(message()),
        line(message(text("one"), text("two"))),
        line(message(text("first"), TOOL_USE)),
        line(message(text("hi"), new=1)),
        line(message({**text("hi"), "new": 1})),
        line(message(text("hi"), usage={**USAGE, "new": 1})),
        line(message(text("hi"), usage=None)),
        line(message(text("hi"), model="\0")),
        line(message(text("hi"), model=None)),
        line(message(text("hi")), custom_id='a"b'),
        line(message(text("hi")), custom_id="é", ascii_only=False),
        line(message(text("\ud800")), ascii_only=False),
        line(None),
        GOOD.replace(b'"hi"', b'"\xff"'),
        GOOD.replace(b'"hi"', rb'"\q"'),
        GOOD.replace(b'"hi"', rb'"\ud800"'),
        GOOD.replace(b'"hi"', b'"\n"'),
        GOOD.replace(b'"msg_1"', b"1e999"),
        GOOD.replace(b":", b": "),
        GOOD[:-2] + b',"error":null}}',
        GOOD[:-1] + b',"more":1}',
        GOOD[:-2] + b',"message":null}}',
        GOOD[:-2] + b',"message":' + GOOD[GOOD.index(b'{"model"') :],
        GOOD + b" ",
        GOOD[:-1],
        GOOD[:-1] + b"]",
        GOOD[:-2] + b"]}",
        GOOD.replace(b"succeeded", b"errored"),
        b'{"custom_id":"',
        b"",
    ],
)
def test_everything_else_is_left_to_the_long_way(data):
    assert short(data) is None


def test_what_is_too_deep_to_be_read_is_left_to_the_long_way():
    depth = 2 * sys.getrecursionlimit()  # which other tests may have raised
    assert short(GOOD.replace(b'"msg_1"', b"[" * depth + b"]" * depth)) is None


texts = st.text(st.characters(codec="utf-8"), max_size=20)
values = st.recursive(st.none() | st.integers() | st.floats(allow_nan=False) | texts, st.lists, max_leaves=4)
blocks = st.one_of(
    st.builds(text, texts | values),
    st.just(THINKING),
    st.just(TOOL_USE),
    st.fixed_dictionaries({"type": texts}, optional={"text": texts, "input": values, "citations": values}),
)
messages = st.builds(
    message,
    blocks,
    model=texts | st.just("claude-opus-5-5"),
    stop_reason=st.none() | texts,
    usage=st.fixed_dictionaries(
        {"input_tokens": st.integers(0, 10**9), "output_tokens": st.integers(0, 10**9)},
        optional={"inference_geo": st.none() | texts, "cache_read_input_tokens": st.none() | st.integers(0, 10**6)},
    ),
    id=values,
)


@given(message=messages, ascii_only=st.booleans())
@example(message=message(text("hi")), ascii_only=True)
def test_the_short_way_says_what_the_long_way_says(message, ascii_only):
    check_same(line(message, ascii_only=ascii_only))


@given(data=st.data())
def test_damage_is_never_taken_for_an_answer(data):
    """What the short way reads of a damaged line is in a row that everybody can read."""
    at = data.draw(st.integers(0, len(GOOD) - 1))
    damage = data.draw(st.binary(max_size=3) | st.sampled_from([b'"', b"{", b"}", b",", b"\\", b'"message":{']))
    damaged = GOOD[:at] + damage + GOOD[at + data.draw(st.integers(0, 3)) :]
    try:
        long(damaged)
    except MalformedResponseError:
        assert short(damaged) is None
    else:
        check_same(damaged)
