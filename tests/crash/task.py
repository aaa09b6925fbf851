"""Task instance as Airflow runs it: one process after another, deferred, killed, retried, cleared."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Mapping
from datetime import datetime
from multiprocessing.process import BaseProcess
from typing import Any

from crash.attempt import Prompts, Spec, run
from crash.effects import SharedClock, StateStore
from crash.processes import PATIENCE_SECONDS, is_apart, start_process
from crash.servers import Bucket, RestingSimulator

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.wait.blocking import wait_for_batches

RETRY_DELAY_SECONDS = 5
#: The triggerer looks no more often: what it does is no effect, and each look costs as much as a tenth of a process.
SECONDS_BETWEEN_LOOKS = 310.0
#: A day with a look every quarter of an hour has fewer. More are a loop of a task and its trigger.
MOST_DEFERRALS = 200


class Task:
    """One task instance and what its processes need.

    :param bucket: the server of its files, if these are in a bucket.
    """

    def __init__(self, simulator: RestingSimulator, spec: Spec, bucket: Bucket | None = None) -> None:
        self.simulator = simulator
        self.spec = spec
        self.bucket = bucket
        self.clock = SharedClock(spec.home / "clock")
        #: How each process ended, in order.
        self.history: list[str] = []

    def run_to_the_end(self, *, tries: int = 8) -> dict[str, Any]:
        """Run until done, with retries of failures. Return the last report."""
        for _ in range(tries):
            report = self.run_try()
            if report["kind"] == "done" and (not report["failure"] or report["permanent"]):
                return report
            self.next_try()
        raise AssertionError(f"not done after {tries} tries: {self.history}")

    def run_until_landed(self, *, tries: int = 8) -> None:
        """Run until the first part has landed and the task waits for the next, or until done."""
        for _ in range(tries):
            report = self.run_process()
            while report["kind"] == "deferred" and not list(self.spec.folder.glob("landed-*.index")):
                report = self.resume(report)
            if report["kind"] in ("deferred", "done"):
                return
            self.next_try()
        raise AssertionError(f"no part has landed after {tries} tries: {self.history}")

    def sense(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Run a sensor to its end: it lands the batches of this manifest."""
        self.spec = dataclasses.replace(self.spec, sensed=tuple(manifest["batch_ids"]))
        return self.run_to_the_end()

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
        self.spec = dataclasses.replace(self.spec, wait_result=self.wait(report), answered=asked)
        try:
            return self.run_process()
        finally:
            self.spec = dataclasses.replace(self.spec, wait_result=None, answered=False)

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
        """Run one process. If nothing will kill or suspend it, it is this one, which costs less."""
        if self.is_disturbed or not is_apart():
            return self.end_of(self.start())
        run(self.spec)
        return self.reported(self.spec)

    @property
    def is_disturbed(self) -> bool:
        """Whether a process may still be killed or suspended."""
        done = self.effects_so_far()
        return any(at > done and trap != "term" for at, trap in self.spec.traps.items())

    def effects_so_far(self) -> int:
        path = self.spec.home / self.spec.effects
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def start(self) -> BaseProcess:
        self.spec.report.unlink(missing_ok=True)  # or a killed process would have one
        return start_process(run, self.spec)

    def end_of(self, process: BaseProcess, spec: Spec | None = None) -> dict[str, Any]:
        """Wait for a process and read its report. ``spec`` is the process's own if the task's has changed since."""
        spec = spec or self.spec
        process.join(PATIENCE_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
            raise AssertionError(f"a process hangs: {self.history}")
        if process.exitcode == -signal.SIGKILL:
            return self.killed()
        assert process.exitcode == 0, f"the harness itself failed: {process.exitcode}"
        return self.reported(spec)

    def reported(self, spec: Spec) -> dict[str, Any]:
        """Return the report of a process that has ended by itself."""
        report: dict[str, Any] = json.loads(spec.report.read_bytes())
        self.history.append(f"try {spec.try_number}: {_short(report)}")
        return report

    def killed(self) -> dict[str, Any]:
        """Return the report on a process that was killed."""
        self.history.append(f"try {self.spec.try_number}: killed")
        return {"kind": "killed"}

    def next_try(self, **changes: Any) -> None:
        self.clock.sleep(RETRY_DELAY_SECONDS)
        self.spec = dataclasses.replace(self.spec, try_number=self.spec.try_number + 1, **changes)
        StateStore(self.spec.state_path, self.spec.ti_id).next_try()

    def another(self, name: str, prompts: Prompts) -> None:
        """Become another task instance, which asks this, with the same answer store."""
        self.clock.sleep(RETRY_DELAY_SECONDS)
        changes = {"name": name, "prompts": prompts, "try_number": 1, "generation": 0, "sensed": ()}
        self.spec = dataclasses.replace(self.spec, **changes)

    def clear(self, **changes: Any) -> None:
        """Clear the task like a user, perhaps with another input or other arguments."""
        self.next_try(generation=self.spec.generation + self.spec.try_number + 1, **changes)


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
