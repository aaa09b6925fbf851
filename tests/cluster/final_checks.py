"""Final checks: the simulator's books, the rows on disk and Airflow's task states, as a table."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.workload import DagWorkload, params


@dataclass
class FinalChecks:
    """Compares what was billed, stored and reported with the workload.

    :param books: the simulator's books with every request.
    :param results: the results folder of all submissions.
    :param states: the states of all tasks, by DAG and run.
    """

    books: Mapping[str, Any]
    results: Path
    states: Mapping[tuple[str, str], list[str]]
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.batches = {batch["id"]: batch for batch in self.books["batches"]}
        self.billed: Counter[str] = Counter()
        self.billed_as: dict[str, tuple[str, str]] = {}
        for batch in self.books["batches"]:
            for request in batch["requests"]:
                if request["billed"]:
                    self.billed[request["params_sha256"]] += 1
                    self.billed_as[request["custom_id"]] = (batch["id"], request["params_sha256"])

    def check(self, workloads: tuple[DagWorkload, ...]) -> list[tuple[str, ...]]:
        """Return one line per DAG and one with the totals. Adds to ``problems``."""
        lines = [self._line(workload) for workload in workloads]
        sent = {digest(p["prompt"]) for workload in workloads for _, _, ps in _tasks(workload) for p in ps}
        unknown = set(self.billed) - sent
        self._expect(not unknown, f"{len(unknown)} billed requests are not in the workload")
        running = [b["id"] for b in self.batches.values() if b["processing_status"] != "ended"]
        self._expect(not running, f"still running at the API: {running}")
        named = Counter(batch_id for workload in workloads for batch_id in self._batch_ids(workload))
        self._expect(set(named) == set(self.batches), "the manifests do not name the API's batches")
        self._expect(max(named.values(), default=1) == 1, "a batch belongs to two submissions")
        numbers = zip(*(line[1:] for line in lines), strict=True)
        return [*lines, ("all", *(_total(column) for column in numbers))]

    def _line(self, workload: DagWorkload) -> tuple[str, ...]:
        dag_id, requests = workload.dag_id, workload.request_count
        states = [state for run_id in workload.run_ids for state in self.states[dag_id, run_id]]
        succeeded = sum(state == "success" for state in states)
        tasks = list(_tasks(workload))
        once = sum(self.billed[digest(prompt["prompt"])] == 1 for _, _, prompts in tasks for prompt in prompts)
        correct = sum(self._correct_rows(workload, *task) for task in tasks)
        batches = len(list(self._batch_ids(workload)))
        self._expect(len(states) == workload.task_count, f"{dag_id} has {len(states)} tasks, not {workload.task_count}")
        self._expect(succeeded == len(states), f"{dag_id}: {len(states) - succeeded} tasks have not succeeded")
        self._expect(once == requests, f"{dag_id}: {requests - once} not billed exactly once")
        self._expect(correct == requests, f"{dag_id}: {requests - correct} rows are not correct")
        return (dag_id, *map(str, (workload.runs, len(states), succeeded, requests, batches, once, correct)))

    def _correct_rows(self, workload: DagWorkload, run_id: str, map_index: int, prompts: list[dict[str, str]]) -> int:
        path = self._folder(workload, run_id, map_index) / "results.jsonl"
        rows = [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
        self._expect(len(rows) == len(prompts), f"{path} has {len(rows)} rows, not {len(prompts)}")
        return sum(
            self._is_correct(row, index, prompt) for index, (row, prompt) in enumerate(zip(rows, prompts, strict=False))
        )

    def _is_correct(self, row: dict[str, Any], index: int, prompt: dict[str, str]) -> bool:
        billing = self.billed_as.get(row["custom_id"])
        return (
            (row["index"], row["key"], row["status"]) == (index, prompt["key"], "succeeded")
            and billing == (row["batch_id"], digest(prompt["prompt"]))
            and prompt["prompt"][:20] in row["text"]
        )

    def _batch_ids(self, workload: DagWorkload) -> Iterator[str]:
        for run_id, map_index, _ in _tasks(workload):
            yield from batch_ids(self._folder(workload, run_id, map_index))

    def _folder(self, workload: DagWorkload, run_id: str, map_index: int) -> Path:
        return submission_folder(self.results, workload, run_id, map_index)

    def _expect(self, condition: bool, problem: str) -> None:
        if not condition:
            self.problems.append(problem)


def submission_folder(results: Path, workload: DagWorkload, run_id: str, map_index: int) -> Path:
    """Return the folder of a task's submission."""
    path = results / workload.dag_id / run_id / workload.sender
    return path / str(map_index) if map_index >= 0 else path


def batch_ids(submission: Path) -> list[str]:
    """Read the batch ids from a submission's manifest."""
    manifest = submission / "manifest.json"
    return list(json.loads(manifest.read_text())["batch_ids"]) if manifest.exists() else []


def _tasks(workload: DagWorkload) -> Iterator[tuple[str, int, list[dict[str, str]]]]:
    for run_id in workload.run_ids:
        for map_index in workload.map_indices:
            yield run_id, map_index, workload.prompts(run_id, map_index)


def digest(prompt: str) -> str:
    """Hash a request as the simulator's books do."""
    canonical = json.dumps(params(prompt), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _total(column: tuple[str, ...]) -> str:
    return str(sum(map(int, column)))
