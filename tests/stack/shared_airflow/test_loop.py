"""Iterations of a loop on a real scheduler (Airflow 3.4): each has its own submission, which is paid for once."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
from airflow_stack import RUN_SECONDS, UNTIL_ENDED, DagStack

from airflow_claude_batch.rows import read_rows
from demo.airflow_api import AirflowApi, wait_for
from shared_airflow.loop_dag import DAG_ID, ITERATIONS, is_supported
from shared_airflow.page_stack import PageStack
from shared_airflow.page_stack import prepare as prepare

pytestmark = [pytest.mark.stack, pytest.mark.skipif(not is_supported(), reason="this Airflow has no loops")]

ASK, EACH = "rounds.ask", "rounds.each"
#: One, two and three requests of ``ask``, and three of ``each`` in each iteration.
REQUESTS = 6 + 3 * ITERATIONS


@dataclass
class Loop:
    """One run of the DAG, and its task instances by iteration. A batch runs until a test ends it."""

    stack: DagStack
    run_id: str
    known: int = field(init=False)
    known_billed: int = field(init=False)

    def __post_init__(self) -> None:
        self.simulator.pace(UNTIL_ENDED)
        self.known = len(self.batches())
        self.known_billed = self.simulator.books()["billed_requests"]
        self.api.trigger(DAG_ID, self.run_id)

    @property
    def api(self) -> AirflowApi:
        return self.stack.airflow.api

    @property
    def simulator(self) -> Any:
        return self.stack.simulators[DAG_ID]

    def batches(self) -> list[dict[str, Any]]:
        """Return the batches, the oldest first."""
        return sorted(self.simulator.books()["batches"], key=lambda batch: str(batch["created_at"]))

    def sent(self) -> list[str]:
        """Return the ids of the run's batches, the oldest first."""
        return [batch["id"] for batch in self.batches()][self.known :]

    def billed(self) -> int:
        """Return how many requests of the run were billed."""
        return int(self.simulator.books()["billed_requests"]) - self.known_billed

    def instance(self, task_id: str, iteration: int, map_index: int = -1) -> dict[str, Any]:
        """Return a task instance, {} if there is none yet."""
        self.stack.airflow.check()
        for ti in self.api.task_instances(DAG_ID, self.run_id):
            place = ti.get("loop_iteration") or {}
            if (ti["task_id"], place.get("iteration"), ti["map_index"]) == (task_id, iteration, map_index):
                return ti
        return {}

    def wait_for(self, state: str, task_id: str, iteration: int, map_index: int = -1) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            ti = self.instance(task_id, iteration, map_index)
            return ti if ti.get("state") == state else None

        what = f"{task_id} of iteration {iteration} to be {state}"
        return wait_for(found, seconds=RUN_SECONDS, what=what, pause_seconds=1)

    def wait_until_watched(self, ti: dict[str, Any]) -> None:
        """Wait for the trigger. Airflow deletes one that no triggerer has started, and then nothing cancels a batch."""

        def is_watched() -> bool:
            query = {**region_of(ti), "full_content": "true"}
            content = self.call("GET", f"{self.address(ti)}/logs/{ti['try_number']}", params=query)["content"]
            return "Waiting for all of these message batches" in json.dumps(content)

        wait_for(is_watched, seconds=RUN_SECONDS, what="the trigger to wait", pause_seconds=1)

    def wait_for_success(self) -> None:
        def succeeded() -> bool:
            self.stack.airflow.check()
            state = self.api.run_state(DAG_ID, self.run_id)
            assert state != "failed", f"the logs are in {self.stack.airflow.home}"
            return state == "success"

        wait_for(succeeded, seconds=2 * RUN_SECONDS, what=f"{self.run_id} to succeed", pause_seconds=1)

    def end_batches(self, count: int) -> None:
        """Wait until so many batches were sent in all, and end those that run."""
        wait_for(lambda: len(self.sent()) >= count, seconds=RUN_SECONDS, what=f"{count} batches", pause_seconds=1)
        for batch in self.batches():
            if batch["ended_at"] is None:
                self.simulator.end(batch["id"])

    def address(self, ti: dict[str, Any]) -> str:
        run_id = quote(self.run_id, safe="")
        return f"/api/v2/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{ti['task_id']}"

    def call(self, method: str, address: str, **options: Any) -> Any:
        return self.api._call(method, address, **options)

    def xcom(self, ti: dict[str, Any], key: str = "return_value") -> Any:
        value = self.call("GET", f"{self.address(ti)}/xcomEntries/{key}", params=region_of(ti))["value"]
        return json.loads(value) if isinstance(value, str) and value[:1] in '{["' else value

    def clear(self, ti: dict[str, Any], **options: Any) -> None:
        body = {"dag_run_id": self.run_id, "dry_run": False, "only_failed": False, "reset_dag_runs": True, **options}
        ids = {"task_instance_ids": [ti["id"]]}
        self.call("POST", f"/api/v2/dags/{DAG_ID}/clearTaskInstances", json={**body, **ids})

    def mark_failed(self, ti: dict[str, Any]) -> None:
        self.call("PATCH", self.address(ti), json={"new_state": "failed", **region_of(ti)})


