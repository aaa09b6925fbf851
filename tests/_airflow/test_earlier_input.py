"""What a version with other rules has sent is not paid for again: each request keeps the form that it was sent in."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from airflow_fixtures import KEY
from submission_world import World, make_world

from airflow_claude_batch._airflow.read_messages import write_input
from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.attempt import Attempt
from airflow_claude_batch.batch.input.canonical_json import hash_content
from airflow_claude_batch.batch.input.earlier_forms import EarlierInput
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.request_writer import encode_params, write_requests
from airflow_claude_batch.batch.ledger.ledger import PRECEDENCE
from airflow_claude_batch.batch.ledger.record import load_ledger
from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.start import begin_attempt, read_earlier_input
from airflow_claude_batch.batch.submission import Submission
from airflow_claude_batch.exceptions import InvalidMessageError
from airflow_claude_batch.hooks import ClaudeHook
from airflow_claude_batch.operators import SendMessageBatchOperator

TABLE = PriceTable.load()
MODEL = "claude-haiku-5-5"
HI = [{"role": "user", "content": "Hi"}]
FORMAT = {"type": "json_schema", "schema": {"type": "object", "properties": {}, "additionalProperties": False}}
#: An element, the operator's arguments, and what earlier versions sent for them.
FORMS = {
    "system": ({"custom_id": "a", "params": {"messages": HI}}, {"system": "Brief."}, {"messages": HI}),
    "request_params": (
        {"custom_id": "a", "params": {"max_tokens": 9, "messages": HI}},
        {"request_params": {"metadata": {"user_id": "u"}, "max_tokens": 5}},
        {"max_tokens": 9, "messages": HI},
    ),
    "max_tokens": (
        {"custom_id": "a", "params": {"messages": HI}},
        {"request_params": {"max_tokens": 5}},
        {"max_tokens": 4096, "messages": HI},
    ),
    "refused_today": (  # the model of the element refuses what would be added
        {"custom_id": "a", "params": {"model": "claude-haiku-4-5", "messages": HI}},
        {"request_params": {"output_config": {"effort": "low"}}},
        {"model": "claude-haiku-4-5", "messages": HI},
    ),
    "schema": (
        {"custom_id": "a", "params": {"messages": HI}},
        {"system": "Brief.", "output_schema": FORMAT["schema"]},
        {"messages": HI, "output_config": {"format": FORMAT}},
    ),
    "system_in_params": (
        {"key": "a", "prompt": "Hi", "params": {"system": "Own."}},
        {"system": "Brief."},
        {"system": "Brief.", "messages": HI},
    ),
    "cached_system": (
        {"key": "a", "prompt": "Hi", "params": {"system": "Own."}},
        {"system": "Brief.", "cache_system": True},
        {
            "system": [{"type": "text", "text": "Brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
            "messages": HI,
        },
    ),
    "field_below_request_params": (
        {"key": "a", "prompt": "Hi", "max_tokens": 7},
        {"request_params": {"max_tokens": 5}},
        {"max_tokens": 5, "messages": HI},
    ),
    "no_system": (
        {"key": "a", "messages": HI, "system": None},
        {"request_params": {"system": "Brief."}},
        {"system": "Brief.", "messages": HI},
    ),
    "given_twice": (
        {"key": "a", "prompt": "Hi", "max_tokens": 7, "params": {"max_tokens": 8}},
        {},
        {"max_tokens": 8, "messages": HI},
    ),
    "unknown_parameter": (
        {"key": "a", "prompt": "Hi", "params": {"tempratur": 1}},
        {},
        {"tempratur": 1, "messages": HI},
    ),
}


@pytest.fixture(autouse=True)
def _connection(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "claude", "password": KEY, "extra": {"model": MODEL}}
    monkeypatch.setenv("AIRFLOW_CONN_CLAUDE_DEFAULT", json.dumps(connection))


def write(
    messages: Any, arguments: dict[str, Any], load: Callable[[], EarlierInput], file: Any, index: Any = None
) -> int:
    task = SendMessageBatchOperator(task_id="t", messages=messages, **arguments)
    return write_input(task.options(), ClaudeHook(), TABLE, file, index, load)


def written(element: Any, arguments: dict[str, Any], earlier: EarlierInput) -> dict[str, Any]:
    file = io.BytesIO()
    write([element], arguments, lambda: earlier, file)
    params: dict[str, Any] = json.loads(file.getvalue())["params"]
    return params


def with_defaults(params: dict[str, Any]) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 4096, **params}


def content(params: dict[str, Any]) -> bytes:
    return hash_content(encode_params(Request(0, 0, params)))


@pytest.mark.parametrize("name", FORMS)
def test_a_request_keeps_the_form_that_it_was_sent_in(name: str, caplog: pytest.LogCaptureFixture) -> None:
    element, arguments, before = FORMS[name]
    before = with_defaults(before)
    earlier = EarlierInput(lambda: frozenset({content(before)}), has_earlier_forms=True)
    with caplog.at_level(logging.WARNING):
        assert written(element, arguments, earlier) == before
    assert "1 request" in caplog.text


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(("was_sent", "has_earlier_forms"), [(True, False), (False, True)])
def test_what_was_not_sent_before_has_the_form_of_today(name: str, was_sent: bool, has_earlier_forms: bool) -> None:
    element, arguments, before = FORMS[name]
    before = with_defaults(before)
    earlier = EarlierInput(lambda: frozenset({content(before)} if was_sent else {b"another"}), has_earlier_forms)
    if name in ("refused_today", "given_twice") or (name == "unknown_parameter" and not was_sent):
        with pytest.raises(InvalidMessageError):
            written(element, arguments, earlier)
    else:
        assert (written(element, arguments, earlier) == before) == (name == "unknown_parameter")


def test_a_list_of_paths_that_was_sent_as_prompts_is_kept() -> None:
    before = with_defaults({"messages": [{"role": "user", "content": "/data/a.txt"}]})
    assert written("/data/a.txt", {}, EarlierInput(lambda: frozenset({content(before)}))) == before
    with pytest.raises(InvalidMessageError, match="path of a file"):
        written("/data/a.txt", {}, EarlierInput())


# ---------------------------------------------------------------- whole submissions

ITEMS: list[Any] = [
    {"custom_id": str(n), "params": {"messages": HI, "metadata": {"user_id": str(n)}}} for n in range(4)
]
SYSTEM: dict[str, Any] = {"system": "Brief."}


def begin(world: World, write_file: Callable[..., int], *, clear: bool = False, reuse: bool = True) -> Any:
    world.try_number += 1
    world.generation += int(clear)
    scratch = world.path / f"scratch-{world.try_number}"
    scratch.mkdir()
    attempt = Attempt(
        submission_id="s", try_number=world.try_number, generation=world.generation, now=world.clock.now()
    )
    store = FolderLedgerStore(world.folder)
    load = partial(read_earlier_input, store, world.folder, attempt, scratch, reuse_answers=reuse)
    write_now = partial(write_file, load) if write_file is write_today else write_file
    return begin_attempt(store, world.folder, attempt, write_now, scratch, reuse_answers=reuse)


def write_before(file: Any, index: Any) -> int:
    requests = [Request(n, item["custom_id"], with_defaults(item["params"])) for n, item in enumerate(ITEMS)]
    return write_requests(requests, file, index)


def write_today(load: Callable[[], EarlierInput], file: Any, index: Any) -> int:
    return write(ITEMS, SYSTEM, load, file, index)


def advance(world: World, opened: Any, *, steps: int | None = None) -> None:
    record, requests = opened
    config = ClientConfig(credentials=ApiKey("sk-test"), base_url="http://127.0.0.1:1", max_retries=0)
    with requests, ClaudeClient(config, transport=world.simulator.transport(), sleep=lambda _: None) as client:
        submission = Submission(
            client=client,
            record=record,
            folder=world.folder,
            requests=requests,
            policy=Policy(max_requests=2),
            prices=TABLE,
            clock=world.clock.now,
            sleep=lambda _: None,
            estimate_client=client,
        )
        if steps is None:
            world.finish(submission)
        for _ in range(steps or 0):
            submission.advance()


def send_before(world: World, *, steps: int | None) -> None:
    """Send as a version did that knew no rules of precedence."""
    record, requests = begin(world, write_before)
    record.save(msgspec.structs.replace(record.ledger, precedence=msgspec.UNSET))
    advance(world, (record, requests), steps=steps)


@pytest.mark.parametrize("steps", [pytest.param(1, id="waiting"), pytest.param(None, id="done")])
@pytest.mark.parametrize("clear", [False, True])
def test_an_upgrade_pays_for_nothing_again(tmp_path: Path, steps: int | None, clear: bool) -> None:
    world = make_world(tmp_path)
    send_before(world, steps=steps)
    for _ in range(2):
        advance(world, begin(world, write_today, clear=clear))
        assert world.billed == len(world.rows) == 4


def test_without_reuse_a_clear_sends_the_form_of_today(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    send_before(world, steps=None)
    advance(world, begin(world, write_today, clear=True, reuse=False))
    assert world.billed == 8
    ledger = load_ledger(FolderLedgerStore(world.folder))
    assert ledger is not None
    assert ledger.precedence == PRECEDENCE
    advance(world, begin(world, write_today, clear=True))
    assert world.billed == 8


def test_a_changed_operator_counts_where_only_these_rules_were_used(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    advance(world, begin(world, write_before))  # today's form without a system prompt
    advance(world, begin(world, write_today, clear=True))
    assert world.billed == 8
