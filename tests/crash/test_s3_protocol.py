"""The same kills with ledger, requests and results in a bucket, over the S3 protocol and real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from crash.effects import EPOCH, changes, changes_near, s3_file_system
from crash.scenarios import IN_PARTS, MANY_PARTS, SCENARIOS, Scenario, new_task, run_scenario

from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore
from airflow_claude_batch.batch.start import Attempt, begin_attempt, resume_attempt
from airflow_claude_batch.batch.storage import ObjectFolder

server = pytest.importorskip("moto.server", reason="moto and s3fs are installed where object storage is tested")


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    """Serve an empty bucket on a free port of the loopback interface."""
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    s3_file_system(endpoint).mkdir("bucket")
    yield endpoint
    running.stop()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["three parts", "large requests"])
def test_a_kill_between_any_two_writes_to_the_bucket_pays_for_nothing_twice(
    name: str, s3_endpoint: str, tmp_path: Path
) -> None:
    scenario = SCENARIOS[name]
    points = changes(run_undisturbed(scenario, s3_endpoint, tmp_path))

    assert len(points) > 10
    run_killed(scenario, s3_endpoint, tmp_path, points)


@pytest.mark.timeout(600)
def test_a_kill_around_a_chunk_of_the_ledger_pays_for_nothing_twice(s3_endpoint: str, tmp_path: Path) -> None:
    points = changes_near(run_undisturbed(MANY_PARTS, s3_endpoint, tmp_path), "chunk")

    assert len(points) >= 6
    run_killed(MANY_PARTS, s3_endpoint, tmp_path, points)


@pytest.mark.timeout(600)
def test_a_kill_around_a_landed_part_pays_for_nothing_twice(s3_endpoint: str, tmp_path: Path) -> None:
    scenario = IN_PARTS["parts on top of rows"]
    points = changes_near(run_undisturbed(scenario, s3_endpoint, tmp_path), "landed-")

    assert len(points) > 10
    run_killed(scenario, s3_endpoint, tmp_path, points[::6])


def run_undisturbed(scenario: Scenario, endpoint: str, path: Path) -> Path:
    """Run the scenario and return the log of its effects."""
    home = path / f"{path.name}-undisturbed"
    home.mkdir()
    with new_task(scenario, home, storage="s3", s3_endpoint=endpoint, counted=False) as task:
        run_scenario(scenario, task, {})
    return home / "effects"


def run_killed(scenario: Scenario, endpoint: str, path: Path, points: list[int]) -> None:
    for point in points:
        home = path / f"{path.name}-{point}"
        home.mkdir()
        with new_task(scenario, home, storage="s3", s3_endpoint=endpoint, counted=False) as task:
            try:
                run_scenario(scenario, task, {point: scenario.trap})
            except AssertionError as error:
                raise AssertionError(f"killed after effect {point}: {task.history}") from error


class CountedFolder(ObjectFolder):
    """Folder in the bucket that counts the bytes of ``requests.jsonl`` that are read."""

    bytes_read = 0

    def open(self, name: str) -> IO[bytes] | None:
        assert name != "requests.jsonl", "it is read as a whole"
        return super().open(name)

    def read_range(self, name: str, start: int, end: int) -> bytes | None:
        self.bytes_read += end - start if name == "requests.jsonl" else 0
        return super().read_range(name, start, end)


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
