"""One process of a task, like ``run_submission`` and ``run_until_done`` without Airflow. Each effect is a step."""

from __future__ import annotations

import importlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

import httpx
import msgspec
from crash.effects import (
    Effects,
    SharedClock,
    StateStore,
    SteppedLocalFolder,
    SteppedObjectFolder,
    SteppedS3Folder,
    SteppedStore,
    SteppedTransport,
    Trap,
)

from airflow_claude_batch._airflow.on_kill import RunningWork
from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.answer_reuse import AnswerReuse
from airflow_claude_batch.batch.attempt import Attempt
from airflow_claude_batch.batch.collection import Collection
from airflow_claude_batch.batch.input.elements import Defaults, Request, read_request
from airflow_claude_batch.batch.input.request_file import RequestFile, open_requests
from airflow_claude_batch.batch.input.request_index import RequestIndexWriter
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.input.rows.elements_of_rows import RowElements
from airflow_claude_batch.batch.input.rows.sql_rows import SqlRowSource
from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore, LedgerStore, StateLedgerStore
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.start import begin_attempt, resume_attempt
from airflow_claude_batch.batch.steps import AskStep, DoneStep
from airflow_claude_batch.batch.submission import Submission
from airflow_claude_batch.batch.wait.blocking import wait_for_batches
from airflow_claude_batch.batch.wait.wait_result import WaitResult
from airflow_claude_batch.exceptions import BatchError

PRICES = PriceTable.load()
MODEL, MAX_TOKENS = "claude-haiku-5-5", 64

Prompts = Mapping[str, str]
Storage = Literal["disk", "objects", "s3"]
Store = Literal["folder", "state"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """Everything that a process of a task is given.

    :param home: directory of its clock, its state and its folder.
    :param kept: marks the kept columns of every row. None if nothing is kept.
    :param table: the database whose table gives the prompts, with its kept columns. None if they come from ``prompts``.
    :param wait_result: the trigger's event. None in the first process of a try.
    :param answered: a person was asked, and has approved.
    :param sensed: batches that a sensor lands. Empty for the operator.
    :param counted: has the API count the tokens of an estimate. That changes nothing, and is a call for each request.
    :param effects: file name of the effect log that the processes share.
    :param name: of the submission, and of its folder.
    :param has_answers: it has an answer store, which all submissions of the home share.
    :param transport: carries the calls in the place of sockets, if the process is the simulator's own.
    """

    url: str
    home: Path
    prompts: Prompts
    policy: Policy
    kept: str | None = None
    table: Mapping[str, Any] | None = None
    store: Store = "folder"
    storage: Storage = "disk"
    s3_endpoint: str = ""
    try_number: int = 1
    generation: int = 0
    deferrable: bool = True
    reuse_answers: bool = True
    wait_result: Mapping[str, Any] | None = None
    answered: bool = False
    sensed: tuple[str, ...] = ()
    traps: Mapping[int, Trap] = field(default_factory=dict)
    counted: bool = True
    effects: str = "effects"
    name: str = "submission"
    has_answers: bool = False
    max_retries: int = 1
    read_timeout: float = 20.0
    transport: httpx.BaseTransport | None = None

    @property
    def report(self) -> Path:
        return self.home / f"report-{self.effects}.json"

    @property
    def folder(self) -> Path:
        return self.home / self.name

    @property
    def s3_root(self) -> str:
        return f"bucket/{self.home.name}"

    @property
    def state_path(self) -> Path:
        return self.home / f"state-{self.name}.json"

    @property
    def ti_id(self) -> str:
        return f"ti-{self.try_number}"


def params(prompt: str) -> dict[str, Any]:
    return {
        "model": MODEL,
        "max_tokens": MAX_TOKENS,
        "messages": [{"role": "user", "content": prompt}],
    }


def kept_columns(key: str, mark: str) -> dict[str, str]:
    return {"word": key, "mark": mark}


Work = Submission | Collection


def run(spec: Spec) -> None:
    """Run one process of a task. It writes its report only if it was not killed."""
    logging.disable()
    effects = Effects(spec.home / spec.effects, spec.traps)
    effects.step("started", changes=False)
    try:
        with tempfile.TemporaryDirectory(dir=spec.home) as scratch, _work(spec, effects, Path(scratch)) as work:
            report = _run(spec, work)
    except Exception as error:
        report = {"kind": "error", "type": type(error).__name__, "message": str(error)}
    effects.close()
    draft = spec.report.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(report))
    draft.replace(spec.report)


@contextmanager
def _work(spec: Spec, effects: Effects, scratch: Path) -> Iterator[Work]:
    with _opened(spec, effects, scratch) if not spec.sensed else _sensor(spec, effects, scratch) as work:
        yield work


@contextmanager
def _sensor(spec: Spec, effects: Effects, scratch: Path) -> Iterator[Collection]:
    clock, folder = SharedClock(spec.home / "clock"), _folder(spec, effects)

    def requests() -> RequestFile:
        opened = open_requests(folder, scratch, verify=False)
        assert opened is not None
        return opened

    with _client(spec, effects, clock) as client:
        yield Collection(
            client=client,
            submission_id=spec.name,
            batch_ids=spec.sensed,
            folder=folder,
            requests=requests,
            policy=spec.policy,
            prices=PRICES,
            deadline=clock.now() + timedelta(hours=25),
            clock=clock.now,
            sleep=clock.sleep,
            answers=_answers(spec, effects, clock),
        )


def _answers(spec: Spec, effects: Effects, clock: SharedClock) -> AnswerReuse | None:
    if not spec.has_answers:
        return None
    path = spec.home / "answers"
    return AnswerReuse(
        path=str(path),
        open_folder=lambda name: SteppedLocalFolder(path / name, effects),
        connection="claude_default",
        clock=clock.now,
        looks_up=spec.reuse_answers,
    )


