"""The page of results: what a run replaces, what it keeps, and what a line says."""

from __future__ import annotations

import dataclasses
from datetime import date
from pathlib import Path

import pytest

from benchmarks import __main__ as runner
from benchmarks import results
from benchmarks.figures import COMMON_AI, OFFICIAL, BenchmarkResult, Figure
from benchmarks.results import Measurement

ORDER = ["submit", "land"]


def measured(day: int, ours: float, what: str = "CPU") -> Measurement:
    figure = Figure(what, "s", ours, {OFFICIAL: 6.0}).at_most(5)
    return Measurement(date(2026, 11, day), f"Airflow 3.{day}", BenchmarkResult("Checked: all.", (figure,)))


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "results.json", tmp_path / "RESULTS.md"


def test_measuring_one_again_keeps_the_others_with_their_day(paths: tuple[Path, Path]) -> None:
    results.merge({"submit": measured(1, 2.0), "land": measured(1, 3.0)}, ORDER, *paths)
    results.merge({"land": measured(2, 4.0)}, ORDER, *paths)

    assert results.read(paths[0]) == {"submit": measured(1, 2.0), "land": measured(2, 4.0)}
    page = paths[1].read_text()
    assert "| submit: CPU | 2.00 s | 3.00x (6.00 s) |  |  | ≤ 5 s | yes | 2026-11-01 |" in page
    assert "| land: CPU | 4.00 s | 1.50x (6.00 s) |  |  | ≤ 5 s | yes | 2026-11-02 |" in page
    assert "3.00 s" not in page
    assert "- 2026-11-01, submit: Airflow 3.1\n- 2026-11-02, land: Airflow 3.2" in page


def test_a_line_that_is_no_longer_measured_goes(paths: tuple[Path, Path]) -> None:
    results.merge({"submit": measured(1, 2.0), "gone": measured(1, 2.0, "old")}, [*ORDER, "gone"], *paths)
    results.merge({"land": measured(2, 4.0)}, ORDER, *paths)
    assert list(results.read(paths[0])) == ORDER
    assert "old" not in paths[1].read_text()


def test_a_missed_bound_is_said(paths: tuple[Path, Path]) -> None:
    results.merge({"submit": measured(1, 5.1)}, ORDER, *paths)
    assert "| ≤ 5 s | **no** |" in paths[1].read_text()


def test_all_of_several_bounds_must_be_met() -> None:
    figure = Figure("CPU", "s", 4.0, {OFFICIAL: 3.0})
    assert figure.at_most(5).met
    both = figure.within(1, OFFICIAL, "that of").at_most(5)
    assert not both.met
    assert both.bound == "≤ that of anthropic provider; ≤ 5 s"


def test_a_share_of_a_peer_that_was_left_out_is_no_bound() -> None:
    figure = Figure("CPU", "s", 4.0, {OFFICIAL: 3.0})
    assert figure.within(1 / 5, COMMON_AI, "1/5 of") is figure


def test_no_ratio_to_nothing() -> None:
    line = Figure("memory", "MB", 0.0, {OFFICIAL: 32.6})
    assert results.cells(line)[1:3] == ["0.00 MB", "32.6 MB"]
    assert results.cells(dataclasses.replace(line, ours=0.1))[2] == "326x (32.6 MB)"


def test_the_page_in_the_repository_is_drawn_from_its_figures() -> None:
    assert results.PAGE.read_text() == results.draw(results.read())


def test_ten_million_run_only_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    outcome = BenchmarkResult("Checked: all.", ())
    named = {name: lambda scope, name=name: (ran.append(name), outcome)[1] for name in runner.BENCHMARKS}
    monkeypatch.setattr(runner, "BENCHMARKS", named)

    monkeypatch.setattr("sys.argv", ["benchmarks", "--ours-only"])
    assert runner.main() == 0
    assert set(named) - set(ran) == {"tenmillion"}

    monkeypatch.setattr("sys.argv", ["benchmarks", "--ours-only", "tenmillion"])
    assert runner.main() == 0
    assert ran[-1] == "tenmillion"
