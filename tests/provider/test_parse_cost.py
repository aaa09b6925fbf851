"""The cost of importing this package in a DAG file, which Airflow parses again and again."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from typing import Any

import pytest

#: The module of Airflow that a DAG file has loaded before each of ours: a file with @task has its module.
MODULES = {
    "operators": "airflow.sdk.bases.operator",
    "sensors": "airflow.sdk.bases.operator",
    "hooks": "airflow.sdk.bases.operator",
    "transfers": "airflow.sdk.bases.operator",
    "decorators": "airflow.sdk.bases.decorator",
    "events": "airflow.triggers.base",
}
MOST_CPU_MILLISECONDS = 30.0
RUNS = 5

#: What only a running task may import.
TASK_ONLY = (
    "airflow_claude_batch.api",
    "airflow_claude_batch.batch",
    "airflow_claude_batch._airflow.run_sensor",
    "airflow_claude_batch._airflow.run_operator",
    "airflow_claude_batch.triggers",
    "anthropic",
    "asgiref",
    "httpx",
    "msgspec",
    "pydantic_core",
    "pyarrow",
)

# Each import is measured in a process of its own, forked from one in which Airflow's base operator is loaded.
MEASURE = """
import gc, importlib, json, os, sys, time
from airflow.sdk import BaseOperator

def measure(module, airflows_own):
    importlib.import_module(airflows_own)
    old = set(sys.modules)
    begun = time.process_time()
    importlib.import_module(f"airflow_claude_batch.{module}")
    cpu = (time.process_time() - begun) * 1000
    return {"cpu": cpu, "new": sorted(set(sys.modules) - old)}

def in_child(module, airflows_own):
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, json.dumps(measure(module, airflows_own)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        result = json.load(answer)
    os.wait()
    return result

gc.disable()
runs, modules = int(sys.argv[1]), json.loads(sys.argv[2])
print(json.dumps({module: [in_child(module, own) for _ in range(runs)] for module, own in modules.items()}))
"""


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, str(RUNS), json.dumps(MODULES)]
    with_bytecode = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # as an installed package has it
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=with_bytecode)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]  # (JSON)


@pytest.mark.parametrize("module", MODULES)
def test_parsing_a_dag_costs_milliseconds(measured: dict[str, Any], module: str) -> None:
    assert statistics.median(run["cpu"] for run in measured[module]) < MOST_CPU_MILLISECONDS


@pytest.mark.parametrize("module", MODULES)
def test_parsing_a_dag_imports_nothing_that_only_tasks_need(measured: dict[str, Any], module: str) -> None:
    new = measured[module][0]["new"]
    assert f"airflow_claude_batch.{module}" in new
    assert [name for name in new if name.startswith(TASK_ONLY)] == []
