"""A full run with secrets and prompts that can be recognized, and then a search through everything that it left behind.

Secrets may be nowhere but in the headers of calls (and, for an exchange, in its body). Prompts may be in
``requests.jsonl`` and on the wire. Answers may be in the rows.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sqlite3
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.listeners import hookimpl
from airflow.sdk import DAG
from simulator.simulated import jwt

from airflow_claude_batch import triggers
from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor
from airflow_claude_batch.simulator import Fault, Simulator
from airflow_claude_batch.simulator.http.exchange import Request, Response
from airflow_claude_batch.triggers import MessageBatchTrigger

pytestmark = pytest.mark.airflow

KEY = "sk-ant-api03-password-of-the-connection"
WRONG_KEY = "sk-ant-api03-a-key-that-was-revoked"
AUTH_TOKEN = "gateway-token-in-the-extra"
HEADER = "team-secret-in-a-header"
PROXY_PASSWORD = "password-of-the-proxy"
IDENTITY = jwt(iss="https://issuer.example", sub="worker", exp=4_000_000_000)
SECRETS = (KEY, WRONG_KEY, AUTH_TOKEN, HEADER, PROXY_PASSWORD, IDENTITY)
PROMPT = "zebra-prompt-nobody-may-read"
SYSTEM = "zebra-system-nobody-may-read"
ANSWER = "yak-answer-for-the-rows-alone"


class Watching(Simulator):
    """Remembers every call, and the tokens that it gave. It is a proxy too: for itself."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen: list[Request] = []
        self.tokens: set[str] = set()

    def handle(self, request: Request) -> Response:
        if "://" in request.path:
            request = replace(request, path=urlsplit(request.path).path)
        self.seen.append(request)
        answer = super().handle(request)
        if request.path == "/v1/oauth/token":
            assert isinstance(answer.body, bytes)
            self.tokens.add(json.loads(answer.body)["access_token"])
        return answer


@dataclass
class Leavings:
    """Everything that a run produced, by where it was found."""

    texts: dict[str, str] = field(default_factory=dict)

    def add(self, place: str, text: Any) -> None:
        self.texts[place] = self.texts.get(place, "") + str(text) + "\n"

    def where(self, wanted: str) -> list[str]:
        """The places that hold it, as it is or as JSON, bytes and URLs write it."""
        return sorted(place for place, text in self.texts.items() if wanted in text)

    @hookimpl
    def on_task_instance_failed(self, task_instance: Any, error: BaseException) -> None:
        while error is not None:
            self.add("errors", "".join(traceback.format_exception(error)))
            self.add("errors", f"{error!r} {vars(error)!r} {error.args!r}")
            error = error.__cause__ or error.__context__  # type: ignore[assignment]


@pytest.fixture
def leavings(airflow_db: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Leavings]:
    from airflow.sdk.execution_time.task_runner import get_listener_manager

    caplog.set_level(logging.DEBUG)
    found = Leavings()
    run = MessageBatchTrigger.run

    async def watched(self: MessageBatchTrigger) -> Any:
        found.add("trigger arguments", self.serialize())
        async for event in run(self):
            found.add("trigger events", event.payload)
            yield event

    monkeypatch.setattr(MessageBatchTrigger, "run", watched)
    monkeypatch.setattr(triggers, "STARTUP_DELAY_SECONDS", 0.0)
    get_listener_manager().add_listener(found)
    yield found
    get_listener_manager().pm.unregister(found)


@pytest.fixture
def simulator() -> Watching:
    def outcome(custom_id: str, params: Any, attempt: int) -> str | None:
        return "errored:invalid_request_error:no" if params["max_tokens"] == 13 else None

    keys = {KEY: "wrkspc_test", AUTH_TOKEN: "wrkspc_test"}
    return Watching(keys=keys, answer=lambda params, position: ANSWER, outcome=outcome)


