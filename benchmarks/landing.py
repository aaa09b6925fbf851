"""What landing 100,000 results of 1 KB costs: ours beside common-ai's, and beside the SDK's objects as they come.

Each runs in a process of its own, from the socket to the file; the API, which sends a recorded stream, is in this one
and is not measured. Ours lands in input order with the whole message in every row, common-ai's in the order of arrival
without it; the SDK's objects are written as they come, since it has no landing of its own.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_writer import create_request_file, write_requests
from benchmarks.bulk import Cost, LoopbackAPI, middle, run, serving
from benchmarks.figures import COMMON_AI, SDK, BenchmarkResult, Figure, Scope
from benchmarks.peers import install_peers

BATCH = 100_000
MANY = 1_000_000
ROUNDS = 3
OURS = "ours"
MODEL = "claude-haiku-4-5"
LINE = (
    '{"custom_id":"%s","result":{"type":"succeeded","message":{"model":"claude-haiku-4-5","id":"msg_013Zva2CMHLNnXjN'
    'JJKqJ2EF","type":"message","role":"assistant","content":[{"type":"text","text":"%s"}],"stop_reason":"end_turn",'
    '"stop_sequence":null,"usage":{"input_tokens":%d,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,'
    '"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":%d,'
    '"service_tier":"batch","inference_geo":"not_available"}}}}\n'
)


def answer(index: int) -> str:
    """The text that answers a request."""
    return f"Answer {index} " + 'says \\"what\\" was asked. ' * 19


def record(path: Path, indices: Iterator[int] | range, custom_id: Callable[[int], str]) -> tuple[Path, int]:
    """Write a stream of results, in no order."""
    order = list(indices)
    random.Random(1).shuffle(order)  # noqa: S311  # the same in every run
    with path.open("w") as file:
        for index in order:
            file.write(LINE % (custom_id(index), answer(index), index % 900, index % 300))
    return path, len(order)


def write_input(path: Path, count: int) -> RequestFile:
    """The requests that were sent."""
    prompts = ({"model": MODEL, "max_tokens": 64, "messages": [f"Question {index}"]} for index in range(count))
    requests = (Request(index, f"key-{index}", params) for index, params in enumerate(prompts))
    return create_request_file(path, partial(write_requests, requests))


@contextmanager
def ours(home: Path, count: int) -> Iterator[Callable[[], Cost]]:
    """Land so many, batch by batch, each time that it is called."""
    home.mkdir()
    with write_input(home / "requests.jsonl", count) as requests:
        streams = {
            f"msgbatch_{first}": record(
                home / f"{first}.jsonl",
                range(first, min(first + BATCH, count)),
                lambda index: requests.custom_id(index, "0123456789ab"),
            )
            for first in range(0, count, BATCH)
        }
    options = {"folder": str(home), "batch_ids": list(streams)}

    def land() -> Cost:
        cost = run("ours_landing", sys.executable, home, api.url, **options)
        check_ours(home / "results.jsonl", count)
        (home / "results.jsonl").unlink()
        return cost

    with serving(LoopbackAPI(streams)) as api:
        yield land


def check_ours(path: Path, count: int) -> None:
    """Every row is at its place, with its own answer."""
    with path.open("rb") as file:
        rows = 0
        for index, line in enumerate(file):
            row = json.loads(line)
            right = {"index": index, "key": f"key-{index}", "text": json.loads(f'"{answer(index)}"')}
            assert row.items() >= right.items(), f"row {index} is wrong"
            rows += 1
    assert rows == count, f"{rows} rows"


@contextmanager
def theirs(home: Path, count: int) -> Iterator[dict[str, Callable[[], Cost]]]:
    """Land so many with common-ai and with the SDK."""
    home.mkdir()
    stream = record(home / "stream.jsonl", range(count), lambda index: f"0123456789abcdef-{index}")
    roles = {COMMON_AI: "common_ai_landing", SDK: "sdk_landing"}

    def land(name: str) -> Cost:
        options = {"count": count} if name == COMMON_AI else {}
        cost = run(roles[name], install_peers(), home, api.url, folder=str(home), batch_id="msgbatch_0", **options)
        check_theirs(name, home / "results.jsonl", count)
        (home / "results.jsonl").unlink()
        return cost

    with serving(LoopbackAPI({"msgbatch_0": stream})) as api:
        yield {name: partial(land, name) for name in roles}


def check_theirs(name: str, path: Path, count: int) -> None:
    """Every row is there once, with its own answer."""
    found = set()
    with path.open() as file:
        for line in file:
            index, text = index_and_text(name, json.loads(line))
            assert text == json.loads(f'"{answer(index)}"'), f"row {index} is wrong"
            assert index not in found
            found.add(index)
    assert found == set(range(count)), f"{len(found)} rows"


def index_and_text(name: str, row: dict[str, Any]) -> tuple[int, str]:
    """Read a row of a peer."""
    if name == COMMON_AI:
        assert row["status"] == "success"
        return row["index"], row["output"]
    return int(row["custom_id"].rpartition("-")[2]), row["result"]["message"]["content"][0]["text"]


def measure(scope: Scope) -> BenchmarkResult:
    """Land the same results with each, and ten times as many with ours."""
    count, many = scope.of(BATCH), scope.of(MANY)
    with tempfile.TemporaryDirectory(prefix="landing-") as scratch, ExitStack() as stack:
        landings = {OURS: stack.enter_context(ours(Path(scratch, "ours"), count))}
        if not scope.ours_only:
            landings |= stack.enter_context(theirs(Path(scratch, "theirs"), count))
        rounds = [{name: land() for name, land in landings.items()} for _ in range(ROUNDS)]
        costs = {name: middle([each[name] for each in rounds]) for name in landings}
        grown = stack.enter_context(ours(Path(scratch, "many"), many))()
    size = len(LINE % ("0" * 40, answer(0), 100, 100))
    mine = costs.pop(OURS)
    return BenchmarkResult(
        f"{count:,} results of {size:,} bytes from the socket to the file; {ROUNDS} times each, in turns, of which the "
        "one with the median CPU counts. Ours is in input order and keeps the whole message; common-ai's is in the "
        "order of arrival without it; the SDK's objects are written as they come (the anthropic provider hands on the "
        "same stream). Checked: every row of every file.",
        (*figures(mine, costs, count), *of_many(mine, count, grown, many)),
    )


def figures(ours: Cost, peers: dict[str, Cost], count: int) -> tuple[Figure, ...]:
    """Say what it cost; memory is above the interpreter with its imports."""
    cpu = Figure("CPU", "s", ours.cpu_seconds, {name: peer.cpu_seconds for name, peer in peers.items()})
    each = {name: peer.cpu_seconds / count * 1e6 for name, peer in peers.items()}
    memory = Figure("memory", "MB", ours.megabytes, {name: peer.megabytes for name, peer in peers.items()})
    return (
        cpu.within(1 / 5, COMMON_AI, "1/5 of"),
        Figure("CPU per row", "µs", ours.cpu_seconds / count * 1e6, each),
        memory.at_most(64),
    )


def of_many(ours: Cost, count: int, grown: Cost, many: int) -> tuple[Figure, ...]:
    """Say how it grows: nothing does but the index."""
    each = (grown.memory - ours.memory) / (many - count)
    return (
        Figure(f"CPU per row of {many:,}", "µs", grown.cpu_seconds / many * 1e6),
        Figure(f"memory of {many:,} rows", "MB", grown.megabytes),
        Figure(f"memory per row from {count:,} to {many:,}", "bytes", each).at_most(64),
    )
