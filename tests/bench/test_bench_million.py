"""The benchmarks of a million requests and of ten, with a few."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from benchmarks import million
from benchmarks.figures import Scope

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="benchmarks read /proc")


def test_a_few_requests_are_run_and_checked() -> None:
    load = million.Load(20, queue_limit=20, batch_seconds=0)
    cost = load.run()

    done, cpu, memory, _ = million.figures_of(load, cost, Scope(scale=0.1))
    assert (done.ours, done.met) == (20, None)
    assert cpu.ours > 0
    assert memory.ours > 0
    reading = dataclasses.replace(cost, cpu={**cost.cpu, "read and check every row": 1000.0})
    assert million.figures_of(load, reading, Scope())[1] == cpu
