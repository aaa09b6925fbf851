"""The demo's client of Airflow's REST API, with a server that is sometimes busy."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from demo.airflow_api import MAX_ATTEMPTS, AirflowApi

LOCKED_ERROR = "(sqlite3.OperationalError) database is locked"


class BusyAirflow(ThreadingHTTPServer):
    """Issues tokens, rejects connections, and responds to other calls with a server error while it is busy."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.busy_for = 0
        self.calls: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: BusyAirflow

    def do_POST(self) -> None:
        sent = self._read()
        if self.path.endswith("/connections"):
            self._respond(422, json.dumps({"detail": [{"msg": "Field required", "input": sent}]}))
        else:
            self._respond(201, json.dumps({"access_token": "token"}))

    def do_DELETE(self) -> None:
        self._respond(404, "{}")

    def do_PATCH(self) -> None:
        self._read()
        self.server.calls.append(self.path)
        busy = len(self.server.calls) <= self.server.busy_for
        self._respond(500 if busy else 200, LOCKED_ERROR if busy else "{}")

    def _read(self) -> str:
        return self.rfile.read(int(self.headers.get("content-length", 0))).decode()

    def _respond(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: object) -> None:
        """Do not log requests."""


@pytest.fixture
def busy_airflow() -> Iterator[BusyAirflow]:
    server = BusyAirflow()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def api(busy_airflow: BusyAirflow, pauses: list[float]) -> Iterator[AirflowApi]:
    url = f"http://127.0.0.1:{busy_airflow.server_port}"
    api = AirflowApi(url, username="admin", password="secret", sleep=pauses.append)
    yield api
    api.close()


def test_call_with_a_busy_database_is_retried(api: AirflowApi, busy_airflow: BusyAirflow, pauses: list[float]) -> None:
    busy_airflow.busy_for = MAX_ATTEMPTS - 1

    api.pause("diary")

    assert busy_airflow.calls == ["/api/v2/dags/diary"] * MAX_ATTEMPTS
    assert pauses == [1, 2, 3, 4, 4, 4, 4, 4, 4]


def test_permanent_error_contains_the_message_of_airflow(api: AirflowApi, busy_airflow: BusyAirflow) -> None:
    busy_airflow.busy_for = MAX_ATTEMPTS

    with pytest.raises(httpx.HTTPStatusError, match=r"500: .*database is locked"):
        api.pause("diary")

    assert len(busy_airflow.calls) == MAX_ATTEMPTS


def test_key_of_a_rejected_connection_is_not_in_the_error(api: AirflowApi) -> None:
    with pytest.raises(httpx.HTTPStatusError, match=r"422$") as caught:
        api.put_connection({"connection_id": "claude_default", "conn_type": "claude", "password": "sk-ant-1"})

    assert "sk-ant-1" not in str(caught.value)
