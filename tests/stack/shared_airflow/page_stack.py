"""Users of the shared Airflow, and a run of the DAGs whose submissions its page shows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
from airflow_stack import RUN_SECONDS, UNTIL_ENDED, DagStack, environment

from demo.airflow_api import wait_for
from demo.airflow_processes import AirflowProcesses, airflow_version
from demo.errors import DemoError
from demo.simulator import SimulatorProcess

DAG_ID, HIDDEN_DAG_ID = "page", "page_hidden"
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


def install_auth_manager(home: Path) -> None:
    """Put the auth manager where Airflow imports modules of its configuration from."""
    (home / "config").mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("page_auth.py"), home / "config")


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
            response = httpx.post(f"{self.airflow.url}/auth/token", json=body, trust_env=False, timeout=30)
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
        with httpx.Client(base_url=url, headers=headers, cookies=cookies, trust_env=False, timeout=60) as client:
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
            (ti["task_id"], ti["map_index"]): ti["state"] for ti in self.airflow.api.task_instances(dag_id, self.run_id)
        }

    def wait_until(self, check: Callable[[], Any], what: str) -> None:
        try:
            wait_for(check, seconds=RUN_SECONDS, what=what)
        except DemoError as error:
            error.add_note(f"The tasks are {self.states()}.")
            raise


@contextmanager
def running_page(stack: DagStack, run_id: str) -> Iterator[PageStack]:
    """Run both DAGs, and wait until all of their batches run. In the end, the batches end too, which frees a worker."""
    page = PageStack(stack.airflow, stack.simulators[DAG_ID], run_id)
    page.simulator.pace(UNTIL_ENDED)
    for dag_id in (DAG_ID, HIDDEN_DAG_ID):
        stack.airflow.api.trigger(dag_id, run_id)
    try:
        page.wait_until(lambda: page.states() == WAITING, f"the tasks of {run_id} to wait")
        page.wait_until(lambda: page.states(HIDDEN_DAG_ID) == {("ask", -1): "deferred"}, "the hidden task to wait")
        page.wait_until(lambda: page.snapshot(DAG_ID, "in_worker").get("parts"), "the worker to have sent its batch")
        yield page
    finally:
        page.simulator.pace(0)
    page.wait_until(lambda: page.states()["in_worker", -1] == "success", "the worker to be free")
