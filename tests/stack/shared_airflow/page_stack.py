"""Users of the shared Airflow, and a run of the DAGs whose submissions its page shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx
from airflow_database import task_instances
from airflow_stack import RUN_SECONDS, DagStack, environment

from demo.airflow_api import wait_for
from demo.airflow_processes import AirflowProcesses, airflow_version
from demo.loopback import LOOPBACK
from demo.simulator import SimulatorProcess

DAG_ID, HIDDEN_DAG_ID = "page", "page_hidden"
RUN_ID = "manual__2026-01-01T00:00:00+00:00"
#: ``editor`` may edit task instances. ``reader`` may not read XComs. Only ``admin`` may see the hidden DAG.
USERS = "admin:admin,editor:op,viewer:viewer,reader:viewer"
#: The state of each task of a run once all batches are sent.
WAITING = {
    ("ask", -1): "deferred",
    ("by_click", -1): "deferred",
    ("in_worker", -1): "running",
    ("send", -1): "success",
    ("wait", -1): "deferred",
    ("decorated", 0): "deferred",
    ("decorated", 1): "deferred",
}
SETTINGS = {
    "AIRFLOW__CORE__AUTH_MANAGER": "page_auth.FinerAuthManager",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": USERS,
}


def airflow_minor() -> tuple[int, ...]:
    """Return the version of the tested Airflow, such as (3, 1)."""
    return tuple(map(int, airflow_version(environment()).split(".")[:2]))


@dataclass
class PageStack:
    """A run whose tasks wait for their batches, and clients of the page by user."""

    airflow: AirflowProcesses
    simulator: SimulatorProcess
    run_id: str
    _tokens: dict[str, str] = field(default_factory=dict)

    def password(self, user: str) -> str:
        passwords = (self.airflow.home / "simple_auth_manager_passwords.json.generated").read_text()
        return str(json.loads(passwords)[user])

    def token(self, user: str) -> str:
        if user not in self._tokens:
            body = {"username": user, "password": self.password(user)}
            response = httpx.post(f"{self.airflow.url}/auth/token", json=body, **LOOPBACK, timeout=180)
            self._tokens[user] = response.raise_for_status().json()["access_token"]
        return self._tokens[user]

    @contextmanager
    def client(self, user: str | None, *, cookie: bool = False) -> Iterator[httpx.Client]:
        """Return a client of the page.

        :param user: None for somebody who has not signed in.
        :param cookie: be known by the cookie, as a browser is. Otherwise by the header with the token.
        """
        headers = {"Authorization": f"Bearer {self.token(user)}"} if user and not cookie else {}
        cookies = {"_token": self.token(user)} if user and cookie else {}
        url = f"{self.airflow.url}/claude-batch/"
        with httpx.Client(base_url=url, headers=headers, cookies=cookies, **LOOPBACK, timeout=180) as client:
            yield client

    def query(self, task_id: str, *, dag_id: str = DAG_ID, **more: Any) -> str:
        """Return the query that names a task instance of the run."""
        return urlencode({"dag_id": dag_id, "run_id": self.run_id, "task_id": task_id, **more})

    def canceled(self) -> list[str]:
        """Return the batches that were canceled."""
        return self.simulator.canceled_batch_ids()

    def snapshot(self, dag_id: str, task_id: str) -> dict[str, Any]:
        address = f"/api/v2/dags/{dag_id}/dagRuns/{self.run_id.replace('+', '%2B')}/taskInstances/{task_id}/xcomEntries"
        value = self.airflow.api._call("GET", f"{address}/claude_batch")["value"]
        return json.loads(value) if isinstance(value, str) else value  # type: ignore[no-any-return]  # (JSON)

    def batch_id(self, task_id: str, dag_id: str = DAG_ID) -> str:
        return str(self.snapshot(dag_id, task_id)["parts"][0]["batch_id"])

    def states(self, dag_id: str = DAG_ID) -> dict[tuple[str, int], str]:
        self.airflow.check()
        return {
            (ti["task_id"], ti["map_index"]): ti["state"] for ti in task_instances(self.airflow, dag_id, self.run_id)
        }

    def wait_until(self, check: Callable[[], Any], what: str) -> None:
        wait_for(check, seconds=RUN_SECONDS, what=what)


def prepare(stack: DagStack) -> PageStack:
    """Run both DAGs, and wait until all of their batches run."""
    page = PageStack(stack.airflow, stack.simulators[DAG_ID], RUN_ID)
    for dag_id in (DAG_ID, HIDDEN_DAG_ID):
        stack.airflow.api.trigger(dag_id, RUN_ID)
    stack.wait_for(lambda: page.states() == WAITING, f"the tasks of {DAG_ID} to wait")
    stack.wait_for(lambda: page.states(HIDDEN_DAG_ID) == {("ask", -1): "deferred"}, "the hidden task to wait")
    stack.wait_for(lambda: page.snapshot(DAG_ID, "in_worker").get("parts"), "the worker to have sent its batch")
    return page


@contextmanager
def running_page(page: PageStack) -> Iterator[PageStack]:
    """End the batches after the tests, which frees a worker."""
    try:
        yield page
    finally:
        page.simulator.pace(0)
    page.wait_until(lambda: page.states()["in_worker", -1] == "success", "the worker to be free")
