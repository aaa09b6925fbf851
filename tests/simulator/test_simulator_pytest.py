"""The pytest plugin: what its fixtures give to a test, and leave behind. tests/docs runs a DAG with it."""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import httpx
import pytest
from simulated import params, request

from airflow_claude_batch.simulator.dag_runs import choose_airflow_home
from airflow_claude_batch.simulator.pytest import ClaudeSimulator

pytest_plugins = ["pytester"]

HELPERS = """
import json
import os

import httpx
import pytest

ITEM = {
    "custom_id": "a",
    "params": {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Why?"}]},
}


def connected(name="CLAUDE_DEFAULT"):
    connection = json.loads(os.environ[f"AIRFLOW_CONN_{name}"])
    headers = {"x-api-key": connection["password"], "anthropic-version": "2026-10-21"}
    return httpx.Client(base_url=connection["host"], headers=headers, trust_env=False, verify=False)


def create(client):
    return client.post("/v1/messages/batches", json={"requests": [ITEM]}).json()["id"]


def status(client, batch):
    return client.get(f"/v1/messages/batches/{batch}").json()["processing_status"]
"""


class TestFixture:
    @pytest.fixture(autouse=True)
    def _load_it(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # pytest takes seconds to load ours
        pytester.makeconftest('pytest_plugins = ["airflow_claude_batch.simulator.pytest"]')
        pytester.makepyprojecttoml("[tool.pytest.ini_options]\naddopts = '--strict-markers'")

    @staticmethod
    def run(pytester: pytest.Pytester, tests: str, **outcomes: int) -> None:
        pytester.makepyfile(HELPERS + tests)
        before = dict(os.environ)
        pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(**outcomes)
        assert {**os.environ, "PYTEST_CURRENT_TEST": ""} == {**before, "PYTEST_CURRENT_TEST": ""}

    def test_each_test_has_its_own_simulator_and_a_connection_to_it(self, pytester: pytest.Pytester) -> None:
        tests = """
@pytest.mark.parametrize("n", [0, 1])
def test_fresh(claude, tmp_path, n):
    claude.assert_nothing_sent()
    with connected() as client:
        assert status(client, create(client)) == "ended"
    claude.assert_billed(1)
    assert [each["prompt"] for each in claude.requests()] == ["Why?"]
    assert os.environ["AIRFLOW__CLAUDE_BATCH__RESULTS_PATH"].startswith(str(tmp_path))
"""
        self.run(pytester, tests, passed=2)

    def test_a_marker_gives_it_options(self, pytester: pytest.Pytester) -> None:
        tests = """
pytestmark = pytest.mark.claude_simulator(conn_id="other", batch_seconds=60)


@pytest.mark.claude_simulator(batch_seconds=3600, answers={"text": "because"})
def test_options(claude):
    assert "AIRFLOW_CONN_CLAUDE_DEFAULT" not in os.environ
    with connected("OTHER") as client:
        batch = create(client)
        assert status(client, batch) == "in_progress"
        claude.advance(3599)
        assert status(client, batch) == "in_progress"
        claude.advance(1)
        assert status(client, batch) == "ended"
    claude.assert_answers_used()
"""
        self.run(pytester, tests, passed=1)

    def test_a_marker_may_name_a_file_beside_the_test(self, pytester: pytest.Pytester) -> None:
        pytester.makefile(".jsonl", answers='{"text": "because"}')
        tests = """
@pytest.mark.claude_simulator(answers="answers.jsonl", keys={"sk-mine": "wrkspc_mine"})
def test_file(claude):
    with connected() as client:
        assert "because" in client.get(f"/v1/messages/batches/{create(client)}/results").text


@pytest.mark.claude_simulator("answers.jsonl")
def test_no_name(claude):
    pass
"""
        self.run(pytester, tests, passed=1, errors=1)

    def test_nothing_of_it_happens_in_tests_that_do_not_name_it(self, pytester: pytest.Pytester) -> None:
        tests = """
def test_without():
    assert not [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]
"""
        self.run(pytester, tests, passed=1)


def test_it_is_loaded_by_name_only() -> None:
    assert [each for each in entry_points(group="pytest11") if "airflow_claude_batch" in each.value] == []


class TestAssertions:
    @staticmethod
    def created(*items: Any, **options: Any) -> ClaudeSimulator:
        claude = ClaudeSimulator(**options)
        headers = {"x-api-key": "sk-x", "anthropic-version": "2026-10-21"}
        with httpx.Client(transport=claude.transport(), base_url="http://x", headers=headers) as client:
            for item in items:
                client.post("/v1/messages/batches", json={"requests": [item]})
        return claude

    def test_what_holds_passes(self) -> None:
        claude = self.created()
        claude.assert_nothing_sent()
        claude.assert_answers_used()
        claude.assert_billed(0)

    def test_a_wrong_bill_lists_the_requests(self) -> None:
        items = [request("a", prompt="first"), request("b", prompt="second")]
        claude = self.created(*items, answers={"prompt": "second", "outcome": "expired"})
        claude.add_answers({"prompt": "third", "text": "3"})
        claude.assert_billed(1)
        sent = [each["batch_id"] for each in claude.requests()]
        listed = f"The requests that were sent:\n- succeeded: “first”, in {sent[0]}\n- expired: “second”, in {sent[1]}"
        for check, problem in [
            (lambda: claude.assert_billed(2), "1 request was billed, not 2."),
            (claude.assert_nothing_sent, "2 requests were sent."),
            (claude.assert_answers_used, "No request matched answers[0]."),
        ]:
            with pytest.raises(AssertionError) as caught:
                check()
            assert str(caught.value) == f"{problem}\n{listed}"

    def test_a_bill_that_was_paid_twice_never_passes(self) -> None:
        claude = self.created(request("a"), request("b"))
        with pytest.raises(AssertionError, match=r"2 requests were billed, 1 of them more than once, not 2\."):
            claude.assert_billed(2)

    def test_direct_requests_count_and_are_listed_too(self) -> None:
        claude = self.created(request("a", prompt="first"))
        headers = {"x-api-key": "sk-x", "anthropic-version": "2026-10-21"}
        with httpx.Client(transport=claude.transport(), base_url="http://x", headers=headers) as client:
            client.post("/v1/messages", json=params("second"))
            claude.assert_billed(2)
            client.post("/v1/messages", json=params("first"))
        with pytest.raises(AssertionError, match=r"3 requests were billed, 1 of them more than once") as caught:
            claude.assert_billed(3)
        assert "- succeeded: “second”, asked directly" in str(caught.value)
        with pytest.raises(AssertionError, match=r"3 requests were sent\."):
            claude.assert_nothing_sent()

    def test_requests_with_invalid_params_are_listed_too(self) -> None:
        claude = self.created({"custom_id": "a", "params": {"messages": 7}})
        assert [(each["prompt"], each["outcome"]) for each in claude.requests()] == [("", "errored")]


class TestAirflowHome:
    @pytest.fixture(autouse=True)
    def _airflow_is_not_imported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "airflow", raising=False)
        for name in ("AIRFLOW_HOME", "CLAUDE_SIMULATOR_AIRFLOW_HOME", "PYTEST_XDIST_WORKER"):
            monkeypatch.setenv(name, "")  # so that it is restored, whatever is set
            monkeypatch.delenv(name)

    def test_a_new_one_if_none_is_chosen(self) -> None:
        made = choose_airflow_home()
        assert made is not None
        assert os.environ["AIRFLOW_HOME"] == str(made)
        made.rmdir()

    def test_each_worker_has_its_own_in_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made = choose_airflow_home()
        assert made is not None
        assert choose_airflow_home() is None
        assert os.environ["AIRFLOW_HOME"] == str(made)
        monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")
        assert choose_airflow_home() is None
        assert os.environ["AIRFLOW_HOME"] == str(made / "gw1")
        made.rmdir()

    @pytest.mark.parametrize("worker", ["", "gw1"])
    def test_one_that_is_chosen_stays(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, worker: str) -> None:
        monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
        if worker:
            monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        assert choose_airflow_home() is None
        assert os.environ["AIRFLOW_HOME"] == str(tmp_path)

    def test_it_is_too_late_once_airflow_is_imported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "airflow", pytest)
        assert choose_airflow_home() is None
        assert "AIRFLOW_HOME" not in os.environ
