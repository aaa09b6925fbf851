"""Kill a process after each of its effects while a sample is out and a person is asked: nothing is paid for twice."""

from __future__ import annotations

from pathlib import Path

from crash.copies import kill_after_each_change
from crash.scenarios import SAMPLED


def test_kill_around_a_sample_pays_for_nothing_twice_and_sends_no_other_sample(tmp_path: Path) -> None:
    kill_after_each_change(SAMPLED, tmp_path)
