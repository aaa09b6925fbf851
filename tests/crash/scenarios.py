"""Scenarios in which processes are killed. Each must end with every answer paid for once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from crash import books
from crash.attempt import Prompts, Spec
from crash.effects import SharedClock, Trap, s3_file_system
from crash.servers import Bucket, RestingSimulator
from crash.task import Task, prompts

from airflow_claude_batch.batch.input.request_index import LEAST_INDEXED_BYTES
from airflow_claude_batch.batch.policy import Policy

MINUTES = 60
#: The simulator lists a batch at once, or 20 s later. A shorter search needs fewer processes.
GRACE = timedelta(seconds=30)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One scenario.

    ``midway``: what a user does once the first part has landed, if that is not the last one.
    ``afterwards``: what a user does after the task has ended for the first time. Then it runs to its end again.
    ``kept``: marks the kept columns of the rows; None without any.
    ``has_sensor``: a second task lands what the first one has sent.
    ``next_run``: what a second submission asks, which has the same answer store.
    ``batch_sizes``: the numbers of requests of all batches, sorted.
    """

    letters: str = "abc"
    policy: Policy = field(default_factory=lambda: Policy(max_requests=3, lost_create_grace=GRACE))
    simulator_options: Mapping[str, Any] = field(default_factory=dict)
    midway: Callable[[Task], None] | None = None
    afterwards: Callable[[Task], None] | None = None
    has_sensor: bool = False
    next_run: Prompts | None = None
    prompts: Prompts | None = None
    dropped: Prompts = field(default_factory=dict)
    kept: str | None = None
    trap: Trap = "kill"
    batch_sizes: Sequence[int] | None = None


#: The first 17 parts have landed before the last two are sent: these are sent with a chunk beside the ledger.
MANY_PARTS = Scenario(
    letters="abcdefghijklmnopqrs",
    policy=Policy(max_requests=1, lost_create_grace=GRACE),
    simulator_options={"queue_limit": 17},
)


@contextmanager
def new_task(scenario: Scenario, home: Path, **choices: Any) -> Iterator[Task]:
    """Yield the scenario's task in a new workspace, before its first process."""
    simulator = RestingSimulator(
        clock=SharedClock(home / "clock"), **{"batch_seconds": 10 * MINUTES, **scenario.simulator_options}
    )
    with ExitStack() as servers:
        bucket = Bucket() if choices.get("storage") == "s3" else None
        s3_endpoint = servers.enter_context(bucket.serve()) if bucket is not None else ""
        if s3_endpoint:
            s3_file_system(s3_endpoint).makedirs("bucket", exist_ok=True)
        spec = Spec(
            url=servers.enter_context(simulator.serve()).url,
            s3_endpoint=s3_endpoint,
            home=home,
            prompts=scenario.prompts or prompts(*scenario.letters),
            policy=scenario.policy,
            kept=scenario.kept,
            has_answers=scenario.next_run is not None,
            **choices,
        )
        yield Task(simulator, spec, bucket)


def run_scenario(scenario: Scenario, task: Task) -> None:
    """Run the scenario to its end and check the books."""
    if scenario.midway is not None:
        task.run_until_landed()
        scenario.midway(task)
    report = _run(scenario, task)
    if scenario.afterwards is not None:
        scenario.afterwards(task)
        report = task.run_to_the_end()
    assert report["failure"] is None, report["failure"]
    if scenario.next_run is not None:
        _run_again(scenario, task, report)
        return
    if task.spec.storage == "s3":
        s3_file_system(task.spec.s3_endpoint).get(task.spec.s3_root, str(task.spec.folder), recursive=True)
    books.check(
        task.simulator.books(),
        report["manifest"],
        task.spec.folder,
        task.spec.prompts,
        dropped=scenario.dropped,
        kept=task.spec.kept,
    )
    sizes = sorted(batch["request_count"] for batch in task.simulator.books()["batches"])
    assert scenario.batch_sizes in (None, sizes), f"there are batches of {sizes} requests"


#: A sample goes out first, and then a person is asked.
SAMPLED = Scenario(
    letters="abcd",
    policy=Policy(max_requests=3, lost_create_grace=GRACE, approve_above=Decimal(0), sample=2),
    batch_sizes=[2, 2],
)


def _run(scenario: Scenario, task: Task) -> dict[str, Any]:
    report = task.run_to_the_end()
    return task.sense(report["manifest"]) if scenario.has_sensor else report


def _run_again(scenario: Scenario, task: Task, first: Mapping[str, Any]) -> None:
    """Run the second submission to its end, and check the books of both."""
    assert scenario.next_run is not None
    folder = task.spec.folder
    task.another("next", scenario.next_run)
    report = _run(scenario, task)
    assert report["failure"] is None, report["failure"]
    manifests = [first["manifest"], report["manifest"]]
    books.check_both(
        task.simulator.books(),
        manifests,
        [(folder, scenario.prompts or prompts(*scenario.letters)), (task.spec.folder, scenario.next_run)],
    )


