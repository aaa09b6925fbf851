"""The same kills with ledger, requests and results in a bucket, over the S3 protocol and real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from crash.effects import changes, s3_file_system
from crash.scenarios import SCENARIOS, new_task, run_scenario

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
    where = {"storage": "s3", "s3_endpoint": s3_endpoint}
    undisturbed = tmp_path / f"{tmp_path.name}-undisturbed"
    undisturbed.mkdir()
    with new_task(scenario, undisturbed, **where) as task:
        run_scenario(scenario, task, {})
    points = changes(undisturbed / "effects")

    assert len(points) > 10
    for point in points:
        home = tmp_path / f"{tmp_path.name}-{point}"
        home.mkdir()
        with new_task(scenario, home, **where) as task:
            try:
                run_scenario(scenario, task, {point: scenario.trap})
            except AssertionError as error:
                raise AssertionError(f"killed after effect {point}: {task.history}") from error
