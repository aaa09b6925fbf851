"""Orphans: what the listing, the first results and the ledgers tell of a batch that nobody knows."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from batch.adopt.adoption import PRICES, client_of, end_all, send
from submission_world import TEN, World, make_world

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.ledger.record import load_ledger
from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore
from airflow_claude_batch.batch.orphans.inspect import Inspection, inspect_results
from airflow_claude_batch.batch.orphans.known import KnownBatches
from airflow_claude_batch.batch.orphans.listing import WorkspaceListing, list_workspace
from airflow_claude_batch.batch.orphans.orphan import Orphan, Sender, judge
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.exceptions import APIError
from airflow_claude_batch.simulator.faults import Fault


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "one").mkdir()
    return make_world(tmp_path / "one", answer=lambda params, n: f"answer {n}")


def listing_of(world: World, *, days: int = 30, page_size: int = 3, **how: Any) -> WorkspaceListing:
    since = world.clock.now() - timedelta(days=days)
    with client_of(world) as client:
        return list_workspace(client, since=since, page_size=page_size, **how)


def inspect(world: World, batch: MessageBatch, **how: Any) -> Inspection:
    with client_of(world) as client:
        return inspect_results(client, batch, PRICES, **how)


def only_batch(world: World) -> MessageBatch:
    (batch,) = listing_of(world).batches.values()
    return batch


def orphan_of(world: World, known: KnownBatches | None = None, batch: MessageBatch | None = None) -> Orphan:
    batch = batch or only_batch(world)
    inspection = inspect(world, batch) if batch.ended else None
    return judge(batch, inspection, known or KnownBatches(), now=world.clock.now())


# ------------------------------------------------------------------ the listing


def test_listing_of_many_pages_has_every_batch_once(world: World) -> None:
    sent = send(world, TEN, Policy(max_requests=1))
    pages: list[int] = []

    listing = listing_of(world, on_page=pages.append)

    assert sorted(listing.batches) == sorted(sent)
    assert pages == [3, 6, 9, 10]
    assert (listing.broken_off, listing.unreadable) == (None, 0)


def test_listing_ends_at_its_first_day(world: World) -> None:
    send(world, TEN, Policy(max_requests=1))
    world.clock.advance(timedelta(days=3).total_seconds())
    (young,) = send(world.another("other"), ["one more"])

    assert list(listing_of(world, days=1).batches) == [young]
    assert len(listing_of(world, days=4).batches) == 11


def test_listing_that_breaks_off_keeps_what_came(world: World) -> None:
    send(world, TEN, Policy(max_requests=1))
    world.simulator.inject(Fault(on="list", do="status", status=500, skip=2))

    listing = listing_of(world)

    assert len(listing.batches) == 6
    assert listing.broken_off is not None


def test_listing_that_repeats_a_page_ends(world: World) -> None:
    send(world, TEN, Policy(max_requests=1))
    world.simulator.inject(Fault(on="list", do="cached_listing", times=None))

    listing = listing_of(world)

    assert listing.batches
    assert len(listing.batches) <= 10


def test_empty_page_that_says_there_is_more_breaks_the_listing_off() -> None:
    batch = {
        "id": "msgbatch_1",
        "type": "message_batch",
        "processing_status": "ended",
        "request_counts": {"processing": 0, "succeeded": 1, "errored": 0, "canceled": 0, "expired": 0},
        "created_at": "2026-11-30T08:00:00Z",
        "expires_at": "2026-12-01T08:00:00Z",
        "ended_at": "2026-11-30T09:00:00Z",
    }
    pages = iter([[batch], []])

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"data": next(pages), "has_more": True, "first_id": None, "last_id": None})

    config = ClientConfig(credentials=ApiKey("sk-test"), base_url="http://127.0.0.1:1", max_retries=0)
    with ClaudeClient(config, transport=httpx.MockTransport(answer)) as client:
        listing = list_workspace(client, since=datetime(2026, 11, 1, tzinfo=UTC))

    assert [*listing.batches] == ["msgbatch_1"]
    assert listing.broken_off is not None


@pytest.mark.parametrize("do", ["status", "html", "malformed"])
def test_listing_that_cannot_begin_raises(world: World, do: Any) -> None:
    send(world, TEN)
    world.simulator.inject(Fault(on="list", do=do, times=None))

    with pytest.raises(APIError):
        listing_of(world)


# ------------------------------------------------------------------ what the first results say


def test_batch_of_this_package_is_told_by_its_custom_ids_and_costs_what_its_answers_cost(world: World) -> None:
    send(world, TEN)
    assert (orphan_of(world).sender, orphan_of(world).usd) == (Sender.UNKNOWN, None)
    end_all(world)

    orphan = orphan_of(world)

    assert orphan.sender is Sender.OURS
    assert orphan.is_exact
    assert orphan.usd is not None
    step = world.run(TEN, Policy())
    assert step.manifest.cost is not None
    assert Decimal(orphan.usd) == Decimal(step.manifest.cost["usd"])


def test_long_batch_is_read_in_part_and_its_cost_projected(world: World) -> None:
    send(world, TEN)
    end_all(world)
    whole, part = inspect(world, only_batch(world)), inspect(world, only_batch(world), most_rows=5)

    assert whole.usd is not None
    assert part.usd is not None
    assert (whole.is_exact, part.is_exact) == (True, False)
    assert abs(part.usd / whole.usd - 1) < Decimal("0.3")


def test_batch_of_another_program_is_a_stranger(world: World) -> None:
    params = {"model": "claude-haiku-5-5", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}
    with client_of(world) as client:
        client.create_batch(json.dumps({"requests": [{"custom_id": "row-1", "params": params}]}).encode())
    end_all(world)

    assert orphan_of(world).sender is Sender.STRANGER


def test_batch_without_an_answer_costs_nothing(tmp_path: Path) -> None:
    world = make_world(tmp_path, outcome=lambda *_: "expired")
    send(world, TEN)
    end_all(world)

    assert orphan_of(world).usd == "0"


def test_model_without_a_price_costs_an_unknown_amount(world: World) -> None:
    send(world, TEN)
    end_all(world)
    batch, prices = only_batch(world), PRICES
    with client_of(world) as client:
        nothing = type(prices)(prices.terms, {})
        inspection = inspect_results(client, batch, nothing)

    assert inspection.usd is None
    assert judge(batch, inspection, KnownBatches(), now=world.clock.now()).usd is None


def test_results_that_cannot_be_read_are_a_problem_of_that_batch_only(world: World) -> None:
    send(world, TEN)
    end_all(world)
    batch = only_batch(world)
    world.simulator.inject(Fault(on="results", do="status", status=500))

    inspection = inspect(world, batch)

    assert inspection.problem is not None
    assert judge(batch, inspection, KnownBatches(), now=world.clock.now()).sender is Sender.UNKNOWN


def test_results_that_are_gone_are_a_problem(world: World) -> None:
    send(world, TEN)
    end_all(world)
    world.clock.advance(timedelta(days=30).total_seconds())
    (batch,) = listing_of(world, days=60).batches.values()

    assert inspect(world, batch).problem is not None


def test_cut_results_tell_what_came(world: World) -> None:
    send(world, TEN)
    end_all(world)
    world.simulator.inject(Fault(on="results", do="cut", at="line_end"))

    inspection = inspect(world, only_batch(world))

    assert inspection.token is not None
    assert not inspection.is_exact


# ------------------------------------------------------------------ what ledgers say


def ledger_tells(world: World) -> KnownBatches:
    ledger, known = load_ledger(FolderLedgerStore(world.folder)), KnownBatches()
    assert ledger is not None
    known.add_ledger("dag run send", ledger)
    return known


def test_ledger_knows_its_batches(world: World) -> None:
    sent = send(world, TEN, Policy(max_requests=5))

    assert ledger_tells(world).owners == dict.fromkeys(sent, "dag run send")


def test_batch_of_an_open_create_call_names_its_task(world: World) -> None:
    world.simulator.inject(Fault(do="drop_after_accept", on="create"))
    send(world, TEN)
    known = ledger_tells(world)
    assert not known.owners

    running = orphan_of(world, known)
    end_all(world)
    ended = orphan_of(world, known)

    assert (running.sender, running.owner) == (Sender.UNKNOWN, "dag run send")
    assert (ended.sender, ended.owner) == (Sender.OPEN_CREATE, "dag run send")


def test_custom_ids_whose_case_a_gateway_changes_are_known_again(world: World) -> None:
    world.simulator.inject(Fault(do="drop_after_accept", on="create"), Fault(do="changed_ids", ids="upper", times=None))
    send(world, TEN)
    end_all(world)

    orphan = orphan_of(world, ledger_tells(world))

    assert (orphan.sender, orphan.owner) == (Sender.OPEN_CREATE, "dag run send")


def test_custom_ids_that_a_gateway_spells_in_another_way_are_of_this_package(world: World) -> None:
    send(world, TEN)
    end_all(world)
    custom_id = "tenant:0123456789ab_7_" + 22 * "x"

    orphan = judge(only_batch(world), Inspection(custom_id=custom_id), KnownBatches(), now=world.clock.now())

    assert orphan.sender is Sender.OURS


def test_second_batch_of_a_create_call_names_the_task_of_the_first(world: World) -> None:
    world.simulator.inject(Fault(do="create_twice", on="create"))
    send(world, TEN)
    end_all(world)
    known = ledger_tells(world)
    (copy,) = [batch for id_, batch in listing_of(world).batches.items() if id_ not in known.owners]

    orphan = orphan_of(world, known, copy)

    assert (orphan.sender, orphan.owner) == (Sender.OURS, "dag run send")


def test_young_batch_may_be_recorded_soon(world: World) -> None:
    send(world, TEN)
    assert orphan_of(world).is_young

    world.clock.advance(timedelta(minutes=16).total_seconds())
    assert not orphan_of(world).is_young


def test_running_batch_that_is_older_than_the_create_call_is_not_its_batch(world: World) -> None:
    world.simulator.inject(Fault(do="drop_after_accept", on="create"))
    send(world, TEN)
    batch = only_batch(world)
    older = msgspec.structs.replace(batch, created_at=batch.created_at - timedelta(hours=1))
    larger = msgspec.structs.replace(batch, request_counts=msgspec.structs.replace(batch.request_counts, processing=11))

    assert orphan_of(world, ledger_tells(world), older).owner is None
    assert orphan_of(world, ledger_tells(world), larger).owner is None
