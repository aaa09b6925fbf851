"""What a task returns fits into PostgreSQL's JSONB, whatever an answer holds."""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cluster.services import DATABASE, HOST, database_user, find, running_postgres
from submission_world import World, make_world

from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.storable_json import MAX_LEVELS, is_storable, storable_names
from airflow_claude_batch.batch.wait.wait_result import BatchState, WaitResult

pytestmark = pytest.mark.skipif(find("postgres") is None or find("psql") is None, reason="PostgreSQL is not installed")

#: Stores a value as JSONB and reads it back. Returns None if the database refuses it.
Store = Callable[[Any], Any]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with running_postgres(tmp_path_factory.mktemp("logs")) as port:
        psql = [str(find("psql")), "-h", HOST, "-p", str(port), "-U", database_user(), "-d", DATABASE, "-X", "-At"]

        def store(value: Any) -> Any:
            sql = f"SELECT ($json${json.dumps(value)}$json$)::jsonb"
            done = subprocess.run(
                [*psql, "-v", "ON_ERROR_STOP=1"], input=sql, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0 or "ERROR:" in done.stderr
            return None if done.returncode else json.loads(done.stdout)

        yield store


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("\0", id="NUL"),
        pytest.param({"a\0": 1}, id="NUL in a key"),
        pytest.param([{"a": ["b\0c"]}], id="NUL deep inside"),
        pytest.param("\ud800", id="high surrogate"),
        pytest.param("\udc00", id="low surrogate"),
        pytest.param({"\ud800x": 1}, id="surrogate in a key"),
    ],
)
def test_what_the_database_refuses_is_known(value: Any, store: Store) -> None:
    assert store([value]) is None
    assert not is_storable([value])


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(
            "".join(map(chr, (1, 8, 31, 127, 128, 159, 0x2028, 0xFFFE, 0xFFFF, 0x1F600))), id="odd characters"
        ),
        pytest.param("\\u0000 \\ud800", id="text that looks like an escape"),
        pytest.param([2**63, -(2**63), 2**64 - 1, 1.5e18, -1e19, 5e-324, 0.1], id="numbers"),
        pytest.param([None, True, False, {}, [], ""], id="other values"),
        pytest.param(nested(MAX_LEVELS), id="deep"),
    ],
)
def test_what_counts_as_storable_comes_back_unchanged(value: Any, store: Store) -> None:
    assert is_storable(value)
    assert store(value) == value


@pytest.mark.parametrize(
    "value", [10**30, 1e20, nested(MAX_LEVELS + 1), {"__classname__": "x"}, {"a": [{"__type": 1, "__var": 2}]}]
)
def test_what_other_stores_or_airflow_would_refuse_or_change_is_known(value: Any) -> None:
    assert not is_storable(value)


ANSWERS = {
    "plain": ({"content": "plain"}, True),
    "NUL in the text": ({"content": "a\0b"}, False),
    "NUL in a tool's input": ({"content": [{"type": "tool_use", "id": "t", "name": "n", "input": {"k\0": 1}}]}, False),
    "NUL in the model": ({"content": "x", "model": "claude\0"}, False),
    "NUL in the stop reason": ({"content": "x", "stop_reason": "end\0turn"}, False),
    "NUL in an unknown field": ({"content": "x", "new": {"a": "\0"}}, False),
    "large integer": ({"content": [{"type": "tool_use", "id": "t", "name": "n", "input": {"k": 10**30}}]}, False),
    "a class of Airflow": (
        {"content": [{"type": "tool_use", "id": "t", "name": "n", "input": {"__classname__": "x"}}]},
        False,
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_manifest_with_odd_answers_is_stored_and_names_the_rows(
    name: str, tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    answer, is_inline = ANSWERS[name]
    caplog.set_level(logging.WARNING)
    world: World = make_world(tmp_path, answer=lambda params, n: answer if n == 1 else "yes")

    done = world.run(["question 0", "question 1", "question 2"], Policy(repair_rounds=0))

    xcom = done.manifest.to_xcom()
    assert store(xcom) == json.loads(json.dumps(xcom))
    msgspec.msgpack.encode(xcom)  # as tasks hand it over
    assert len(world.rows) == 3
    assert (xcom["responses"] is not None) == is_inline
    assert ("The rows are not in the task's XCom" in caplog.text) != is_inline
    assert is_inline or str(world.folder.path / "results.jsonl") in caplog.text


def test_key_of_the_author_with_a_nul_leaves_out_the_rows(tmp_path: Path, store: Store) -> None:
    world = make_world(tmp_path)

    xcom = world.run([{"key": "a\0", "prompt": "question 0"}], Policy()).manifest.to_xcom()

    assert xcom["responses"] is None
    assert store(xcom) is not None
    assert world.rows[0]["key"] == "a\0"


def test_event_of_a_wait_is_stored_whatever_a_gateway_said(store: Store) -> None:
    result = WaitResult("error", {"b": BatchState("en\0ded")}, "The gateway said <html>\0\ud800", "APIStatusError")

    event = storable_names(result.to_event())

    assert store(event) == event
    assert event["error"] == "The gateway said <html>\ufffd\ufffd"
