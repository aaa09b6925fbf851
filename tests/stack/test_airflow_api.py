"""The demo's client of Airflow's REST API, before a server that is busy now and then."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from demo.airflow_api import MAX_ATTEMPTS, AirflowApi

LOCKED = "(sqlite3.OperationalError) database is locked"


class BusyAirflow(ThreadingHTTPServer):
    """Gives tokens, refuses connections, and answers all else with a server's error as long as it is busy."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.busy_for = 0
        self.calls: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: BusyAirflow

    def do_POST(self) -> None:
        sent = self._read()
        if self.path.endswith("/connections"):
            self._answer(422, json.dumps({"detail": [{"msg": "Field required", "input": sent}]}))
        else:
            self._answer(201, json.dumps({"access_token": "token"}))

    def do_DELETE(self) -> None:
        self._answer(404, "{}")

    def do_PATCH(self) -> None:
        self._read()
        self.server.calls.append(self.path)
        busy = len(self.server.calls) <= self.server.busy_for
        self._answer(500 if busy else 200, LOCKED if busy else "{}")

    def _read(self) -> str:
        return self.rfile.read(int(self.headers.get("content-length", 0))).decode()

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: object) -> None:
        """Say nothing."""


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


def test_call_that_met_a_busy_database_is_made_again(
    api: AirflowApi, busy_airflow: BusyAirflow, pauses: list[float]
) -> None:
    busy_airflow.busy_for = MAX_ATTEMPTS - 1

    api.pause("diary")

    assert busy_airflow.calls == ["/api/v2/dags/diary"] * MAX_ATTEMPTS
    assert pauses == [1, 2, 3, 4]


def test_error_that_stays_says_what_airflow_said(api: AirflowApi, busy_airflow: BusyAirflow) -> None:
    busy_airflow.busy_for = MAX_ATTEMPTS

    with pytest.raises(httpx.HTTPStatusError, match=r"500: .*database is locked"):
        api.pause("diary")

    assert len(busy_airflow.calls) == MAX_ATTEMPTS


def test_refused_connection_s_key_is_not_repeated(api: AirflowApi) -> None:
    with pytest.raises(httpx.HTTPStatusError, match=r"422$") as caught:
        api.put_connection({"connection_id": "claude_default", "conn_type": "claude", "password": "sk-ant-1"})

    assert "sk-ant-1" not in str(caught.value)
