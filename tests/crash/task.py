"""Task instance as Airflow runs it: one process after another, deferred, killed, retried, cleared."""

from __future__ import annotations

import dataclasses
import functools
import json
import multiprocessing.context
import multiprocessing.forkserver
import os
import signal
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from crash.attempt import Prompts, Spec, run
from crash.effects import SharedClock, StateStore, Trap

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.wait.blocking import wait_for_batches
from airflow_claude_batch.simulator import Simulator

RETRY_DELAY_SECONDS = 5
PATIENCE_SECONDS = 60.0
#: The triggerer looks no more often: what it does is no effect, and each look costs as much as a tenth of a process.
SECONDS_BETWEEN_LOOKS = 130.0
#: A day with a look every quarter of an hour has fewer. More are a loop of a task and its trigger.
MOST_DEFERRALS = 200


@functools.cache
def _forks() -> multiprocessing.context.ForkServerContext:
    """Return a fork server: a process without threads that has everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["pytest", "s3fs", "aiobotocore.session", "crash.warm_up"]
    )  # missing ones are left out
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # the one way to tell it where to import from
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if inherited is not None:
            os.environ["PYTHONPATH"] = inherited
    return context


class Task:
    """One task instance and what its processes need."""

    def __init__(self, simulator: Simulator, spec: Spec, *, retry_delay: float = RETRY_DELAY_SECONDS) -> None:
        self.simulator = simulator
        self.spec = spec
        self.clock = SharedClock(spec.home / "clock")
        self.retry_delay = retry_delay
        self.processes = 0
        #: How each process ended, in order.
        self.history: list[str] = []

    def run_to_the_end(self, traps: Mapping[int, Trap] | None = None, *, tries: int = 8) -> dict[str, Any]:
        """Run until done, with retries of failures. Return the last report."""
        self.spec = dataclasses.replace(self.spec, traps=traps or {})
        for _ in range(tries):
            report = self.run_try()
            if report["kind"] == "done" and (not report["failure"] or report["permanent"]):
                return report
            self.next_try()
        raise AssertionError(f"not done after {tries} tries: {self.history}")

    def run_until_landed(self, traps: Mapping[int, Trap], *, tries: int = 8) -> None:
        """Run until the first part has landed and the task waits for the next, or until done."""
        self.spec = dataclasses.replace(self.spec, traps=traps)
        for _ in range(tries):
            report = self.run_process()
            while report["kind"] == "deferred" and not list(self.spec.folder.glob("landed-*.index")):
                report = self.resume(report)
            if report["kind"] in ("deferred", "done"):
                return
            self.next_try()
        raise AssertionError(f"no part has landed after {tries} tries: {self.history}")

    def sense(self, manifest: Mapping[str, Any], traps: Mapping[int, Trap]) -> dict[str, Any]:
        """Run a sensor to its end: it lands the batches of this manifest."""
        self.spec = dataclasses.replace(self.spec, sensed=tuple(manifest["batch_ids"]))
        return self.run_to_the_end(traps)

    def run_try(self) -> dict[str, Any]:
        """Run one try through all its deferrals."""
        report = self.run_process()
        for _ in range(MOST_DEFERRALS):
            if report["kind"] != "deferred":
                return report
            report = self.resume(report)
        raise AssertionError(f"a try defers without end: {self.history[-5:]}, at {self.clock.seconds()} s")

    def resume(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Wait like the triggerer, then run the next process of the try."""
        asked = report.get("asked", False)
        spec, self.spec = self.spec, dataclasses.replace(self.spec, wait_result=self.wait(report), answered=asked)
        try:
            return self.run_process()
        finally:
            self.spec = dataclasses.replace(spec, traps=self.spec.traps)

    def wait(self, report: Mapping[str, Any]) -> dict[str, Any]:
        config = ClientConfig(credentials=ApiKey("sk-test"), base_url="http://127.0.0.1", max_retries=0)
        until = datetime.fromisoformat(report["until"])
        with ClaudeClient(config, transport=self.simulator.transport()) as client:
            wait_result = wait_for_batches(
                client,
                report["batch_ids"],
                wait_for=report["wait_for"],
                until=until,
                clock=self.clock.now,
                sleep=lambda seconds: self._pause(seconds, until),
            ).to_event()
        return json.loads(json.dumps(wait_result))  # type: ignore[no-any-return]

    def _pause(self, seconds: float, until: datetime) -> None:
        left = (until - self.clock.now()).total_seconds()
        self.clock.sleep(max(seconds, min(SECONDS_BETWEEN_LOOKS, left)))

    def run_process(self) -> dict[str, Any]:
        return self.end_of(self.start())

    def start(self) -> BaseProcess:
        self.processes += 1
        self.spec.report.unlink(missing_ok=True)
        process = _forks().Process(target=run, args=(self.spec,))
        process.start()
        return process

    def end_of(self, process: BaseProcess, spec: Spec | None = None) -> dict[str, Any]:
        """Wait for a process and read its report. ``spec`` is the process's own if the task's has changed since."""
        spec = spec or self.spec
        process.join(PATIENCE_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
            raise AssertionError(f"a process hangs: {self.history}")
        if process.exitcode == -signal.SIGKILL:
            report = {"kind": "killed"}
        else:
            assert process.exitcode == 0, f"the harness itself failed: {process.exitcode}"
            report = json.loads(spec.report.read_bytes())
        self.history.append(f"try {spec.try_number}: {_short(report)}")
        return report

    def next_try(self, **changes: Any) -> None:
        self.clock.sleep(self.retry_delay)
        self.spec = dataclasses.replace(self.spec, try_number=self.spec.try_number + 1, **changes)
        StateStore(self.spec.state_path, self.spec.ti_id).next_try()

    def another(self, name: str, prompts: Prompts) -> None:
        """Become another task instance, which asks this, with the same answer store."""
        self.clock.sleep(self.retry_delay)
        changes = {"name": name, "prompts": prompts, "try_number": 1, "generation": 0, "sensed": ()}
        self.spec = dataclasses.replace(self.spec, **changes)

    def clear(self, **changes: Any) -> None:
        """Clear the task like a user, perhaps with another input or other arguments."""
        self.next_try(generation=self.spec.generation + self.spec.try_number + 1, **changes)


def wait_until_stopped(process: BaseProcess) -> bool:
    """Wait until a ``stop`` trap has stopped the process. Return False if it ended instead."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if not process.is_alive():
            return False
        status = Path(f"/proc/{process.pid}/stat")
        try:
            state = status.read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError, IndexError):
            continue
        if state == "T":
            return True
        time.sleep(0.002)
    raise AssertionError("the process neither stopped nor ended")


def resume_process(process: BaseProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGCONT)


def prompts(*letters: str) -> Prompts:
    return {f"key {word}": f"What is {word}?" for word in letters}


def _short(report: Mapping[str, Any]) -> str:
    match report["kind"]:
        case "done":
            failure = report["failure"]
            return f"done, {failure['type']}" if failure else "done"
        case "error":
            return f"{report['type']}: {report['message'][:200]}"
        case kind:
            return str(kind)
