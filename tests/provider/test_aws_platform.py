"""Operator, trigger and sensor on Claude Platform on AWS, with the keys of a role that end while the task waits."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aws_sts import FakeSts
from workbench import Workbench

from airflow_claude_batch.hooks import ClaudeHook
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor
from airflow_claude_batch.simulator import AwsPlatform, Simulator

pytestmark = pytest.mark.airflow

EXTRA = {"platform": "aws", "region": "us-west-2", "workspace_id": "wrkspc_01Simulator"}
REQUESTS = ["first", "second"]


@pytest.fixture
def sts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSts]:
    with FakeSts().serving() as sts:
        for name, value in sts.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        yield sts


@pytest.fixture
def platform(sts: FakeSts, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """The platform at the deployment's own address, and a connection that holds no credential."""
    simulator = Simulator(platform=AwsPlatform(access_keys=sts.keys), batch_seconds=3600)
    with simulator.serve() as server:
        monkeypatch.setenv("ANTHROPIC_AWS_BASE_URL", server.url)
        monkeypatch.setenv("AIRFLOW_CONN_CLAUDE_DEFAULT", json.dumps({"conn_type": "claude", "extra": EXTRA}))
        yield simulator


def polls(platform: Simulator) -> int:
    """How often the batch was looked at: alone, or in a listing. One listing comes before the create call."""
    calls = platform.calls()
    return calls["retrieve"] + calls["list"]


def test_deferred_task_goes_on_with_keys_that_are_renewed(
    bench: Workbench, platform: Simulator, sts: FakeSts, when: Callable[..., None]
) -> None:
    when(lambda: polls(platform) >= 4, lambda: platform.pace(0), seconds=240)
    with bench.dag("aws") as dag:
        send = SendMessageBatchOperator(task_id="send", messages=REQUESTS, deferrable=True)
        MessageBatchSensor(task_id="wait", batch=send.output, deferrable=True, poll_interval=1)

    run = bench.run(dag)

    assert run.states == {"send": "success", "wait": "success"}
    assert [row.status for row in read_rows(run.xcom("wait"))] == ["succeeded", "succeeded"]
    assert platform.books()["billed_requests"] == 2
    # Each call had keys of its own, and only the newest two are accepted.
    assert polls(platform) >= 4
    assert sts.given >= sum(platform.calls().values())


def test_trigger_waits_while_no_keys_can_be_had(
    bench: Workbench, platform: Simulator, sts: FakeSts, when: Callable[..., None]
) -> None:
    """The role is taken away while the trigger waits, and given again."""

    def take_away() -> None:
        sts.refuses = True
        sts.keys.clear()

    def give_again() -> None:
        sts.refuses = False
        platform.pace(0)

    with bench.dag("aws_outage") as dag:
        SendMessageBatchOperator(
            task_id="send", messages=REQUESTS, deferrable=True, wait_for_completion=True, poll_interval=1
        )
    when(lambda: platform.books()["batches"], take_away, seconds=240)
    when(lambda: sts.refused >= 2, give_again, seconds=240)

    run = bench.run(dag)

    assert run.states == {"send": "success"}
    assert platform.books()["billed_requests"] == 2


def test_connection_test_names_platform_region_and_workspace(platform: Simulator) -> None:
    works, message = ClaudeHook().test_connection()

    assert works, message
    assert "(Claude Platform on AWS, region us-west-2) in workspace wrkspc_01Simulator" in message


def test_connection_test_says_what_a_role_lacks(platform: Simulator, sts: FakeSts) -> None:
    sts.refuses = True

    works, message = ClaudeHook().test_connection()

    assert not works
    assert "sts:AssumeRole" in message


def test_aws_connection_without_the_amazon_provider_is_told_in_words(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "airflow.providers.amazon.aws.hooks.base_aws", None)
    extra = json.dumps({**EXTRA, "aws_conn_id": "aws_default"})
    monkeypatch.setenv("AIRFLOW_CONN_CLAUDE_DEFAULT", json.dumps({"conn_type": "claude", "extra": extra}))

    works, message = ClaudeHook().test_connection()

    assert not works
    assert "aws_conn_id names 'aws_default', but Airflow's Amazon provider is not installed." in message
    assert "pip install 'airflow-claude-batch[aws]'" in message
