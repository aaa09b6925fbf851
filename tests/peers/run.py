"""``make peers``: injects the same faults with this package and others, and counts what the simulator billed.

The others are reported as measured. Exits with 1 if this package did not get every answer, paid for a request twice,
canceled a batch or lost one. Takes about fifteen minutes, most of it waiting.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from attempt import POLL_SECONDS
from scenario import PROMPTS, SCENARIOS, Bill, interpreters, run

from benchmarks.peers import install_peers
from benchmarks.results import environment

PAGE = Path(__file__).with_name("RESULTS.md")
TITLES = {
    "ours": "airflow-claude-batch",
    "official": "anthropic provider",
    "common_ai": "common-ai",
    "steadybatch": "steadybatch",
}
PARALLEL_RUNS = 4  # they sleep most of the time

HEAD = f"""\
# The same faults, with this package and with others

Written by `make peers`. One task sends {len(PROMPTS)} requests with the operator's defaults and one retry after a
minute. It polls every {POLL_SECONDS} s and talks to the simulator over sockets. The numbers are from the simulator's
own records. A cell shows how many requests were **billed**, and what else went wrong. *Orphaned* batches are those
whose id is not in the output of the task. steadybatch has no Airflow task, so its job is run again instead. A
canceled batch bills the requests that were answered before, which are none here.
"""


def main() -> int:
    """Run the scenarios and print the table. A run of all scenarios is stored in ``RESULTS.md``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="SCENARIO", help=f"any of {', '.join(SCENARIOS)} (default: all)")
    names = parser.parse_args().names or list(SCENARIOS)
    if unknown := set(names) - set(SCENARIOS):
        parser.error(f"unknown scenario: {', '.join(sorted(unknown))}. Choose from {', '.join(SCENARIOS)}.")
    peers = install_peers()
    bills = run_all(names, interpreters(peers))
    print(text := table(names, bills))
    if names == list(SCENARIOS):
        where = f"Measured on {datetime.now(UTC).date()}: {environment(peers, 'steadybatch')}."
        PAGE.write_text(f"{HEAD}\n{text}\n\n{where}\n")
    return int(not all(bills[name, "ours"].paid_once for name in names))


def run_all(names: list[str], pythons: dict[str, str | Path]) -> dict[tuple[str, str], Bill]:
    """Run every scenario with every package, several in parallel."""
    with tempfile.TemporaryDirectory(prefix="peers-") as scratch, ThreadPoolExecutor(PARALLEL_RUNS) as pool:

        def one(name: str, peer: str) -> Bill:
            bill = run(peer, pythons[peer], SCENARIOS[name], Path(scratch, f"{name}-{peer}"))
            print(f"{name}, {peer}: {cell(bill)}", file=sys.stderr, flush=True)
            return bill

        running = {(name, peer): pool.submit(one, name, peer) for name in names for peer in pythons}
        return {key: future.result() for key, future in running.items()}


def table(names: list[str], bills: dict[tuple[str, str], Bill]) -> str:
    """Format the table: one row per scenario."""
    lines = [f"| {len(PROMPTS)} requests sent | {' | '.join(TITLES.values())} |", "|---" * (len(TITLES) + 1) + "|"]
    for name in names:
        cells = [cell(bills[name, peer]) for peer in TITLES]
        lines.append(f"| {SCENARIOS[name].title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(bill: Bill) -> str:
    """Format the outcome of one task."""
    more = [
        f"{bill.batches} batches" if bill.batches > 1 else "",
        f"{bill.orphaned} orphaned" if bill.orphaned and bill.ended == "success" else "",
        f"{bill.canceled} canceled" if bill.canceled else "",
        f"task {bill.ended}" if bill.ended != "success" else "",
    ]
    return ", ".join([f"**{bill.billed}**", *filter(None, more)])


if __name__ == "__main__":
    sys.exit(main())