def _second_time_lucky(custom_id: str, params: dict[str, Any], attempt: int) -> str | None:
    """Return the outcome of requests about x, o and c in the first batch that they are in."""
    word = params["messages"][0]["content"].removeprefix("What is ").removesuffix("?")
    return {"x": "expired", "o": "errored:overloaded_error", "c": "canceled"}.get(word) if attempt == 1 else None


def _large(*letters: str) -> Prompts:
    """Return prompts of so many bytes that an index lies beside the requests."""
    return {key: f"{prompt}{'x' * (LEAST_INDEXED_BYTES // 2)}" for key, prompt in prompts(*letters).items()}


def _clear(task: Task) -> None:
    task.clear()


def _clear_with_other_input(task: Task) -> None:
    """``a`` is gone, ``e`` is new, the others have moved."""
    task.clear(prompts=prompts(*"edcb"))


def _clear_with_other_columns(task: Task) -> None:
    task.clear(kept="later")


def _clear_without_columns(task: Task) -> None:
    task.clear(kept=None)


#: Kept columns lie beside the requests, and other ones take their place, or none.
WITH_KEPT_COLUMNS = {
    "other input": Scenario(letters="abcd", kept="first", afterwards=_clear_with_other_input, dropped=prompts("a")),
    "other input midway": Scenario(
        letters="abcd",
        kept="first",
        policy=Policy(max_requests=2, lost_create_grace=GRACE),
        simulator_options={"queue_limit": 3},
        midway=_clear_with_other_input,
        dropped=prompts("a"),
    ),
    "other columns": Scenario(letters="abcd", kept="first", afterwards=_clear_with_other_columns),
    "other columns midway": Scenario(
        letters="abcd",
        kept="first",
        policy=Policy(max_requests=2, lost_create_grace=GRACE),
        simulator_options={"queue_limit": 3},
        midway=_clear_with_other_columns,
    ),
    "no columns": Scenario(letters="abcd", kept="first", afterwards=_clear_without_columns),
    "two tasks": Scenario(
        letters="abcdef",
        kept="first",
        policy=Policy(max_requests=2, wait_for_completion=False, lost_create_grace=GRACE),
        simulator_options={"queue_limit": 3},
        has_sensor=True,
    ),
}
#: Parts lie beside earlier rows, or are taken over by another input or another task.
IN_PARTS = {
    "parts on top of rows": Scenario(
        letters="axcode",
        policy=Policy(max_requests=2, repair_rounds=0, lost_create_grace=GRACE),
        simulator_options={"queue_limit": 2, "outcome": _second_time_lucky},
    ),
    "other input over parts": Scenario(
        letters="abcd",
        policy=Policy(max_requests=2, lost_create_grace=GRACE),
        simulator_options={"queue_limit": 3},
        midway=_clear_with_other_input,
        dropped=prompts("a"),
    ),
    "two tasks": Scenario(
        letters="abcdef",
        policy=Policy(max_requests=2, wait_for_completion=False, lost_create_grace=GRACE),
        simulator_options={"queue_limit": 3},
        has_sensor=True,
    ),
}
#: A second submission asks what the first one has asked, and more.
WITH_ANSWERS = {
    "next run": Scenario(letters="abcd", next_run=prompts(*"edcb")),
    "next run in two tasks": Scenario(
        letters="abc",
        policy=Policy(max_requests=2, wait_for_completion=False, lost_create_grace=GRACE),
        has_sensor=True,
        next_run=prompts(*"bxc"),
    ),
    "next run asks the same": Scenario(letters="ab", next_run=prompts(*"ab")),
}
SCENARIOS = {
    "one part": Scenario(),
    "three parts": Scenario(letters="abcdefg"),
    "repair": Scenario(
        letters="axcode",
        simulator_options={"outcome": _second_time_lucky},
        policy=Policy(max_requests=4, lost_create_grace=GRACE),
    ),
    "queue full": Scenario(
        letters="abcd", policy=Policy(max_requests=2, lost_create_grace=GRACE), simulator_options={"queue_limit": 3}
    ),
    "cleared": Scenario(letters="abcd", afterwards=_clear),
    "cleared with other input": Scenario(letters="abcd", afterwards=_clear_with_other_input, dropped=prompts("a")),
    "large requests": Scenario(prompts=_large(*"ab"), afterwards=_clear),
    "killed by hand": Scenario(
        letters="abcdef", simulator_options={"cancel_succeeded_share": 0.5, "cancel_seconds": 30}, trap="term"
    ),
}
