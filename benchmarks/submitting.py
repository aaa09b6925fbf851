"""What submitting 100,000 requests of 1.5 KB from a ``.jsonl`` file costs: ours beside Apache's two providers.

Each runs in a process of its own, from the file to the answer of the create call; the API, which keeps the body in a
file, is in this one and is not measured. Only ours checks every request against the model and the API version, and
estimates the cost. Needs Linux; takes about a minute. ``make bench`` runs it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from bulk import Cost, LoopbackAPI, run, serving, table
from peers import install_peers

REQUESTS = 100_000
MODEL = "claude-opus-5-5"  # what a connection without a model of its own means


def prompt(index: int) -> str:
    """A prompt of 1.4 KB."""
    return f"Question {index}: " + 'what was "said", and by whom — and when? ' * 34


def write_messages(path: Path, count: int) -> None:
    """Write the input."""
    with path.open("w") as file:
        for index in range(count):
            element = {"key": f"key-{index}", "prompt": prompt(index)}
            file.write(json.dumps(element, ensure_ascii=False) + "\n")


def submit(role: str, python: str | Path, home: Path, messages: Path, **options: str) -> Cost:
    """Submit with one of them, and check what arrived."""
    home.mkdir()
    with serving(LoopbackAPI({}, home / "body.json")) as api:
        cost = run(role, python, home, api, folder=str(home), messages=str(messages), **options)
    with (home / "body.json").open("rb") as file:
        sent = json.load(file)["requests"]
    assert len(sent) == REQUESTS, len(sent)
    for index, request in enumerate(sent):
        params = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": prompt(index)}]}
        assert request["params"] == params, f"request {index} is wrong"
    return cost


def report(costs: dict[str, Cost]) -> None:
    """Print the costs, step by step."""
    steps = dict.fromkeys(step for cost in costs.values() for step in cost.cpu)
    print(f"Submitting {REQUESTS:,} requests of 1.5 KB; every request of every body was checked")
    figures = {
        f"CPU, s: {step}": [f"{cost.cpu[step]:.2f}" if step in cost.cpu else "-" for cost in costs.values()]
        for step in steps
    }
    figures["CPU, s"] = [f"{cost.cpu_seconds:.2f}" for cost in costs.values()]
    figures["memory above the imports, MB"] = [f"{cost.memory / 2**20:.1f}" for cost in costs.values()]
    table(costs, figures)
    ours, *others = costs.values()
    for name, other in zip(list(costs)[1:], others, strict=True):
        print(
            f"{name} / ours: CPU {other.cpu_seconds / ours.cpu_seconds:.2f}, "
            f"of create calls {other.cpu['create'] / ours.cpu['create']:.2f}, memory {other.memory / ours.memory:.0f}"
        )


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ours-only", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="submitting-") as scratch:
        messages = Path(scratch, "messages.jsonl")
        write_messages(messages, REQUESTS)
        costs = {"ours": submit("ours_submitting", sys.executable, Path(scratch, "ours"), messages)}
        if not options.ours_only:
            for name in ("official", "common_ai"):
                home = Path(scratch, name)
                costs[name] = submit(f"{name}_submitting", install_peers(), home, messages, model=MODEL)
    report(costs)


if __name__ == "__main__":
    main()
