"""The measured process of the benchmark of large results: renders the pages of one submission."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow_claude_batch._airflow.submissions import FoundSubmission, TaskKey
from airflow_claude_batch.batch.land.place import Place
from airflow_claude_batch.batch.land.snapshot import Snapshot, SnapshotState
from airflow_claude_batch.web import submission_page
from benchmarks import bulk_role
from benchmarks.bulk_role import Steps
from benchmarks.large_results import PLACE


class Reader:
    """A user who may read everything."""

    user_name = "reader"

    def readable_dag_ids(self) -> set[str]:
        return {PLACE[0]}

    def may_read_dag(self, dag_id: str) -> bool:
        return True

    def may_read_rows(self, dag_id: str) -> bool:
        return True

    def may_change(self, dag_id: str) -> bool:
        return True


def pages(url: str, root: str, key: str, failed: int, rounds: int) -> Steps:
    """Render the page of a submission, and that of a row, some times. The fastest counts: others may use the machine.

    A server has its templates from the first page on, so a small page is rendered before.
    """
    with tempfile.TemporaryDirectory(prefix="small-results-") as small:
        folder = Path(small).joinpath(*PLACE)
        folder.mkdir(parents=True)
        (folder / "results.jsonl").write_bytes(b'{"index":0,"key":"a","status":"succeeded"}\n')
        submission_page.page_of(_submission(small, 1), [], Reader())
        submission_page.rows_page_of(_submission(small, 1), Reader(), key="a")
    found = _submission(root, failed)
    seconds: dict[str, list[float]] = {"page": [], "key": []}

    def page() -> dict[str, Any]:
        begun = time.perf_counter()
        html = submission_page.page_of(found, [], Reader())
        seconds["page"].append(time.perf_counter() - begun)
        return {"page": min(seconds["page"]), "keys": re.findall(r'at=\d+">(T-\d+)<', html)}

    def row() -> dict[str, Any]:
        begun = time.perf_counter()
        html = submission_page.rows_page_of(found, Reader(), key=key)
        seconds["key"].append(time.perf_counter() - begun)
        assert f"<b>{key}</b>" in html or "Look further" in html
        return {"key": min(seconds["key"])}

    return {f"{step.__name__} {number}": step for number in range(rounds) for step in (page, row)}


def _submission(root: str, failed: int) -> FoundSubmission:
    now = datetime.now(UTC)
    snapshot = Snapshot(
        submission_id="s",
        state=SnapshotState.ENDED,
        updated_at=now,
        conn_id="claude_default",
        root=root,
        place=Place(*PLACE),
        request_count=failed,
        counts={"succeeded": 1, "errored": failed},
    )
    return FoundSubmission(TaskKey(*PLACE), "success", 1, now, snapshot, None)


ROLES: dict[str, Callable[..., Steps]] = {"pages": pages}


def main() -> None:
    """Run one role. Arguments: the role's name, and its options as JSON."""
    bulk_role.main(ROLES)


if __name__ == "__main__":
    main()
