"""``make peers``: let the same things go wrong for us and for the peers, and count what the simulator billed.

Whatever the peers do is reported as it is measured. Exits with 1 if ours did not answer every request, paid for once,
without a canceled batch or one that nobody knows of. Takes about fifteen minutes, most of them waiting.
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
AT_ONCE = 4  # they sleep most of the time

HEAD = f"""\
# The same mishaps, for us and for the peers

Written by `make peers`. One task sends {len(PROMPTS)} requests with the operator's defaults and one retry after a
minute, and polls every {POLL_SECONDS} s, against the simulator over sockets; the figures are from the simulator's own
books. A cell says how many requests were **billed**, and what else is not as it was asked: *orphaned* batches are those
whose id is not in what the task handed on in the end. steadybatch has no Airflow task: its job is run again instead. A
batch that is canceled bills what it had answered by then, which here is nothing.
"""


def main() -> int:
    """Run what was named, and print the table; all of it is kept in ``RESULTS.md``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}; default: all")
    names = parser.parse_args().names or list(SCENARIOS)
    if unknown := set(names) - set(SCENARIOS):
        parser.error(f"no scenario is called {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    peers = install_peers()
    bills = run_all(names, interpreters(peers))
    print(text := table(names, bills))
    if names == list(SCENARIOS):
        where = f"Measured on {datetime.now(UTC).date()}: {environment(peers, 'steadybatch')}."
        PAGE.write_text(f"{HEAD}\n{text}\n\n{where}\n")
    return int(not all(bills[name, "ours"].kept for name in names))


def run_all(names: list[str], pythons: dict[str, str | Path]) -> dict[tuple[str, str], Bill]:
    """Run every scenario with everybody, several at once."""
    with tempfile.TemporaryDirectory(prefix="peers-") as scratch, ThreadPoolExecutor(AT_ONCE) as pool:

        def one(name: str, peer: str) -> Bill:
            bill = run(peer, pythons[peer], SCENARIOS[name], Path(scratch, f"{name}-{peer}"))
            print(f"{name}, {peer}: {cell(bill)}", file=sys.stderr, flush=True)
            return bill

        running = {(name, peer): pool.submit(one, name, peer) for name in names for peer in pythons}
        return {key: future.result() for key, future in running.items()}


def table(names: list[str], bills: dict[tuple[str, str], Bill]) -> str:
    """A row for each scenario."""
    lines = [f"| {len(PROMPTS)} requests asked | {' | '.join(TITLES.values())} |", "|---" * (len(TITLES) + 1) + "|"]
    for name in names:
        cells = [cell(bills[name, peer]) for peer in TITLES]
        lines.append(f"| {SCENARIOS[name].title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(bill: Bill) -> str:
    """What one task came to."""
    more = [
        f"{bill.batches} batches" if bill.batches > 1 else "",
        f"{bill.orphaned} orphaned" if bill.orphaned and bill.ended == "success" else "",
        f"{bill.canceled} canceled" if bill.canceled else "",
        f"task {bill.ended}" if bill.ended != "success" else "",
    ]
    return ", ".join([f"**{bill.billed}**", *filter(None, more)])


if __name__ == "__main__":
    sys.exit(main())
