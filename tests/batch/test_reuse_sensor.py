"""A sensor lands what the operator has sent, beside the answers that the operator has reused."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from submission_world import TEN, World, make_world

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.collection import Collection
from airflow_claude_batch.batch.input.request_file import RequestFile, open_requests
from airflow_claude_batch.batch.land.manifest import MANIFEST_FILE
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.steps import DoneStep


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "one").mkdir()
    return make_world(tmp_path / "one", answer=lambda params, n: f"answer to {params['messages'][-1]['content']}")


def sense(world: World, batch_ids: list[str]) -> DoneStep:
    """Land the rows as a sensor does."""
    scratch = world.path / "sensor"
    scratch.mkdir(exist_ok=True)

    def requests() -> RequestFile:
        found = open_requests(world.folder, scratch)
        assert found is not None
        return found

    config = ClientConfig(credentials=ApiKey("sk-test"), base_url="http://127.0.0.1:1", max_retries=0)
    with ClaudeClient(config, transport=world.simulator.transport(), sleep=lambda _: None) as client:
        step = Collection(
            client=client,
            submission_id=world.submission_id,
            batch_ids=tuple(batch_ids),
            folder=world.folder,
            requests=requests,
            policy=Policy(),
            prices=PriceTable.load(),
            deadline=world.clock.now() + timedelta(hours=1),
            clock=world.clock.now,
            sleep=lambda _: None,
            answers=world.answer_reuse(looks_up=False),
        ).advance()
    assert isinstance(step, DoneStep)
    return step


@pytest.mark.parametrize("has_manifest", [True, False])
def test_reused_rows_stay_where_the_operator_has_left_them(has_manifest: bool, world: World) -> None:
    world.run(TEN[:3], Policy(), store={})
    other = world.another("two")
    sent = other.run([TEN[1], "new", TEN[0]], Policy(wait_for_completion=False), store={}).manifest
    other.clock.advance(200)
    if not has_manifest:
        other.folder.remove(MANIFEST_FILE)
    for _ in range(2):  # a retry of the sensor, too
        step = sense(other, sent.batch_ids)
        assert step.failure is None
        assert [row["text"] for row in other.rows] == [f"answer to {text}" for text in (TEN[1], "new", TEN[0])]
        assert [bool(row.get("reused_from")) for row in other.rows] == [True, False, True]
        assert step.manifest.stored_batch_ids == sent.batch_ids
    assert step.manifest.reused
    assert step.manifest.reused["requests"] == 2
    assert world.another("three").run(["new"], Policy(), store={}).manifest.reused
    assert world.billed == 4
