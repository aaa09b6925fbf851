"""A process dies after it has landed answers to an earlier input. The next one reads them again and keeps them once."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import IO, Any

import pytest
from answer_world import KilledError
from submission_world import World, make_world

from airflow_claude_batch.batch.land.manifest import MANIFEST_FILE
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.storage import LocalFolder

ONE_BY_ONE = Policy(max_requests=1)


class DyingFolder(LocalFolder):
    """A folder whose process dies when it is about to write a file."""

    dies_at: str | None = None

    def replace_file(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        if name == self.dies_at:
            raise KilledError
        return super().replace_file(name)


class DyingWorld(World):
    dies_at: str | None = None

    @property
    def folder(self) -> DyingFolder:
        folder = DyingFolder(self.path / "submission")
        folder.dies_at = self.dies_at
        return folder


@pytest.mark.parametrize("store", [None, {}])
def test_answer_that_is_landed_at_an_equal_request_is_not_kept_at_another_one_too(
    store: dict[str, Any] | None, tmp_path: Path
) -> None:
    (tmp_path / "task").mkdir()
    made = make_world(tmp_path / "task", queue_limit=5)
    world = DyingWorld(made.path, made.simulator, made.clock)
    with world.attempt(["a", "b", "c", "d", "asked again"], ONE_BY_ONE, store=store) as submission:
        submission.advance()
    world.clock.advance(200)
    changed = ["asked again", "asked again", "new"]
    world.dies_at = MANIFEST_FILE  # the answer is in a landed part, but not in the ledger
    with pytest.raises(KilledError):
        world.run(changed, ONE_BY_ONE, store=store, clear=True)
    world.dies_at = None
    step = world.run(changed, ONE_BY_ONE, store=store)

    rows = world.rows
    assert len({row["custom_id"] for row in rows}) == 3
    assert world.billed == 5 + 2
    assert step.manifest.cost["usd"] == f"{sum(float(row['cost_usd']) for row in rows):.7f}"
    assert [row["batch_id"] for row in rows if row["custom_id"].split("-")[1] == "4"] == [rows[0]["batch_id"]]
