"""The end: what the API's own books, the rows on disk and Airflow must say, as a table."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.workload import Load, params


@dataclass
class Books:
    """What was found, and what is wrong with it.

    :param books: the simulator's, with every request.
    :param results: the folder above all submissions.
    :param states: the state of every task, by DAG and run.
    """

    books: Mapping[str, Any]
    results: Path
    states: Mapping[tuple[str, str], list[str]]
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.batches = {batch["id"]: batch for batch in self.books["batches"]}
        self.billed: Counter[str] = Counter()
        self.paid: dict[str, tuple[str, str]] = {}
        for batch in self.books["batches"]:
            for request in batch["requests"]:
                if request["billed"]:
                    self.billed[request["params_sha256"]] += 1
                    self.paid[request["custom_id"]] = (batch["id"], request["params_sha256"])

    def check(self, loads: tuple[Load, ...]) -> list[tuple[str, ...]]:
        """A line per DAG and one for all; what is wrong is in ``problems``."""
        lines = [self._line(load) for load in loads]
        strangers = set(self.billed) - {digest(p["prompt"]) for each in loads for _, _, ps in _tasks(each) for p in ps}
        self._expect(not strangers, f"{len(strangers)} requests were billed that nobody asked for")
        running = [b["id"] for b in self.batches.values() if b["processing_status"] != "ended"]
        self._expect(not running, f"still running at the API: {running}")
        accounted = Counter(batch_id for load in loads for batch_id in self._batch_ids(load))
        self._expect(set(accounted) == set(self.batches), "the manifests do not name the API's batches")
        self._expect(max(accounted.values(), default=1) == 1, "a batch belongs to two submissions")
        numbers = zip(*(line[1:] for line in lines), strict=True)
        return [*lines, ("all", *(_total(column) for column in numbers))]

    def _line(self, load: Load) -> tuple[str, ...]:
        states = [state for run_id in load.run_ids for state in self.states[load.dag_id, run_id]]
        green = sum(state == "success" for state in states)
        self._expect(len(states) == load.task_count, f"{load.dag_id} has {len(states)} tasks, not {load.task_count}")
        self._expect(green == len(states), f"{load.dag_id}: {len(states) - green} tasks are not green")
        once = sum(self.billed[digest(prompt["prompt"])] == 1 for _, _, prompts in _tasks(load) for prompt in prompts)
        self._expect(once == load.request_count, f"{load.dag_id}: {load.request_count - once} not billed exactly once")
        right = sum(self._right_rows(load, run_id, index, prompts) for run_id, index, prompts in _tasks(load))
        self._expect(right == load.request_count, f"{load.dag_id}: {load.request_count - right} rows are not right")
        batches = len(list(self._batch_ids(load)))
        return (load.dag_id, *map(str, (load.runs, len(states), green, load.request_count, batches, once, right)))

    def _right_rows(self, load: Load, run_id: str, map_index: int, prompts: list[dict[str, str]]) -> int:
        path = self._folder(load, run_id, map_index) / "results.jsonl"
        rows = [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
        self._expect(len(rows) == len(prompts), f"{path} has {len(rows)} rows, not {len(prompts)}")
        return sum(
            self._is_right(row, index, prompt) for index, (row, prompt) in enumerate(zip(rows, prompts, strict=False))
        )

    def _is_right(self, row: dict[str, Any], index: int, prompt: dict[str, str]) -> bool:
        bought = self.paid.get(row["custom_id"])
        return (
            (row["index"], row["key"], row["status"]) == (index, prompt["key"], "succeeded")
            and bought == (row["batch_id"], digest(prompt["prompt"]))
            and prompt["prompt"][:20] in row["text"]
        )

    def _batch_ids(self, load: Load) -> Iterator[str]:
        for run_id, map_index, _ in _tasks(load):
            yield from batch_ids(self._folder(load, run_id, map_index))

    def _folder(self, load: Load, run_id: str, map_index: int) -> Path:
        return folder(self.results, load, run_id, map_index)

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.problems.append(otherwise)


def folder(results: Path, load: Load, run_id: str, map_index: int) -> Path:
    """Where a task's submission keeps its files."""
    path = results / load.dag_id / run_id / load.sender
    return path / str(map_index) if map_index >= 0 else path


def batch_ids(submission: Path) -> list[str]:
    """The batches that a submission's manifest names."""
    manifest = submission / "manifest.json"
    return list(json.loads(manifest.read_text())["batch_ids"]) if manifest.exists() else []


def _tasks(load: Load) -> Iterator[tuple[str, int, list[dict[str, str]]]]:
    for run_id in load.run_ids:
        for map_index in load.map_indices:
            yield run_id, map_index, load.prompts(run_id, map_index)


def digest(prompt: str) -> str:
    """As the simulator's books name a request."""
    canonical = json.dumps(params(prompt), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _total(column: tuple[str, ...]) -> str:
    return str(sum(map(int, column)))
