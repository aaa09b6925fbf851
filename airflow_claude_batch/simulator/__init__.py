"""Simulates Claude's Message Batches API on your own machine: no key, no cost, no network.

Use it to test your DAGs offline. As a pytest fixture::

    import json
    from collections.abc import Iterator

    import pytest
    from airflow_claude_batch.simulator import Simulator


    @pytest.fixture
    def simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
        simulator = Simulator()
        with simulator.serve() as server:
            connection = {"conn_type": "claude", "password": "sk-test", "host": server.url}
            monkeypatch.setenv("AIRFLOW_CONN_CLAUDE_DEFAULT", json.dumps(connection))
            yield simulator


    def test_the_dag_pays_for_every_request_once(simulator: Simulator) -> None:
        run_my_dag()
        assert simulator.books()["billed_requests"] == 3

Without Python, run it as a server of its own: ``python -m airflow_claude_batch.simulator``.

It does not imitate intelligence, real token counts, load, any endpoint besides message batches, token counting
and models, or every rule for params. The README beside this file has the full list.
"""

from __future__ import annotations

from airflow_claude_batch.simulator.clock import ManualClock
from airflow_claude_batch.simulator.endpoints.credentials import FederationRule
from airflow_claude_batch.simulator.faults import Fault
from airflow_claude_batch.simulator.simulator import Simulator

__all__ = ["Fault", "FederationRule", "ManualClock", "Simulator"]
