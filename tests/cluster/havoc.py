"""What goes wrong, and when: a plan made from a seed, carried out while the DAGs run."""

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
from cluster.workload import Load, loads

RETRY_SECONDS = 2.0
#: How long an event that finds nothing to happen to is tried again.
PATIENCE_SECONDS = 120.0
DOWN_SECONDS = (2.0, 15.0)
FREEZE_SECONDS = (25.0, 45.0)  # longer than what counts as dead
CREATE_SECONDS = 15.0

Action = Callable[[], bool]


@dataclass
class Havoc:
    """Carries out the plan, one event after another, whenever :meth:`step` is called.

    :param tell: is told of each event.

    ``done`` counts what happened, ``in_vain`` what found nothing to happen to. ``by_hand``: the folders of the task
    instances that were killed by hand, whose batches may be canceled.
    """

    cluster: Cluster
    seed: int
    plan: Plan
    tell: Callable[[str], None]
    done: Counter[str] = field(default_factory=Counter)
    in_vain: Counter[str] = field(default_factory=Counter)
    faults: int = 0
    by_hand: set[tuple[str, str, int]] = field(default_factory=set)
    _queue: list[tuple[float, int, str, Action, float]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)
    _frozen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def begin(self) -> None:
        """Make the plan's times count from now."""
        for seconds, name, action in self.scheduled():
            self._at(seconds, name, action)

    def scheduled(self) -> Iterator[tuple[float, str, Action]]:
        """What is to happen, and how many seconds from the beginning; the DAGs' runs have no name."""
        span = self.plan.seconds
        for events, share in ((self.plan.first, 0.1), (self.plan.events, 1.0)):
            for name, times in events.items():
                for _ in range(times):
                    yield self.dice.uniform(0, span * share), name, self._action(name)
        yield span * 0.5, "outage", partial(self._outage, "refuse", self.plan.outage_seconds)
        runs = [(load, run_id) for load in loads() for run_id in load.run_ids]
        self.dice.shuffle(runs)
        for number, (load, run_id) in enumerate(runs):
            yield span * 0.6 * number / len(runs), "", partial(self._trigger, load, run_id)

    @property
    def is_over(self) -> bool:
        return not self._queue

    def step(self) -> None:
        """Do what is due."""
        while self._queue and self._queue[0][0] <= time.monotonic():
            _, _, name, action, until = heapq.heappop(self._queue)
            try:
                happened = action()
            except (httpx.TransportError, httpx.HTTPStatusError):  # Airflow's API is down: our doing
                happened = False
            if happened:
                if name:
                    self.done[name] += 1
                    self.tell(name)
            elif time.monotonic() < until or not name:
                self._push(RETRY_SECONDS, name, action, until)
            else:
                self.in_vain[name] += 1
        for name in self.cluster.airflow.ended():  # as systemd would
            self.done[f"{name} ended by itself"] += 1
            self.cluster.start(name)

    def _action(self, name: str) -> Action:
        if name in FAULTS:
            return partial(self._inject, name)
        what, _, target = name.partition(" ")
        match what:
            case "kill" if target.endswith("'s leader"):
                return partial(self._kill, self._pick(target.removesuffix("'s leader")), leader_only=True)
            case "kill":
                return partial(self._kill, self._pick(target))
            case "freeze":
                return partial(self._freeze, self._pick(target))
            case "storm":
                return partial(self._outage, "status:529", self.dice.uniform(5, 12))
            case "hang":
                return partial(self._outage, "hang", 15)
            case "ambush":
                return partial(self._ambush, [])
            case "clear":
                return partial(self._clear, {"deferred": "deferred", "succeeded": "success"}[target])
            case "fail":
                return self._fail_by_hand
        raise ValueError(name)

    def _pick(self, kind: str) -> str:
        return self.dice.choice({"worker": WORKERS, "triggerer": TRIGGERERS}.get(kind, (kind,)))

    # ------------------------------------------------------------------ processes

    def _kill(self, name: str, *, leader_only: bool = False) -> bool:
        if name in self.cluster.down | self._frozen:
            return False
        (self.cluster.kill_leader if leader_only else self.cluster.kill)(name)
        self._at(self.dice.uniform(*DOWN_SECONDS), "", partial(self._restart, name))
        return True

    def _restart(self, name: str) -> bool:
        self.cluster.start(name)
        return True

    def _freeze(self, name: str) -> bool:
        if name in self.cluster.down | self._frozen:
            return False
        self._frozen.add(name)
        self.cluster.signal(name, signal.SIGSTOP)
        self._at(self.dice.uniform(*FREEZE_SECONDS), "", partial(self._thaw, name))
        return True

    def _thaw(self, name: str) -> bool:
        self.cluster.signal(name, signal.SIGCONT)
        self._frozen.discard(name)
        return True

    def _ambush(self, lain_since: list[int]) -> bool:
        """Kill both workers while one has paid and has not heard of it.

        :param lain_since: how many batches there were when the trap was set; empty before.
        """
        if not lain_since:
            lain_since.append(self._batch_count())
            self.cluster.simulator.inject(do="slow", on="create", seconds=CREATE_SECONDS)
        if self._batch_count() == lain_since[0]:
            return False
        for name in WORKERS:
            if name not in self.cluster.down | self._frozen:
                self._kill(name)
                self.done["kill worker"] += 1
        return True

    def _batch_count(self) -> int:
        return len(self.cluster.simulator.books()["batches"])

    # ------------------------------------------------------------------ the network

    def _inject(self, name: str) -> bool:
        for fault in FAULTS[name]:
            self.cluster.simulator.inject(**fault)
            self.faults += fault.get("times", 1)
        return True

    def _outage(self, kind: str, seconds: float) -> bool:
        self.cluster.simulator.outage(kind, seconds)
        return True

    # ------------------------------------------------------------------ hands

    def _trigger(self, load: Load, run_id: str) -> bool:
        self.cluster.airflow.api.trigger(load.dag_id, run_id)
        return True

    def _clear(self, state: str) -> bool:
        found = self._find(state, {"ask", "send", "wait"})
        if found is None:
            return False
        dag_id, run_id, task_id, map_index = found
        self.cluster.airflow.api.clear(dag_id, run_id, task_id, map_index=_index(map_index))
        return True

    def _fail_by_hand(self) -> bool:
        """Mark a waiting task failed, which cancels its batches, and have it done again a little later."""
        found = self._find("deferred", {"ask"})
        if found is None:
            return False
        dag_id, run_id, task_id, map_index = found
        self.by_hand.add((dag_id, run_id, map_index))
        self.cluster.airflow.api.mark(dag_id, run_id, task_id, "failed", map_index=map_index)
        self._at(self.dice.uniform(5, 15), "", partial(self._do_again, found))
        return True

    def _do_again(self, task: tuple[str, str, str, int]) -> bool:
        dag_id, run_id, task_id, map_index = task
        self.cluster.airflow.api.clear(dag_id, run_id, task_id, map_index=_index(map_index), downstream=True)
        return True

    def _find(self, state: str, task_ids: set[str]) -> tuple[str, str, str, int] | None:
        """A task in this state, of any run."""
        api = self.cluster.airflow.api
        runs = sorted(api.run_states())
        for dag_id, run_id in self.dice.sample(runs, len(runs)):
            tasks = api.task_instances(dag_id, run_id)
            fitting = [t for t in tasks if t["state"] == state and t["task_id"] in task_ids]
            if fitting:
                chosen = self.dice.choice(fitting)
                return dag_id, run_id, chosen["task_id"], chosen["map_index"]
        return None

    def _at(self, seconds: float, name: str, action: Action) -> None:
        self._push(seconds, name, action, time.monotonic() + seconds + PATIENCE_SECONDS)

    def _push(self, seconds: float, name: str, action: Action, until: float) -> None:
        heapq.heappush(self._queue, (time.monotonic() + seconds, next(self._numbers), name, action, until))


def _index(map_index: int) -> int | None:
    """As Airflow wants it to be given; it says -1 for tasks that are not mapped."""
    return map_index if map_index >= 0 else None
