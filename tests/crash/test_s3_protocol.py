"""The same kills with ledger, requests and results in a bucket, over the S3 protocol and real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from crash.effects import changes, changes_near, s3_file_system
from crash.scenarios import MANY_PARTS, SCENARIOS, Scenario, new_task, run_scenario

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


def run_undisturbed(scenario: Scenario, endpoint: str, path: Path) -> Path:
    """Run the scenario and return the log of its effects."""
    home = path / f"{path.name}-undisturbed"
    home.mkdir()
    with new_task(scenario, home, storage="s3", s3_endpoint=endpoint) as task:
        run_scenario(scenario, task, {})
    return home / "effects"


def run_killed(scenario: Scenario, endpoint: str, path: Path, points: list[int]) -> None:
    for point in points:
        home = path / f"{path.name}-{point}"
        home.mkdir()
        with new_task(scenario, home, storage="s3", s3_endpoint=endpoint) as task:
            try:
                run_scenario(scenario, task, {point: scenario.trap})
            except AssertionError as error:
                raise AssertionError(f"killed after effect {point}: {task.history}") from error
