"""A simulator of Claude's Message Batches API, to run and test without a key.

Run it with ``python -m airflow_claude_batch.simulator``, or in a test::

    simulator = Simulator(clock=ManualClock(), batch_seconds=3600)
    with simulator.serve() as server:
        ...  # point a client at server.url
"""

from __future__ import annotations

from airflow_claude_batch.simulator.clock import ManualClock
from airflow_claude_batch.simulator.credentials import FederationRule
from airflow_claude_batch.simulator.faults import Fault
from airflow_claude_batch.simulator.simulator import Simulator

__all__ = ["Fault", "FederationRule", "ManualClock", "Simulator"]
