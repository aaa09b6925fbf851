"""``python -m benchmarks [NAME …]``: measure this package beside its peers, and store the results. Needs Linux."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from benchmarks import (
    answers,
    expectation,
    landing,
    large_results,
    million,
    overview,
    parsing,
    report,
    results,
    resuming,
    rows,
    storage_traffic,
    submitting,
    waiting,
)
from benchmarks.figures import BenchmarkResult, Scope
from benchmarks.peers import install_peers

BENCHMARKS: dict[str, Callable[[Scope], BenchmarkResult]] = {
    "parse": parsing.measure,
    "submit": submitting.measure,
    "wait": waiting.measure,
    "land": landing.measure,
    "million": million.measure,
    "traffic": storage_traffic.measure,
    "resume": resuming.measure,
    "rows": rows.measure,
    "answers": answers.measure,
    "report": report.measure,
    "expectation": expectation.measure,
    "page": large_results.measure,
    "overview": overview.measure,
    "tenmillion": million.measure_ten,
}
#: Runs only when it is named: an hour, and 50 GB of disk.
BY_NAME_ONLY = "tenmillion"
DEFAULT = f"all but {BY_NAME_ONLY}, which takes an hour and 50 GB of disk"


def main() -> int:
    """Run the named benchmarks. Return 1 if a bound is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; default: {DEFAULT}")
    parser.add_argument("--ours-only", action="store_true", help="leave the peers out; nothing is written")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size; nothing is written")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    scope, missed = Scope(options.ours_only, options.scale), False
    for name in options.names or [name for name in BENCHMARKS if name != BY_NAME_ONLY]:
        print(f"{name} ...", file=sys.stderr, flush=True)
        outcome = BENCHMARKS[name](scope)
        missed |= show(name, outcome)
        if scope.full:
            results.merge({name: results.today(outcome, install_peers())}, list(BENCHMARKS))
    if scope.full:
        print(f"Written to {results.PAGE}")
    return int(missed and scope.full)


def show(name: str, outcome: BenchmarkResult) -> bool:
    """Print the lines of a benchmark. Return whether one misses its bound."""
    for figure in outcome.figures:
        what, ours, *peers, bound, met = results.cells(figure)
        print(
            f"{name + ': ' + what:60}{ours:>14}"
            + "".join(f"{peer:>24}" for peer in peers)
            + f"  {bound} {met}".rstrip()
        )
    sys.stdout.flush()
    return any(figure.met is False for figure in outcome.figures)


if __name__ == "__main__":
    sys.exit(main())
