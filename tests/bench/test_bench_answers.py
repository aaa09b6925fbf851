"""The benchmark of stored answers, with a few: what its figures say, and what it checks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import answers, answers_role

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="benchmarks read /proc")


def test_look_ups_runs_and_compaction_are_measured_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "ROUNDS", 1)
    few, cpu, *_ = answers.run_figures(tmp_path / "runs", answers=200, questions=100, runs=20)
    assert (few.what, few.bound, few.met) == ("segments after 1,000 runs", "≤ 24", True)
    assert cpu.ours > 0
    compacting, memory = answers.compact_figures(tmp_path / "runs", answers=200)
    assert compacting.ours > 0
    assert memory.unit == "MB"


def test_a_wrong_answer_fails_the_look_up() -> None:
    (_, one), (_, other) = answers_role.answers_of([1, 2], run=0)
    assert answers_role.check([(1, one), (2, other)]) == 2
    with pytest.raises(AssertionError):
        answers_role.check([(1, other)])
