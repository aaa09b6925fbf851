"""Measures the submission of 100,000 requests of 1.5 KB from a ``.jsonl`` file: ours and Apache's two providers.

Each runs in a process of its own, from the file to the response of the create call. The API runs in this process. It
writes the body to a file, and is not measured. Only ours checks every request against the model and the API version,
and estimates the cost.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from benchmarks.bulk import Cost, LoopbackAPI, run, serving
from benchmarks.figures import COMMON_AI, OFFICIAL, SDK, BenchmarkResult, Figure, Scope
from benchmarks.peers import install_peers

REQUESTS = 100_000
ROLES = {OFFICIAL: "official_submitting", COMMON_AI: "common_ai_submitting", SDK: "sdk_submitting"}
MODEL = "claude-opus-5-5"  # the default of a connection without a model


def prompt(index: int) -> str:
    """Make a prompt of 1.4 KB."""
    return f"Question {index}: " + 'what was "said", and by whom — and when? ' * 34


def write_messages(path: Path, count: int) -> None:
    """Write the file of messages."""
    with path.open("w") as file:
        for index in range(count):
            element = {"key": f"key-{index}", "prompt": prompt(index)}
            file.write(json.dumps(element, ensure_ascii=False) + "\n")


def submit(role: str, python: str | Path, home: Path, messages: Path, count: int, **options: str) -> Cost:
    """Submit in one role, and check the body that the API received."""
    home.mkdir()
    with serving(LoopbackAPI({}, home / "body.json")) as api:
        cost = run(role, python, home, api.url, folder=str(home), messages=str(messages), **options)
    with (home / "body.json").open("rb") as file:
        sent = json.load(file)["requests"]
    assert len(sent) == count, len(sent)
    for index, request in enumerate(sent):
        params = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": prompt(index)}]}
        assert request["params"] == params, f"request {index} is wrong"
    return cost


def measure(scope: Scope) -> BenchmarkResult:
    """Submit the same file with ours and with each peer."""
    count = scope.of(REQUESTS)
    with tempfile.TemporaryDirectory(prefix="submitting-") as scratch:
        messages = Path(scratch, "messages.jsonl")
        write_messages(messages, count)
        ours = submit("ours_submitting", sys.executable, Path(scratch, "ours"), messages, count)
        peers = {
            name: submit(role, install_peers(), Path(scratch, role), messages, count, model=MODEL)
            for name, role in ROLES.items()
            if not scope.ours_only
        }
    return BenchmarkResult(
        f"{count:,} requests of 1.5 KB from a `.jsonl` file to the response of the create call, over a socket. Ours "
        "checks every request and estimates the cost, too. Checked: every request of every body that arrived.",
        figures(ours, peers, count),
    )


def figures(ours: Cost, peers: dict[str, Cost], count: int) -> tuple[Figure, ...]:
    """Make the lines of the table. Memory is the peak above the interpreter with its imports."""
    cpu = Figure("CPU", "s", ours.cpu_seconds, {name: peer.cpu_seconds for name, peer in peers.items()})
    creates = {name: peer.cpu["create"] for name, peer in peers.items()}
    each = {name: peer.cpu_seconds / count * 1e6 for name, peer in peers.items()}
    memory = Figure("memory", "MB", ours.megabytes, {name: peer.megabytes for name, peer in peers.items()})
    return (
        cpu.within(1, OFFICIAL, "that of").within(1, SDK, "that of"),
        Figure("CPU of the create call alone", "s", ours.cpu["create"], creates),
        Figure("CPU per request", "µs", ours.cpu_seconds / count * 1e6, each),
        memory.at_most(64),
    )
