"""The workload: the runs of each DAG and every prompt in them. The DAGs, the simulator and the checks use it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

MODEL = "claude-haiku-5-5"
MAX_TOKENS = 64
#: Requests per message batch, for the DAG whose submissions have several parts.
PART_SIZE = 100
FAILING_REQUEST = re.compile(r"fails (\d+) time")


@dataclass(frozen=True, slots=True, kw_only=True)
class DagWorkload:
    """The runs of one DAG.

    :param requests: requests of each sending task.
    :param sender: the sending task. Its folder contains the rows.
    :param mapped: number of instances of the sending task. 0: it is not mapped.
    :param other_tasks: other tasks of a run.
    :param failing_every: one of this many requests fails. 0: none.
    :param failures: number of times that it fails.
    """

    dag_id: str
    runs: int
    requests: int
    sender: str = "ask"
    mapped: int = 0
    other_tasks: int = 2
    failing_every: int = 0
    failures: int = 1

    @property
    def run_ids(self) -> list[str]:
        return [f"run-{number}" for number in range(1, self.runs + 1)]

    @property
    def map_indices(self) -> list[int]:
        return list(range(self.mapped)) or [-1]

    @property
    def task_count(self) -> int:
        return self.runs * (max(1, self.mapped) + self.other_tasks)

    @property
    def request_count(self) -> int:
        return self.runs * max(1, self.mapped) * self.requests

    def prompts(self, run_id: str, map_index: int = -1) -> list[dict[str, str]]:
        """Return the messages of one task. Every prompt of the whole workload is different."""
        return list(self._prompts(run_id, map_index))

    def _prompts(self, run_id: str, map_index: int) -> Iterator[dict[str, str]]:
        for number in range(self.requests):
            fails = bool(self.failing_every) and number % self.failing_every == 0
            hint = f" (fails {self.failures} times)" if fails else ""
            subject = f"{self.dag_id}, {run_id}, {map_index}, {number}"
            yield {"key": f"{map_index}/{number}", "prompt": f"What about “{subject}”?{hint}"}


SHORT = (
    DagWorkload(dag_id="two_tasks", runs=3, requests=300, sender="send", other_tasks=3),
    DagWorkload(dag_id="one_task", runs=3, requests=300),
    DagWorkload(dag_id="mapped", runs=2, requests=100, mapped=6),
    DagWorkload(dag_id="in_parts", runs=1, requests=600),
    DagWorkload(dag_id="repaired", runs=2, requests=200, failing_every=7, failures=2),
    DagWorkload(dag_id="in_worker", runs=1, requests=100),
    DagWorkload(dag_id="by_hand", runs=1, requests=200, sender="send", other_tasks=3, failing_every=9),
)

FULL = (
    DagWorkload(dag_id="two_tasks", runs=8, requests=600, sender="send", other_tasks=3),
    DagWorkload(dag_id="one_task", runs=8, requests=500),
    DagWorkload(dag_id="mapped", runs=6, requests=80, mapped=18),
    DagWorkload(dag_id="in_parts", runs=3, requests=1200),
    DagWorkload(dag_id="repaired", runs=4, requests=300, failing_every=7, failures=2),
    DagWorkload(dag_id="in_worker", runs=3, requests=100),
    DagWorkload(dag_id="by_hand", runs=3, requests=200, sender="send", other_tasks=3, failing_every=9),
)

#: Environment variable that selects the workload in the Airflow processes.
SHORT_VARIABLE = "CLUSTER_SHORT"


def workloads() -> tuple[DagWorkload, ...]:
    """Return the workload of every DAG."""
    return SHORT if os.environ.get(SHORT_VARIABLE) else FULL


def queue_limit() -> int:
    """Return the API's limit of running requests: a sixth of all, so that it is reached now and then."""
    return sum(each.request_count for each in workloads()) // 6


def workload(dag_id: str) -> DagWorkload:
    """Return the workload of one DAG."""
    return next(each for each in workloads() if each.dag_id == dag_id)


def params(prompt: str) -> dict[str, object]:
    """Return the params that the API receives for a prompt."""
    return {"model": MODEL, "max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": prompt}]}
