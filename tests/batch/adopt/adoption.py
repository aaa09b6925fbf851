"""Adopt batches into the submission of a ``World``, and make orphans of its batches."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from submission_world import World

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.adopt.adopt import AdoptionPlan, adopt, plan_adoption
from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore, LedgerStore
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.steps import WaitStep

PRICES = PriceTable.load()


@contextmanager
def client_of(world: World) -> Iterator[ClaudeClient]:
    config = ClientConfig(credentials=ApiKey("sk-test"), base_url="http://127.0.0.1:1", max_retries=0)
    with ClaudeClient(config, transport=world.simulator.transport(), sleep=lambda _: None) as client:
        yield client


def plan(world: World, batch_id: str, store: LedgerStore | None = None) -> AdoptionPlan:
    store = store or FolderLedgerStore(world.folder)
    with client_of(world) as client, TemporaryDirectory() as scratch:
        return plan_adoption(batch_id, store, world.folder, client, PRICES, Path(scratch))


def bring_home(
    world: World, batch_id: str, *, make_store: Callable[[], LedgerStore] | None = None
) -> tuple[AdoptionPlan, bool]:
    """Do what ``adopt --yes`` does."""
    make_store = make_store or (lambda: FolderLedgerStore(world.folder))
    planned = plan(world, batch_id, make_store())
    written = adopt(planned, make_store(), world.folder, submission_id=world.submission_id, now=world.clock.now())
    return planned, written


def send(world: World, messages: list[Any], policy: Policy | None = None, **how: Any) -> list[str]:
    """Send everything of a try, and stop before anything is landed. Return the batches, in order."""
    before = {batch["id"] for batch in world.simulator.books()["batches"]}
    with world.attempt(messages, policy or Policy(), **how) as submission:
        assert isinstance(submission.advance(), WaitStep)
    return [batch["id"] for batch in world.simulator.books()["batches"] if batch["id"] not in before]


def end_all(world: World) -> None:
    world.clock.advance(200)


def lose_ledger(world: World) -> None:
    for path in world.folder.path.glob("ledger-*"):
        path.unlink()


def lose_folder(world: World) -> None:
    shutil.rmtree(world.folder.path)