def region_of(ti: dict[str, Any]) -> dict[str, Any]:
    return {"region_id": ti["region_id"], "region_index": ti["region_index"]}


@pytest.fixture(scope="module")
def finished(dag_stack: DagStack) -> Loop:
    """A run that has gone through all iterations. The first task was cleared while its batch ran."""
    loop = Loop(dag_stack, "all")
    asked = loop.wait_for("deferred", ASK, 0)
    loop.wait_until_watched(asked)
    loop.clear(asked)
    wait_for(lambda: loop.instance(ASK, 0).get("id") != asked["id"], seconds=RUN_SECONDS, what="the next try")
    loop.wait_until_watched(loop.wait_for("deferred", ASK, 0))
    assert len(loop.sent()) == 1, "the next try takes over the batch"
    for iteration in range(ITERATIONS):
        loop.end_batches(3 * iteration + 1)
        loop.end_batches(3 * iteration + 3)
    loop.wait_for_success()
    return loop


def test_each_iteration_has_its_own_submission_which_is_paid_for_once(finished: Loop) -> None:
    manifests = [finished.xcom(finished.instance(ASK, iteration)) for iteration in range(ITERATIONS)]
    each = [
        finished.xcom(finished.instance(EACH, iteration, index)) for iteration in range(ITERATIONS) for index in (0, 1)
    ]

    for iteration, manifest in enumerate(manifests):
        rows = list(read_rows(manifest))
        assert len(rows) == iteration + 1
        assert all(f"of iteration {iteration}" in str(row.text) for row in rows)
        assert f"/{ASK}/loop-{iteration}/" in manifest["results_path"]
    assert [manifest["counts"]["succeeded"] for manifest in each] == [1, 2] * ITERATIONS
    everyone = [*manifests, *each]
    assert len({manifest["submission_id"] for manifest in everyone}) == len(everyone)
    assert sorted(id_ for manifest in everyone for id_ in manifest["batch_ids"]) == sorted(finished.sent())
    assert finished.billed() == REQUESTS
    assert finished.simulator.canceled_batch_ids() == []


def test_button_and_page_lead_to_the_iteration(finished: Loop, page: PageStack) -> None:
    with page.client("admin") as client:
        for ti in [finished.instance(ASK, 0), finished.instance(ASK, 2), finished.instance(EACH, 1, 1)]:
            links = finished.call("GET", f"{finished.address(ti)}/links", params=region_of(ti))["extra_links"]
            shown = client.get(f"../{links['Claude batch']}")
            assert shown.status_code == 200, links
            (batch_id,) = finished.xcom(ti)["batch_ids"]
            assert batch_id in shown.text
            others = set(finished.sent()) - {batch_id}
            assert [other for other in others if other in shown.text] == []
        overview = client.get(f"./?dag_id={DAG_ID}").text
        assert overview.count("submission?") == 3 * ITERATIONS


def test_cleared_iteration_uses_its_own_answers_and_later_ones_too(finished: Loop) -> None:
    sent = finished.sent()

    finished.clear(finished.instance(ASK, 1))
    finished.wait_for_success()
    assert (finished.sent(), finished.billed()) == (sent, REQUESTS)

    # With the tasks after it, the later iterations are replaced. They ask the same, and find what was answered.
    region = finished.instance(ASK, 2)["region_id"]
    finished.clear(finished.instance(ASK, 1), include_downstream=True)
    finished.wait_for_success()
    assert finished.instance(ASK, 2)["region_id"] != region
    assert (finished.sent(), finished.billed()) == (sent, REQUESTS)
    assert [finished.xcom(finished.instance(ASK, i))["counts"]["succeeded"] for i in range(ITERATIONS)] == [1, 2, 3]


def test_failed_iteration_cancels_its_batch_alone_and_sends_the_rest_after_a_clear(dag_stack: DagStack) -> None:
    loop = Loop(dag_stack, "ended_by_hand")
    loop.end_batches(1)
    loop.end_batches(3)
    asked = loop.wait_for("deferred", ASK, 1)
    loop.wait_until_watched(asked)
    (batch_id,) = set(loop.sent()[3:])

    loop.mark_failed(asked)

    wait_for(partial(_is_canceled, loop, batch_id), seconds=RUN_SECONDS, what="the batch to be canceled")
    assert loop.simulator.canceled_batch_ids() == [batch_id]
    # Cleared while the scheduler marks it as failed, a run stays failed.
    wait_for(partial(_has_failed, loop), seconds=RUN_SECONDS, what="the run to fail", pause_seconds=1)
    loop.clear(loop.instance(ASK, 1), include_downstream=True)
    loop.simulator.pace(0)
    loop.wait_for_success()
    manifest = loop.xcom(loop.instance(ASK, 1))
    assert manifest["counts"]["succeeded"] == 2
    assert batch_id in manifest["batch_ids"]
    assert loop.billed() == REQUESTS


def _is_canceled(loop: Loop, batch_id: str) -> bool:
    return batch_id in loop.simulator.canceled_batch_ids()


def _has_failed(loop: Loop) -> bool:
    return loop.api.run_state(DAG_ID, loop.run_id) == "failed"
