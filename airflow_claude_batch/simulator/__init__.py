"""Simulates Claude's Message Batches API on your own machine: no key, no cost, no network.

Use it to test your DAGs offline. With pytest, load its plugin by name::

    # conftest.py
    pytest_plugins = ["airflow_claude_batch.simulator.pytest"]

    # test_tickets.py
    def test_the_dag_pays_for_every_request_once(claude, run_dag):
        assert run_dag(dag).state == "success"
        claude.assert_billed(3)

Anywhere else, serve it and set the connection's host to its URL::

    simulator = Simulator()
    with simulator.serve() as server:
        os.environ["AIRFLOW_CONN_CLAUDE_DEFAULT"] = json.dumps(
            {"conn_type": "claude", "password": "sk-test", "host": server.url}
        )

Without Python, run it as a server of its own: ``python -m airflow_claude_batch.simulator``.

It does not imitate intelligence, real token counts, load, any endpoint besides message batches, messages,
token counting and models, or every rule for params. The README beside this file has the full list.
"""

from __future__ import annotations

from airflow_claude_batch.simulator.clock import ManualClock
from airflow_claude_batch.simulator.endpoints.aws import AwsPlatform
from airflow_claude_batch.simulator.endpoints.aws_signature import AwsKey
from airflow_claude_batch.simulator.endpoints.credentials import FederationRule
from airflow_claude_batch.simulator.endpoints.google import GooglePlatform
from airflow_claude_batch.simulator.faults import Fault
from airflow_claude_batch.simulator.messages.models import Model
from airflow_claude_batch.simulator.messages.token_buckets import MessageRates
from airflow_claude_batch.simulator.simulator import Simulator

__all__ = [
    "AwsKey",
    "AwsPlatform",
    "Fault",
    "FederationRule",
    "GooglePlatform",
    "ManualClock",
    "MessageRates",
    "Model",
    "Simulator",
]
