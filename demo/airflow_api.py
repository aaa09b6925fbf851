"""The calls of Airflow's REST API that the demo and the tests need."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from demo.errors import DemoError
from demo.loopback import LOOPBACK

T = TypeVar("T")

PAGE_SIZE = 100  # Airflow's maximum
MAX_ATTEMPTS = 10
MAX_PAUSE_SECONDS = 4
CALL_SECONDS = 120  # with SQLite, a call waits while the scheduler writes


class AirflowApi:
    """Client of one Airflow's REST API. It logs in at the first call.

    Server errors and timeouts are retried, because with SQLite a call fails while the scheduler writes.
    Every call is safe to repeat.
    """

    def __init__(
        self, base_url: str, *, username: str, password: str, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._credentials = {"username": username, "password": password}
        self._sleep = sleep
        self._client = httpx.Client(base_url=base_url, timeout=CALL_SECONDS, **LOOPBACK)

    def close(self) -> None:
        """Close the HTTP connections."""
        self._client.close()

    def health(self) -> dict[str, Any]:
        """Return the state and last heartbeat of each component."""
        return dict(self._call("GET", "/api/v2/monitor/health"))

    def put_connection(self, connection: dict[str, Any]) -> None:
        """Store a connection in Airflow's database. Replaces one with the same id."""
        self.delete_connection(connection["connection_id"])
        self._call("POST", "/api/v2/connections", json=connection)

    def create_connections(self, connections: list[dict[str, Any]]) -> None:
        """Store new connections in Airflow's database, with one call."""
        action = {"action": "create", "action_on_existence": "fail", "entities": connections}
        created = self._call("PATCH", "/api/v2/connections", json={"actions": [action]})["create"]
        if created["errors"]:
            raise ValueError(f"Airflow did not store all connections: {len(created['errors'])} errors.")

    def delete_connection(self, connection_id: str) -> None:
        """Delete a connection from Airflow's database, if it exists."""
        response = self._send("DELETE", f"/api/v2/connections/{connection_id}")
        if response.status_code != httpx.codes.NOT_FOUND:
            _body(response)

    def dag(self, dag_id: str) -> dict[str, Any] | None:
        """Return the DAG. None: Airflow has not parsed it yet."""
        response = self._send("GET", f"/api/v2/dags/{dag_id}")
        return None if response.status_code == httpx.codes.NOT_FOUND else _body(response)

    def parse_again(self, dag_id: str) -> None:
        """Let the DAG processor parse the DAG's file now."""
        token = self._call("GET", f"/api/v2/dags/{dag_id}")["file_token"]
        response = self._send("PUT", f"/api/v2/parseDagFile/{token}")
        if response.status_code != httpx.codes.CONFLICT:  # an earlier call has asked for it
            _body(response)

    def import_error(self, file_name: str) -> str | None:
        """Return the import error of a DAG file. None: it has none, or was not parsed yet."""
        errors = self._call("GET", "/api/v2/importErrors")["import_errors"]
        return next((e["stack_trace"] for e in errors if e["filename"].endswith(file_name)), None)

    def pause(self, dag_id: str) -> None:
        """Pause the DAG. Running and deferred tasks continue."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": True})

    def unpause(self, dag_id: str) -> None:
        """Unpause the DAG."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})

    def put_pool(self, name: str, *, slots: int, include_deferred: bool) -> None:
        """Create a pool. With ``include_deferred``, deferred tasks keep their slots."""
        pool = {"name": name, "slots": slots, "include_deferred": include_deferred}
        self._call("POST", "/api/v2/pools", json=pool)

    def delete_pool(self, name: str) -> None:
        """Delete a pool. Its tasks stay scheduled until there is one with this name again."""
        self._call("DELETE", f"/api/v2/pools/{name}")

    def trigger(self, dag_id: str, run_id: str, *, logical_date: str | None = None) -> bool:
        """Trigger a run, as the UI's button does. Returns False if a run with this id exists.

        :param logical_date: without one, templates have no ``ds``.
        """
        body: dict[str, Any] = {"dag_run_id": run_id, "logical_date": logical_date, "conf": {}}
        response = self._send("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)
        if response.status_code == httpx.codes.CONFLICT:
            return False
        _body(response)
        return True

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the DAG's runs, ordered by the start of their data intervals."""
        runs = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns", params={"order_by": "logical_date"})["dag_runs"]
        return list(runs)

    def unfinished_runs(self, dag_id: str) -> list[str]:
        """Return the ids of the runs that have not ended, newest first."""
        query = {"state": ["running", "queued"], "order_by": "-start_date"}
        runs = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns", params=query)["dag_runs"]
        return [run["dag_run_id"] for run in runs]

    def fail_run(self, dag_id: str, run_id: str) -> None:
        """Mark a run and its unfinished tasks as failed."""
        self._call("PATCH", _run(dag_id, run_id), json={"state": "failed"})

    def clear_failed(self, dag_id: str, run_id: str) -> None:
        """Clear the failed tasks of a run."""
        self._clear(dag_id, run_id, only_failed=True)

    def clear(
        self, dag_id: str, run_id: str, *task_ids: str, map_index: int | None = None, downstream: bool = False
    ) -> None:
        """Clear tasks of a run in any state. ``map_index`` selects one instance of a mapped task."""
        tasks = [task_id if map_index is None else [task_id, map_index] for task_id in task_ids]
        self._clear(dag_id, run_id, only_failed=False, task_ids=tasks, include_downstream=downstream)

    def _clear(self, dag_id: str, run_id: str, **which: Any) -> None:
        body = {"dag_run_id": run_id, "reset_dag_runs": True, "dry_run": False, **which}
        self._call("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", json=body)

    def mark(self, dag_id: str, run_id: str, task_id: str, state: str, *, map_index: int = -1) -> None:
        """Mark a task as ``failed``, ``success`` or ``skipped``."""
        index = f"/{map_index}" if map_index >= 0 else ""
        self._call("PATCH", f"{_task(dag_id, run_id, task_id)}{index}", json={"new_state": state})

    def questions(self, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
        """Return what the tasks of the run have asked, by task id."""
        found = self._call("GET", f"{_run(dag_id, run_id)}/hitlDetails")["hitl_details"]
        return {question["task_instance"]["task_id"]: question for question in found}

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str) -> None:
        """Answer a task's question, as the UI's buttons do."""
        body = {"chosen_options": [option], "params_input": {}}
        self._call("PATCH", f"{_task(dag_id, run_id, task_id)}/-1/hitlDetails", json=body)

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run: ``queued``, ``running``, ``success`` or ``failed``."""
        return str(self._call("GET", _run(dag_id, run_id))["state"])

    def run_states(self) -> dict[tuple[str, str], str]:
        """Return the state of every run of every DAG, by DAG id and run id."""
        runs = self._pages("/api/v2/dags/~/dagRuns", "dag_runs")
        return {(run["dag_id"], run["dag_run_id"]): run["state"] for run in runs}

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return every task instance of the run."""
        return self._pages(f"{_run(dag_id, run_id)}/taskInstances", "task_instances")

    def task_count(self, dag_id: str, run_id: str, *states: str) -> int:
        """Count the task instances of the run in these states, or in any state."""
        query = {"state": list(states), "limit": 1}
        return int(self._call("GET", f"{_run(dag_id, run_id)}/taskInstances", params=query)["total_entries"])

    def returned(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> Any:
        """Return the XCom that the task returned. None: it has not returned yet."""
        address = f"{_task(dag_id, run_id, task_id)}/xcomEntries/return_value"
        response = self._send("GET", address, params={"map_index": map_index})
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        value = _body(response)["value"]
        return json.loads(value) if isinstance(value, str) and value[:1] in '{["' else value

    def asset_extras(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the ``extra`` of each asset event of the DAG's tasks."""
        events = self._call("GET", "/api/v2/assets/events", params={"source_dag_id": dag_id})["asset_events"]
        return [event["extra"] for event in events]

    def trigger_payloads(self) -> list[dict[str, Any]]:
        """Return the payload of each asset event that a trigger has fired."""
        extras = [event["extra"] for event in self._pages("/api/v2/assets/events", "asset_events")]
        return [extra["payload"] for extra in extras if extra.get("from_trigger")]

    def variable(self, key: str) -> str | None:
        """Return a Variable. None: there is none."""
        response = self._send("GET", f"/api/v2/variables/{quote(key, safe='')}")
        return None if response.status_code == httpx.codes.NOT_FOUND else str(_body(response)["value"])

    def log_lines(self, dag_id: str, run_id: str, task_id: str, attempt: int, map_index: int = -1) -> list[str]:
        """Return the task's log as the UI shows it."""
        address = f"{_task(dag_id, run_id, task_id)}/logs/{attempt}"
        query = {"full_content": "true", "map_index": map_index}
        entries = self._call("GET", address, params=query)["content"]
        return [line for entry in entries for line in _log_lines(entry)]

    def _pages(self, address: str, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = self._call("GET", address, params={"limit": PAGE_SIZE, "offset": len(found)})
            found += page[name]
            if not page[name] or len(found) >= page["total_entries"]:
                return found

    def _call(self, method: str, address: str, **kwargs: Any) -> Any:
        return _body(self._send(method, address, **kwargs))

    def _send(self, method: str, address: str, **kwargs: Any) -> httpx.Response:
        if "authorization" not in self._client.headers and not address.endswith("/health"):
            self._log_in()
        response = self._request(method, address, **kwargs)
        if response.status_code == httpx.codes.UNAUTHORIZED:  # a token is valid for a day, and a batch may take as long
            self._log_in()
            response = self._request(method, address, **kwargs)
        return response

    def _request(self, method: str, address: str, **kwargs: Any) -> httpx.Response:
        for number in range(1, MAX_ATTEMPTS):
            with suppress(httpx.ReadTimeout):
                response = self._client.request(method, address, **kwargs)
                if not response.is_server_error:
                    return response
            self._sleep(min(number, MAX_PAUSE_SECONDS))
        return self._client.request(method, address, **kwargs)

    def _log_in(self) -> None:
        token = _body(self._client.post("/auth/token", json=self._credentials))["access_token"]
        self._client.headers["authorization"] = f"Bearer {token}"


def wait_for(check: Callable[[], T | None], *, seconds: float, what: str, pause_seconds: float = 0.5) -> T:
    """Call ``check`` until it returns something true, and return that. HTTP errors count as not yet.

    :param what: what is awaited, for the error message.
    :raises DemoError: when that takes longer than ``seconds``.
    """
    deadline = time.monotonic() + seconds
    last: Exception | None = None
    while time.monotonic() < deadline:
        try:
            if found := check():
                return found
        except (httpx.TransportError, httpx.HTTPStatusError) as error:
            last = error
        time.sleep(pause_seconds)
    raise DemoError(
        f"Timed out after {seconds:.0f} s while waiting for {what}." + (f"\nLast error: {last}" if last else "")
    )


def _run(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"


def _task(dag_id: str, run_id: str, task_id: str) -> str:
    return f"{_run(dag_id, run_id)}/taskInstances/{task_id}"


def _log_lines(entry: str | dict[str, Any]) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    raised = [f"{e['exc_type']}: {e['exc_value']}" for e in entry.get("error_detail") or ()]
    text = entry.get("event", "")
    return ([] if text.startswith("::") else [f"{entry.get('level') or 'info'}: {text}"]) + raised


def _body(response: httpx.Response) -> Any:
    if not response.is_success:
        # Airflow's error repeats the body of the call, and a connection contains a key.
        detail = "" if "/connections" in response.url.path else f": {response.text[:500]}"
        raise httpx.HTTPStatusError(
            f"{response.request.method} {response.url} failed with status {response.status_code}{detail}",
            request=response.request,
            response=response,
        )
    return response.json() if response.content else None