@pytest.fixture
def connections(simulator: Watching, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    headers = {"headers": {"X-Team": HEADER}}
    with simulator.serve() as server:
        proxied = server.url.replace("://", f"://proxy-user:{PROXY_PASSWORD}@")
        identity = {"federation_rule_id": "fdrl_1", "organization_id": "org_1", "identity_token": IDENTITY}
        for name, fields in {
            "key": {"password": KEY, "extra": headers},
            "wrong": {"password": WRONG_KEY, "extra": headers},
            "token": {"extra": {"auth_token": AUTH_TOKEN, **headers}},
            "identity": {"extra": {**identity, **headers}},
            "proxied": {"password": KEY, "extra": {"proxy": proxied}, "host": "http://127.0.0.1:9"},
        }.items():
            connection = {"conn_type": "claude", "host": server.url, **fields}
            monkeypatch.setenv(f"AIRFLOW_CONN_CLAUDE_{name.upper()}", json.dumps(connection))
        yield


def database(path: Path) -> Iterator[tuple[str, str]]:
    """The rows of every table, as text. Airflow 3.4 has the tables ``xcom_v1`` and ``xcom_v2``: both are ``xcom``."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        for table in tables:
            if table == "dag_code":
                continue  # this file
            name = re.sub(r"_v\d$", "", table)
            for row in connection.execute(f'select * from "{table}"'):
                yield name, " ".join(str(each, "latin-1") if isinstance(each, bytes) else str(each) for each in row)


def but_for_airflow_s(output: str) -> str:
    """All but lines of Airflow 3.0 itself, whose ``dag.test()`` leaves the console at debug level.

    There it writes down what it is told to mask (every connection's password), and the XComs that it carries (where
    answers may be). Workers do none of it.
    """
    if AIRFLOW_VERSION >= (3, 1):
        return output
    airflow_s = ("msg=MaskSecret(", "msg=SetXCom(")
    return "\n".join(line for line in output.splitlines() if not any(mark in line for mark in airflow_s))


def test_no_secret_is_left_anywhere_and_no_prompt_but_in_the_requests(
    leavings: Leavings,
    simulator: Watching,
    connections: None,
    run_dag: Callable[..., Any],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    from airflow.configuration import AIRFLOW_HOME

    source = tmp_path / "prompts.jsonl"
    source.write_text("".join(json.dumps({"key": n, "prompt": PROMPT, "system": SYSTEM}) + "\n" for n in range(3)))
    refused = tmp_path / "refused.jsonl"
    refused.write_text(json.dumps({"key": "r", "prompt": PROMPT, "max_tokens": 13}) + "\n")
    results = tmp_path / "results"
    simulator.inject(Fault(do="drop_after_accept", on="create", reset=True))

    with DAG("secrets", default_args={"retries": 0, "results_path": str(results)}) as dag:

        def send(task_id: str, name: str, **options: Any) -> SendMessageBatchOperator:
            given: dict[str, Any] = {"messages": str(source), "poll_interval": 0.2, **options}
            return SendMessageBatchOperator(
                task_id=task_id, claude_conn_id=f"claude_{name}", model="claude-haiku-5-5", **given
            )

        lost = send("lost_answer", "key", wait_for_completion=True, deferrable=False)
        for name in ("token", "identity", "proxied"):
            sent = send(f"send_{name}", name, deferrable=True)
            wait = MessageBatchSensor(
                task_id=f"wait_{name}",
                batch=sent.output,
                claude_conn_id=f"claude_{name}",
                deferrable=True,
                poll_interval=0.2,
            )
            _ = lost >> sent >> wait
        _ = lost >> send("deferred", "key", wait_for_completion=True, deferrable=True)
        _ = lost >> send("refused", "key", messages=str(refused), wait_for_completion=True, deferrable=False)
        _ = lost >> send(
            "wrong_key", "wrong", wait_for_completion=True, deferrable=False, retries=1, retry_delay=timedelta(0)
        )
        _ = lost >> send("invalid", "key", messages=str(source), request_params={"temperature": 1})
    run = run_dag(dag)

    states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
    failed = {"refused", "wrong_key", "invalid"}
    assert states == {task_id: "failed" if task_id in failed else "success" for task_id in states}

    captured = capfd.readouterr()
    leavings.add("standard output", but_for_airflow_s(captured.out + captured.err))
    leavings.add("logging", caplog.text)
    for table, row in database(Path(AIRFLOW_HOME) / "airflow.db"):
        leavings.add(f"table {table}", row)
    for path in (path for path in Path(AIRFLOW_HOME).rglob("*.log") if path.is_file()):
        leavings.add("log files", path.read_text(errors="replace"))
    for path in (path for path in results.rglob("*") if path.is_file()):
        leavings.add(f"file {path.name.partition('-')[0]}", path.read_bytes().decode("latin-1"))
    for request in simulator.seen:
        leavings.add("URLs", f"{request.path} {request.query}")

    # The search would find them: each was used, and what may hold something holds it.
    sent_headers = " ".join(f"{request.headers}" for request in simulator.seen)
    for secret in (KEY, WRONG_KEY, AUTH_TOKEN, HEADER):
        assert secret in sent_headers
    assert "proxy-authorization" in sent_headers
    assert any(IDENTITY.encode() in bytes(request.body or b"") for request in simulator.seen)
    assert simulator.tokens
    assert {"errors", "trigger arguments", "trigger events", "logging", "table xcom", "file manifest.json"} <= set(
        leavings.texts
    )
    assert "401" in leavings.texts["errors"]
    assert "message batch" in leavings.texts["logging"]

    for secret in (*SECRETS, *simulator.tokens):
        assert leavings.where(secret) == []
    for prompt in (PROMPT, SYSTEM):
        assert leavings.where(prompt) == ["file requests.jsonl"]
    assert [place for place in leavings.where(ANSWER) if place not in ("file results.jsonl", "table xcom")] == []