def _config(spec: Spec) -> ClientConfig:
    return ClientConfig(
        credentials=ApiKey("sk-test"),
        base_url=spec.url,
        max_retries=spec.max_retries,
        read_timeout=spec.read_timeout,
    )


def _client(spec: Spec, effects: Effects, clock: SharedClock) -> ClaudeClient:
    timing: dict[str, Any] = {"sleep": clock.sleep, "clock": clock.seconds, "rng": lambda: 0.5}
    return ClaudeClient(_config(spec), transport=SteppedTransport(effects, spec.transport), **timing)


@contextmanager
def _opened(spec: Spec, effects: Effects, scratch: Path) -> Iterator[Submission]:
    clock = SharedClock(spec.home / "clock")
    folder = _folder(spec, effects)
    plain: LedgerStore = FolderLedgerStore(folder)
    if spec.store == "state":
        plain = StateLedgerStore(StateStore(spec.state_path, spec.ti_id, effects), folder)
    store = SteppedStore(plain, effects)
    attempt = Attempt(submission_id=spec.name, try_number=spec.try_number, generation=spec.generation, now=clock.now())

    def write(file: IO[bytes], index: RequestIndexWriter) -> int:
        if spec.table is not None:
            return _write_rows_of_table(spec.table, file, index)
        if index.kept is not None and spec.kept is not None:
            index.kept.types = {"word": "text", "mark": "text"}
        return write_requests(_requests(spec), file, index)

    opened = resume_attempt(store, folder, attempt, scratch) if spec.wait_result is not None else None
    if opened is None:
        opened = begin_attempt(store, folder, attempt, write, scratch, reuse_answers=spec.reuse_answers)
    record, requests = opened
    with requests, _client(spec, effects, clock) as client:
        submission = Submission(
            client=client,
            record=record,
            folder=folder,
            requests=requests,
            policy=spec.policy,
            prices=PRICES,
            clock=clock.now,
            sleep=clock.sleep,
            estimate_client=client if spec.counted else None,
            answers=_answers(spec, effects, clock),
        )
        effects.on_term = lambda: RunningWork(submission, _config(spec), lambda: False).kill(cancel=True)
        yield submission


def _requests(spec: Spec) -> Iterator[Request]:
    for n, (key, prompt) in enumerate(spec.prompts.items()):
        kept = None if spec.kept is None else json.dumps(kept_columns(key, spec.kept)).encode()
        yield Request(n, key, params(prompt), kept=kept)


def _write_rows_of_table(table: Mapping[str, Any], file: IO[bytes], index: RequestIndexWriter) -> int:
    """Do what ``read_messages.write_input`` does with ``SqlRows``."""
    elements = RowElements(
        SqlRowSource(partial(open_connection, table), "SELECT word, mark FROM words ORDER BY id"),
        prompt="What is {word}?",
        key="word",
        keep=["word", "mark"],
    )
    defaults = Defaults(model=MODEL, max_tokens=MAX_TOKENS)

    def requests() -> Iterator[Request]:
        for n, element in enumerate(elements):
            yield msgspec.structs.replace(read_request(element, n, defaults), kept=elements.kept)

    count = write_requests(requests(), file, index)
    assert index.kept is not None
    index.kept.types = elements.types
    return count


def open_connection(table: Mapping[str, Any]) -> Any:
    """Open a connection of the driver that the test names."""
    driver, account = importlib.import_module(table["driver"]), table["connect"]
    return driver.connect(**account) if isinstance(account, dict) else driver.connect(account)


def _folder(spec: Spec, effects: Effects) -> SteppedLocalFolder | SteppedObjectFolder:
    match spec.storage:
        case "disk":
            return SteppedLocalFolder(spec.folder, effects)
        case "objects":
            return SteppedObjectFolder(spec.folder, effects)
        case "s3":
            return SteppedS3Folder(spec.s3_endpoint, spec.s3_root, effects)


def _run(spec: Spec, work: Work) -> dict[str, Any]:
    clock = SharedClock(spec.home / "clock")
    if spec.wait_result is not None:
        _apply_wait_result(WaitResult.from_event(spec.wait_result), work)
    if spec.answered and isinstance(work, Submission):
        work.answer(approved=True, by="ann", at=clock.now())
    while True:
        step = work.advance()
        if isinstance(step, AskStep):
            until = (clock.now() + timedelta(minutes=1)).isoformat()
            return {"kind": "deferred", "asked": True, "batch_ids": (), "wait_for": "all", "until": until}
        if isinstance(step, DoneStep):
            failure = step.failure and {"type": type(step.failure).__name__, "message": str(step.failure)}
            return {
                "kind": "done",
                "manifest": step.manifest.to_xcom(),
                "failure": failure,
                "permanent": step.permanent,
            }
        if spec.deferrable:
            return {
                "kind": "deferred",
                "batch_ids": step.batch_ids,
                "wait_for": step.wait_for,
                "until": step.until.isoformat(),
            }
        _apply_wait_result(wait(work.client, step.batch_ids, step.wait_for, step.until, clock), work)


def wait(client: ClaudeClient, batch_ids: Sequence[str], wait_for: Any, until: Any, clock: SharedClock) -> WaitResult:
    return wait_for_batches(client, batch_ids, wait_for=wait_for, until=until, clock=clock.now, sleep=clock.sleep)


def _apply_wait_result(wait_result: WaitResult, work: Work) -> None:
    """Do what ``task_loop.apply_wait_result`` does."""
    if wait_result.status != "error":
        return
    if not wait_result.lost:
        raise BatchError(f"waiting ended: {wait_result.error}")
    for batch_id in wait_result.lost:
        work.mark_lost(batch_id, wait_result.error or "not found")
