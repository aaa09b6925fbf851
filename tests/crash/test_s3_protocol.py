"""The same kills with ledger, requests and results in a bucket, over the S3 protocol and real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from crash.copies import kill_after_each, kill_after_each_change, run_undisturbed
from crash.effects import EPOCH, changes_near, s3_file_system
from crash.scenarios import IN_PARTS, MANY_PARTS, SCENARIOS
from crash.servers import Bucket

from airflow_claude_batch.batch.attempt import Attempt
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore
from airflow_claude_batch.batch.start import begin_attempt, resume_attempt
from airflow_claude_batch.batch.storage import ObjectFolder

pytest.importorskip("moto.server", reason="moto and s3fs are installed where object storage is tested")
IN_BUCKET: dict[str, Any] = {"storage": "s3", "counted": False}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["three parts", "large requests"])
def test_a_kill_between_any_two_writes_to_the_bucket_pays_for_nothing_twice(name: str, tmp_path: Path) -> None:
    kill_after_each_change(SCENARIOS[name], tmp_path, **IN_BUCKET)


@pytest.mark.timeout(600)
def test_a_kill_around_a_chunk_of_the_ledger_pays_for_nothing_twice(tmp_path: Path) -> None:
    points = changes_near(run_undisturbed(MANY_PARTS, tmp_path / "undisturbed", **IN_BUCKET), "chunk")

    assert len(points) >= 6
    kill_after_each(MANY_PARTS, tmp_path, points, **IN_BUCKET)


@pytest.mark.timeout(600)
def test_a_kill_around_a_landed_part_pays_for_nothing_twice(tmp_path: Path) -> None:
    scenario = IN_PARTS["parts on top of rows"]
    points = changes_near(run_undisturbed(scenario, tmp_path / "undisturbed", **IN_BUCKET), "landed-")

    assert len(points) > 10
    kill_after_each(scenario, tmp_path, points[::6], **IN_BUCKET)


class CountedFolder(ObjectFolder):
    """Folder in the bucket that counts the bytes of ``requests.jsonl`` that are read."""

    bytes_read = 0

    def open(self, name: str) -> IO[bytes] | None:
        assert name != "requests.jsonl", "it is read as a whole"
        return super().open(name)

    def read_range(self, name: str, start: int, end: int) -> bytes | None:
        self.bytes_read += end - start if name == "requests.jsonl" else 0
        return super().read_range(name, start, end)


@pytest.fixture
def s3_endpoint() -> Iterator[str]:
    with Bucket().serve() as endpoint:
        s3_file_system(endpoint).mkdir("bucket")
        yield endpoint


def test_a_resumption_reads_what_it_sends_from_the_bucket(s3_endpoint: str, tmp_path: Path) -> None:
    folder = CountedFolder(s3_file_system(s3_endpoint), "bucket/resumed", uri="s3://bucket/resumed")
    store = FolderLedgerStore(folder)
    attempt = Attempt(submission_id="s", try_number=1, generation=0, now=EPOCH)
    texts = [f"{number} {'x' * 100_000}" for number in range(20)]
    input_ = (Request(number, number, {"content": text}) for number, text in enumerate(texts))
    begin_attempt(
        store, folder, attempt, lambda file, index: write_requests(input_, file, index), tmp_path, reuse_answers=True
    )[1].close()

    resumed = resume_attempt(store, folder, attempt, tmp_path)

    assert resumed is not None
    with resumed[1] as requests:
        assert (len(requests), folder.bytes_read) == (20, 0)
        requests.verify([3, 4, 17])
        assert [json.loads(requests.params(index))["content"] for index in (3, 4, 17)] == [*texts[3:5], texts[17]]
        assert 300_000 < folder.bytes_read < 310_000
        folder.remove("requests.index")  # as if an earlier version had written the folder
        with pytest.raises(AssertionError, match="as a whole"):
            resume_attempt(store, folder, attempt, tmp_path)
