"""What the cluster is given to do: the DAGs' runs and every prompt in them. DAGs, simulator and books read it here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

MODEL = "claude-haiku-5-5"
MAX_TOKENS = 64
#: Requests in a message batch, for the DAG whose submissions go out in parts.
PART_SIZE = 100
STUMBLING = re.compile(r"stumbles (\d+) time")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The runs of one DAG.

    :param requests: of each task that sends.
    :param sender: the task that sends; its folder has the rows.
    :param mapped: how many of it there are; 0 for one that is not mapped.
    :param others: further tasks of a run.
    :param stumbling: every how many-th request ends without an answer; 0 for none.
    :param stumbles: how often it does.
    """

    dag_id: str
    runs: int
    requests: int
    sender: str = "ask"
    mapped: int = 0
    others: int = 2
    stumbling: int = 0
    stumbles: int = 1

    @property
    def run_ids(self) -> list[str]:
        return [f"run-{number}" for number in range(1, self.runs + 1)]

    @property
    def map_indices(self) -> list[int]:
        return list(range(self.mapped)) or [-1]

    @property
    def task_count(self) -> int:
        return self.runs * (max(1, self.mapped) + self.others)

    @property
    def request_count(self) -> int:
        return self.runs * max(1, self.mapped) * self.requests

    def prompts(self, run_id: str, map_index: int = -1) -> list[dict[str, str]]:
        """The messages of one task, as the operator takes them; no two prompts of the whole workload are the same."""
        return list(self._prompts(run_id, map_index))

    def _prompts(self, run_id: str, map_index: int) -> Iterator[dict[str, str]]:
        for number in range(self.requests):
            stumbles = bool(self.stumbling) and number % self.stumbling == 0
            hint = f" (stumbles {self.stumbles} time)" if stumbles else ""
            subject = f"{self.dag_id}, {run_id}, {map_index}, {number}"
            yield {"key": f"{map_index}/{number}", "prompt": f"What about “{subject}”?{hint}"}


SHORT = (
    Load(dag_id="two_tasks", runs=3, requests=300, sender="send", others=3),
    Load(dag_id="one_task", runs=3, requests=300),
    Load(dag_id="mapped", runs=2, requests=100, mapped=6),
    Load(dag_id="in_parts", runs=1, requests=600),
    Load(dag_id="repaired", runs=2, requests=200, stumbling=7, stumbles=2),
    Load(dag_id="in_worker", runs=1, requests=100),
    Load(dag_id="by_hand", runs=1, requests=200, sender="send", others=3, stumbling=9),
)

FULL = (
    Load(dag_id="two_tasks", runs=8, requests=600, sender="send", others=3),
    Load(dag_id="one_task", runs=8, requests=500),
    Load(dag_id="mapped", runs=6, requests=80, mapped=18),
    Load(dag_id="in_parts", runs=3, requests=1200),
    Load(dag_id="repaired", runs=4, requests=300, stumbling=7, stumbles=2),
    Load(dag_id="in_worker", runs=3, requests=100),
    Load(dag_id="by_hand", runs=3, requests=200, sender="send", others=3, stumbling=9),
)

#: Tells the Airflow processes which workload it is.
SHORT_VARIABLE = "CLUSTER_SHORT"


def loads() -> tuple[Load, ...]:
    """The workload of this process."""
    return SHORT if os.environ.get(SHORT_VARIABLE) else FULL


def queue_limit() -> int:
    """How many requests the API lets run at once: a sixth of all, so that it is full now and then."""
    return sum(each.request_count for each in loads()) // 6


def load(dag_id: str) -> Load:
    """The load of one DAG."""
    return next(each for each in loads() if each.dag_id == dag_id)


def params(prompt: str) -> dict[str, object]:
    """What the API is to be sent for a prompt."""
    return {"model": MODEL, "max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": prompt}]}
