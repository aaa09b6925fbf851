"""Disruptions: a seeded schedule of killed processes, network faults and manual actions, carried out while DAGs run."""

from __future__ import annotations

import heapq
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count

import httpx
from cluster.cluster import TRIGGERERS, WORKERS, Cluster
from cluster.plans import FAULTS, Plan
from cluster.workload import DagWorkload, workloads

RETRY_SECONDS = 2.0
#: How long a disruption is retried that finds no suitable process or task.
RETRY_LIMIT_SECONDS = 120.0
DOWN_SECONDS = (2.0, 15.0)
FREEZE_SECONDS = (25.0, 45.0)  # longer than the heartbeat timeout
CREATE_SECONDS = 15.0

Action = Callable[[], bool]


@dataclass
class Disruptions:
    """Carries out the plan. :meth:`step` performs the disruptions that are due.

    :param report: called with the name of each disruption.

    ``done`` counts the disruptions, ``skipped`` those that found no suitable process or task. ``failed_by_hand``
    contains the task instances that were failed by hand. Their batches may be canceled.
    """

    cluster: Cluster
    seed: int
    plan: Plan
    report: Callable[[str], None]
    done: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    faults: int = 0
    failed_by_hand: set[tuple[str, str, int]] = field(default_factory=set)
    _queue: list[tuple[float, int, str, Action, float]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)
    _frozen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def begin(self) -> None:
        """Start the plan's clock."""
        for seconds, name, action in self.scheduled():
            self._at(seconds, name, action)

    def scheduled(self) -> Iterator[tuple[float, str, Action]]:
        """Yield each disruption with its time in seconds after the start. Triggers of runs have no name."""
        duration = self.plan.seconds
        for events, share in ((self.plan.first, 0.1), (self.plan.events, 1.0)):
            for name, times in events.items():
                for _ in range(times):
                    yield self.rng.uniform(0, duration * share), name, self._action(name)
        yield duration * 0.5, "outage", partial(self._outage, "refuse", self.plan.outage_seconds)
        runs = [(workload, run_id) for workload in workloads() for run_id in workload.run_ids]
        self.rng.shuffle(runs)
        for number, (workload, run_id) in enumerate(runs):
            yield duration * 0.6 * number / len(runs), "", partial(self._trigger, workload, run_id)

    @property
    def finished(self) -> bool:
        return not self._queue

    def step(self) -> None:
        """Perform what is due, and restart processes that stopped."""
        while self._queue and self._queue[0][0] <= time.monotonic():
            _, _, name, action, until = heapq.heappop(self._queue)
            try:
                happened = action()
            except (httpx.TransportError, httpx.HTTPStatusError):  # Airflow's API server was killed
                happened = False
            if happened:
                if name:
                    self.done[name] += 1
                    self.report(name)
            elif time.monotonic() < until or not name:
                self._push(RETRY_SECONDS, name, action, until)
            else:
                self.skipped[name] += 1
        for name in self.cluster.airflow.ended():  # restarts them, as systemd would
            self.done[f"{name} stopped unexpectedly"] += 1
            self.cluster.start(name)

    def _action(self, name: str) -> Action:
        if name in FAULTS:
            return partial(self._inject, name)
        if name == "crash workers in create":
            return partial(self._kill_workers_during_create, [])
        action, _, target = name.partition(" ")
        match action:
            case "kill" if target.endswith("'s parent"):
                return partial(self._kill, self._pick(target.removesuffix("'s parent")), parent_only=True)
            case "kill":
                return partial(self._kill, self._pick(target))
            case "freeze":
                return partial(self._freeze, self._pick(target))
            case "529":
                return partial(self._outage, "status:529", self.rng.uniform(5, 12))
            case "hanging":
                return partial(self._outage, "hang", 15)
            case "clear":
                return partial(self._clear, {"deferred": "deferred", "succeeded": "success"}[target])
            case "fail":
                return self._fail_by_hand
        raise ValueError(name)

    def _pick(self, kind: str) -> str:
        return self.rng.choice({"worker": WORKERS, "triggerer": TRIGGERERS}.get(kind, (kind,)))

    # ------------------------------------------------------------------ processes

    def _kill(self, name: str, *, parent_only: bool = False) -> bool:
        if name in self.cluster.down | self._frozen:
            return False
        (self.cluster.kill_parent if parent_only else self.cluster.kill)(name)
        self._at(self.rng.uniform(*DOWN_SECONDS), "", partial(self._restart, name))
        return True

    def _restart(self, name: str) -> bool:
        self.cluster.start(name)
        return True

    def _freeze(self, name: str) -> bool:
        if name in self.cluster.down | self._frozen:
            return False
        self._frozen.add(name)
        self.cluster.signal(name, signal.SIGSTOP)
        self._at(self.rng.uniform(*FREEZE_SECONDS), "", partial(self._unfreeze, name))
        return True

    def _unfreeze(self, name: str) -> bool:
        self.cluster.signal(name, signal.SIGCONT)
        self._frozen.discard(name)
        return True

    def _kill_workers_during_create(self, batches_before: list[int]) -> bool:
        """Kill both workers while a create call has taken effect and its response is delayed.

        :param batches_before: number of batches when the fault was injected. Empty before that.
        """
        if not batches_before:
            batches_before.append(self._batch_count())
            self.cluster.simulator.inject(do="slow", on="create", seconds=CREATE_SECONDS)
        if self._batch_count() == batches_before[0]:
            return False
        for name in WORKERS:
            if name not in self.cluster.down | self._frozen:
                self._kill(name)
                self.done["kill worker"] += 1
        return True

    def _batch_count(self) -> int:
        return len(self.cluster.simulator.books()["batches"])

    # ------------------------------------------------------------------ network

    def _inject(self, name: str) -> bool:
        for fault in FAULTS[name]:
            self.cluster.simulator.inject(**fault)
            self.faults += fault.get("times", 1)
        return True

    def _outage(self, kind: str, seconds: float) -> bool:
        self.cluster.simulator.outage(kind, seconds)
        return True

    # ------------------------------------------------------------------ manual actions

    def _trigger(self, workload: DagWorkload, run_id: str) -> bool:
        self.cluster.airflow.api.trigger(workload.dag_id, run_id)
        return True

    def _clear(self, state: str) -> bool:
        task = self._find(state, {"ask", "send", "wait"})
        if task is None:
            return False
        dag_id, run_id, task_id, map_index = task
        self.cluster.airflow.api.clear(dag_id, run_id, task_id, map_index=_index(map_index))
        return True

    def _fail_by_hand(self) -> bool:
        """Mark a deferred task failed, which cancels its batches, and clear it a little later."""
        task = self._find("deferred", {"ask"})
        if task is None:
            return False
        dag_id, run_id, task_id, map_index = task
        self.failed_by_hand.add((dag_id, run_id, map_index))
        self.cluster.airflow.api.mark(dag_id, run_id, task_id, "failed", map_index=map_index)
        self._at(self.rng.uniform(5, 15), "", partial(self._clear_failed_by_hand, task))
        return True

    def _clear_failed_by_hand(self, task: tuple[str, str, str, int]) -> bool:
        dag_id, run_id, task_id, map_index = task
        self.cluster.airflow.api.clear(dag_id, run_id, task_id, map_index=_index(map_index), downstream=True)
        return True

    def _find(self, state: str, task_ids: set[str]) -> tuple[str, str, str, int] | None:
        """Find a random task in this state."""
        api = self.cluster.airflow.api
        runs = sorted(api.run_states())
        for dag_id, run_id in self.rng.sample(runs, len(runs)):
            tasks = api.task_instances(dag_id, run_id)
            matching = [t for t in tasks if t["state"] == state and t["task_id"] in task_ids]
            if matching:
                chosen = self.rng.choice(matching)
                return dag_id, run_id, chosen["task_id"], chosen["map_index"]
        return None

    def _at(self, seconds: float, name: str, action: Action) -> None:
        self._push(seconds, name, action, time.monotonic() + seconds + RETRY_LIMIT_SECONDS)

    def _push(self, seconds: float, name: str, action: Action, until: float) -> None:
        heapq.heappush(self._queue, (time.monotonic() + seconds, next(self._numbers), name, action, until))


def _index(map_index: int) -> int | None:
    """Convert the map index for the API. Airflow reports -1 for tasks that are not mapped."""
    return map_index if map_index >= 0 else None
