"""What landing 100,000 results of 1 KB costs: ours beside common-ai's, and beside copying the same bytes to a file.

Each runs in a process of its own, from the socket to the file; the API, which sends a recorded stream, is in this one
and is not measured. Ours lands in input order with the whole message in every row, common-ai's in the order of arrival
without it. Needs Linux; takes about five minutes. ``make bench`` runs it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bulk import Cost, LoopbackAPI, run, serving, table
from peers import install_peers

from airflow_claude_batch.batch.messages import Request
from airflow_claude_batch.batch.requests import Requests, write_requests

BATCH = 100_000
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


def write_input(path: Path, count: int) -> Requests:
    """The requests that were sent."""
    with path.open("wb") as file:
        prompts = ({"model": MODEL, "max_tokens": 64, "messages": [f"Question {index}"]} for index in range(count))
        write_requests((Request(index, f"key-{index}", params) for index, params in enumerate(prompts)), file)
    return Requests(path)


def land_ours(home: Path, count: int) -> Cost:
    """Land so many, batch by batch."""
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
    with serving(LoopbackAPI(streams)) as api:
        cost = run(
            "ours_landing",
            sys.executable,
            home,
            api,
            folder=str(home),
            requests=str(home / "requests.jsonl"),
            batch_ids=list(streams),
        )
    check_ours(home / "results.jsonl", count)
    return cost


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


def land_theirs(home: Path, count: int) -> dict[str, Cost]:
    """Land so many with common-ai, and copy the same stream."""
    home.mkdir()
    stream = record(home / "stream.jsonl", range(count), lambda index: f"0123456789abcdef-{index}")
    with serving(LoopbackAPI({"msgbatch_0": stream})) as api:
        landed = run(
            "common_ai_landing", install_peers(), home, api, folder=str(home), batch_id="msgbatch_0", count=count
        )
        with (home / "results.jsonl").open() as file:
            found = sorted(row["index"] for row in map(json.loads, file) if row["status"] == "success")
        assert found == list(range(count))
        copied = run("copy", sys.executable, home, api, folder=str(home), batch_id="msgbatch_0")
    return {"common-ai": landed, "httpx copy": copied}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--many", type=int, default=10 * BATCH, help="a second run of ours; 0 for none")
    parser.add_argument("--ours-only", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="landing-") as scratch:
        costs, counts = {"ours": land_ours(Path(scratch, "ours"), BATCH)}, [BATCH]
        if not options.ours_only:
            costs |= land_theirs(Path(scratch, "theirs"), BATCH)
            counts += [BATCH, BATCH]
        if options.many:
            costs[f"ours, {options.many:,}"] = land_ours(Path(scratch, "many"), options.many)
            counts.append(options.many)
    report(costs, counts)


def report(costs: dict[str, Cost], counts: list[int]) -> None:
    """Print the costs and what they say."""
    each = list(zip(costs.values(), counts, strict=True))
    size = len(LINE % ("0" * 40, answer(0), 100, 100))
    print(f"Landing {BATCH:,} results of {size:,} bytes; every row of every file was checked")
    figures = {
        "CPU, s": [f"{cost.cpu_seconds:.2f}" for cost, _ in each],
        "CPU per row, us": [f"{cost.cpu_seconds / count * 1e6:.1f}" for cost, count in each],
        "time, s": [f"{cost.seconds:.1f}" for cost, _ in each],
        "memory above the imports, MB": [f"{cost.memory / 2**20:.1f}" for cost, _ in each],
    }
    table(costs, figures)
    ours, *others = costs.values()
    for name, other in zip(list(costs)[1:], others, strict=True):
        if not name.startswith("ours"):
            print(f"CPU: {name} / ours = {other.cpu_seconds / ours.cpu_seconds:.2f}")
    if counts[-1] != BATCH:
        grown = (others[-1].memory - ours.memory) / (counts[-1] - BATCH)
        print(f"memory per row from {BATCH:,} to {counts[-1]:,} rows: {grown:.1f} bytes")


if __name__ == "__main__":
    main()
