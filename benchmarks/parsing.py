"""Measures the import of an operator into a process that has Airflow's base operator, as each parse of a DAG file does.

Each import is measured in several processes of its own, and the median counts. For the SDK it is ``import anthropic``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from os import environ
from pathlib import Path
from statistics import median

from benchmarks.figures import COMMON_AI, OFFICIAL, SDK, BenchmarkResult, Figure, Scope
from benchmarks.peers import install_peers

RUNS = 5
OURS = "airflow_claude_batch.operators:SendMessageBatchOperator"
PEERS = {
    OFFICIAL: "airflow.providers.anthropic.operators.batch:AnthropicBatchOperator",
    COMMON_AI: "airflow.providers.common.ai.operators.llm_batch:LLMBatchOperator",
    SDK: "anthropic:Anthropic",
}
MOST_CPU_MILLISECONDS = 30

MEASURE = """
import gc, importlib, json, sys, time
from airflow.sdk import BaseOperator

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024

module, name = sys.argv[1].split(":")
assert module not in sys.modules
gc.collect()
memory, cpu = resident(), time.process_time()
found = getattr(importlib.import_module(module), name)
cpu = time.process_time() - cpu
assert module == "anthropic" or issubclass(found, BaseOperator)
print(json.dumps({"cpu": cpu, "memory": resident() - memory}))
"""


def cost(python: str | Path, target: str) -> dict[str, float]:
    """Import the target in several processes. Return the medians of CPU seconds and of bytes."""
    with tempfile.TemporaryDirectory(prefix="parsing-") as home:
        command = [python, "-W", "ignore", "-c", MEASURE, target]
        settings = environ | {"AIRFLOW_HOME": home}
        runs = [subprocess.run(command, capture_output=True, check=True, env=settings) for _ in range(RUNS)]
    found = [json.loads(run.stdout.splitlines()[-1]) for run in runs]
    return {name: median(run[name] for run in found) for name in ("cpu", "memory")}


def measure(scope: Scope) -> BenchmarkResult:
    """Import our operator and those of the peers."""
    ours = cost(sys.executable, OURS)
    peers = {} if scope.ours_only else {name: cost(install_peers(), target) for name, target in PEERS.items()}
    cpu = Figure("CPU", "ms", ours["cpu"] * 1e3, {name: peer["cpu"] * 1e3 for name, peer in peers.items()})
    memory = Figure("memory", "MB", ours["memory"] / 2**20, {n: peer["memory"] / 2**20 for n, peer in peers.items()})
    return BenchmarkResult(
        "Importing the operator (of the SDK: `anthropic`) into an interpreter that has `airflow.sdk.BaseOperator`; "
        f"the median of {RUNS} processes each. Checked: that the class came, and that it was not loaded before.",
        (cpu.at_most(MOST_CPU_MILLISECONDS), memory),
    )
