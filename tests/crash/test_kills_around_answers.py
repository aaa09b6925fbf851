"""Kill a submission with an answer store after each of its effects, and the one after it, which reuses the answers.

Together they pay for each request once. Neither loses an answer, and the second one has the right answers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from crash.copies import kill_after_each, run_undisturbed
from crash.effects import changes, changes_near
from crash.scenarios import WITH_ANSWERS

#: Scenarios, where their ledgers and files are, and every how many effects a process is killed. Around what is written
#: to the answer store, or landed of it, it is killed after each effect.
CASES = [
    ("next run", {"store": "folder"}, 4),
    ("next run in two tasks", {"store": "state", "storage": "objects"}, 8),
    ("next run asks the same", {"store": "state"}, 8),
]
ABOUT_ANSWERS = ("published added-", "published landed-")
#: ``make chaos`` kills after each effect.
IS_LONG = int(os.environ.get("CHAOS_RUNS", "240")) > 240


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "where", "stride"), CASES)
def test_kill_after_an_effect_pays_for_nothing_twice_and_gives_the_right_answers(
    name: str, where: dict[str, Any], stride: int, tmp_path: Path
) -> None:
    effects = run_undisturbed(WITH_ANSWERS[name], tmp_path / "undisturbed", **where, counted=False)
    assert effects.read_text().count("published added-") >= 1

    near = {point for about in ABOUT_ANSWERS for point in changes_near(effects, about)}
    points = sorted(near.union(changes(effects)[:: 1 if IS_LONG else stride]))
    kill_after_each(WITH_ANSWERS[name], tmp_path, points, **where, counted=False)
