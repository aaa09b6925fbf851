"""The measured process of the benchmarks of whole submissions: runs one role of this package and prints its cost."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from airflow_claude_batch._airflow.read_messages import write_input
from airflow_claude_batch.batch.attempt import Attempt
from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.start import begin_attempt, resume_attempt
from airflow_claude_batch.batch.steps import DoneStep, WaitStep
from airflow_claude_batch.batch.storage import Folder, LocalFolder, ObjectFolder
from airflow_claude_batch.batch.submission import Submission
from airflow_claude_batch.hooks import ClaudeHook
from airflow_claude_batch.operators import SendMessageBatchOperator
from benchmarks import bulk_role, s3_server
from benchmarks.bulk_role import Steps
from benchmarks.counted_folder import CountedLocalFolder, Traffic, counting_reads

RESULTS = "results.jsonl"


def now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)


@dataclass
class Task:
    """A task instance: begins a submission as the operator does, and resumes it as after a deferral.

    :param rows: the operator's arguments for source rows, instead of messages.
    :param scratch: the directory for temporary files. Each call gets its own, as each process of a worker does.
    """

    messages: str | None
    scratch: Path
    max_tokens: int = 64
    policy: Policy = field(default_factory=Policy)
    rows: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        arguments: dict[str, Any] = {"messages": self.messages, "max_tokens": self.max_tokens, **self.rows}
        self._task = SendMessageBatchOperator(task_id="send", **arguments)
        self._hook, self._prices = ClaudeHook("claude_default"), PriceTable.load()
        self.client = self._hook.get_conn()

    @contextlib.contextmanager
    def begin(self, folder: Folder) -> Iterator[Submission]:
        """Read the input, and begin."""
        with self._own_scratch() as scratch:
            record, requests = begin_attempt(
                FolderLedgerStore(folder),
                folder,
                self._attempt(),
                lambda file, index: write_input(self._task.options(), self._hook, self._prices, file, index),
                scratch,
                reuse_answers=True,
            )
            with requests:
                yield self._submission(folder, record, requests)

    @contextlib.contextmanager
    def resume(self, folder: Folder) -> Iterator[Submission]:
        """Go on with nothing but what the folder holds."""
        with self._own_scratch() as scratch:
            opened = resume_attempt(FolderLedgerStore(folder), folder, self._attempt(), scratch)
            assert opened is not None, "the attempt begins anew"
            record, requests = opened
            with requests:
                yield self._submission(folder, record, requests)

    def _submission(self, folder: Folder, record: Any, requests: Any) -> Submission:
        return Submission(
            client=self.client,
            record=record,
            folder=folder,
            requests=requests,
            policy=self.policy,
            prices=self._prices,
            clock=now,
            sleep=time.sleep,
            estimate_client=self.client,
        )

    @contextlib.contextmanager
    def _own_scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self.scratch) as scratch:
            yield Path(scratch)

    @staticmethod
    def _attempt() -> Attempt:
        return Attempt(submission_id="benchmark", try_number=1, generation=0, now=now())


class Storage(Protocol):
    """Where a submission's folder is, and what goes there and back."""

    def folder(self) -> Folder:
        """Return the folder as a new process finds it."""

    def traffic(self) -> dict[str, list[int]]:
        """Return what was counted so far, as ``Traffic.by_file``."""


class LocalStorage:
    """A folder on a disk."""

    def __init__(self, path: Path) -> None:
        self._path, self._traffic = path, Traffic()
        self._counting = contextlib.ExitStack()  # until the process ends
        self._counting.enter_context(counting_reads(path, self._traffic))

    def folder(self) -> Folder:
        self._traffic.pages_in_memory.clear()
        return CountedLocalFolder(self._path, self._traffic)

    def traffic(self) -> dict[str, list[int]]:
        return {name: list(counts) for name, counts in self._traffic.by_file.items()}


class S3Storage:
    """A folder in a bucket of ``s3_server``."""

    def __init__(self, endpoint: str, root: str) -> None:
        self._endpoint, self._root = endpoint, root

    def folder(self) -> Folder:
        return ObjectFolder(s3_server.file_system(self._endpoint), self._root, uri=f"s3://{self._root}")

    def traffic(self) -> dict[str, list[int]]:
        return s3_server.traffic(self._endpoint)


def storage_at(folder: str, endpoint: str | None) -> Storage:
    """Return the storage of a role: a bucket if there is an endpoint."""
    if endpoint is None:
        return LocalStorage(Path(folder, "submission"))
    return S3Storage(endpoint, s3_server.place_of(folder))


def new_scratch(folder: str) -> Path:
    """Make the directory for temporary files, those of the standard library included, beside the submission's."""
    scratch = Path(folder, "scratch")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    tempfile.tempdir = str(scratch)
    return scratch


def rows_of(folder: Folder) -> Iterator[dict[str, Any]]:
    """Read the landed rows."""
    file = folder.open(RESULTS)
    assert file is not None
    with file:
        yield from map(json.loads, file)


def end_batches(url: str, batch_ids: Sequence[str]) -> None:
    """Let the simulator end batches."""
    assert batch_ids, "nothing to wait for"
    for batch_id in batch_ids:
        path = f"{url}/_simulator/batches/{batch_id}/end"
        urllib.request.urlopen(urllib.request.Request(path, b"{}", method="POST"), timeout=120).close()


def run_in_one_process(task: Task, submission: Submission) -> None:
    """Send, wait and land until all is done. Waits cost no resumption."""

    def wait(step: WaitStep) -> None:
        done = {"all": all, "any": any}[step.wait_for]
        while now() < step.until and not done(task.client.retrieve_batch(id_).ended for id_ in step.batch_ids):
            time.sleep(1)

    while not isinstance(step := submission.advance(), DoneStep):
        print(f"{now():%H:%M:%S} {len(step.open_batch_ids)} open: {step.reason}", file=sys.stderr)
        wait(step)
    print(f"{now():%H:%M:%S} {step.manifest.counts} {step.failure or ''}", file=sys.stderr)


def million(url: str, folder: str, messages: str) -> Steps:
    """Run a whole submission from its file to its rows, in one process state."""
    place, task = LocalFolder(Path(folder, "submission")), Task(messages, new_scratch(folder))
    begun, stack = list[Submission](), contextlib.ExitStack()

    def check() -> None:
        from airflow_claude_batch.rows import read_rows

        index = -1
        for index, row in enumerate(read_rows(place.uri(RESULTS))):
            expected = (index, f"key-{index}", "succeeded")
            assert (row.index, row.key, row.status) == expected, f"row {index} is wrong"
            assert f"Question {index}:" in row.text, f"row {index} has the answer of another request"
        assert index + 1 == len(begun[0].requests), f"{index + 1} rows"

    return {
        "begin": lambda: begun.append(stack.enter_context(task.begin(place))),
        "send, wait and land": lambda: run_in_one_process(task, begun[0]),
        "read and check every row": check,
    }


def traffic(url: str, folder: str, messages: str, part: int, endpoint: str | None = None) -> Steps:
    """Run a submission part after part, and count the bytes of its folder. Each wait ends in a new resumption."""
    storage = storage_at(folder, endpoint)
    task = Task(messages, new_scratch(folder), max_tokens=1024, policy=Policy(max_requests=part))
    with Path(messages).open() as file:
        count = sum(1 for _ in file)

    def advance(open_submission: Callable[[Folder], contextlib.AbstractContextManager[Submission]]) -> bool:
        with open_submission(storage.folder()) as submission:
            step = submission.advance()
        if isinstance(step, WaitStep):
            end_batches(url, step.batch_ids)
        return isinstance(step, DoneStep)

    def run_until_done() -> dict[str, Any]:
        before, resumptions = storage.traffic(), 0
        done = advance(task.begin)
        while not done:
            done, resumptions = advance(task.resume), resumptions + 1
        return {"traffic": since(before, storage.traffic()), "resumptions": resumptions}

    def check() -> dict[str, int]:
        index = -1
        for index, row in enumerate(rows_of(storage.folder())):
            expected = {"index": index, "key": f"key-{index}", "status": "succeeded"}
            assert row.items() >= expected.items(), f"row {index} is wrong"
        assert index + 1 == count, f"{index + 1} rows"
        file = storage.folder().open(RESULTS)
        with file:
            size = file.seek(0, 2)
        return {"rows_bytes": size}

    return {"begin, send and land": run_until_done, "read and check every row": check}


def half_landed(url: str, folder: str, messages: str, part: int) -> Steps:
    """Send all parts of a submission, and land half of them. The others run on."""
    place = LocalFolder(Path(folder, "submission"))
    task = Task(messages, new_scratch(folder), policy=Policy(max_requests=part))

    def send_and_land() -> dict[str, Any]:
        with task.begin(place) as submission:
            sent = submission.advance()
        assert isinstance(sent, WaitStep), sent.failure
        ended = sent.batch_ids[: len(sent.batch_ids) // 2]
        end_batches(url, ended)
        with task.resume(place) as submission:
            step = submission.advance()
        assert isinstance(step, WaitStep), step.failure
        assert set(step.batch_ids) == set(sent.batch_ids) - set(ended), step.reason
        return {"running": step.batch_ids, "landed": step.ended_requests}

    return {"send and land": send_and_land}


def resume(url: str, folder: str, messages: str, part: int, running: list[str], endpoint: str | None = None) -> Steps:
    """Resume a submission of which nothing has ended since. The clients are made and connected before."""
    storage = storage_at(folder, endpoint)
    place, task = storage.folder(), Task(messages, new_scratch(folder), policy=Policy(max_requests=part))
    task.client.retrieve_batch(running[0])
    place.names()

    def go_on() -> dict[str, Any]:
        with task.resume(place) as submission:
            step = submission.advance()
        assert isinstance(step, WaitStep), step.failure
        assert list(step.batch_ids) == running, step.reason
        return {}

    before = storage.traffic()
    return {"resume": go_on, "count": lambda: {"traffic": since(before, storage.traffic())}}


def since(before: dict[str, list[int]], after: dict[str, list[int]]) -> dict[str, list[int]]:
    """Return what was counted between two moments."""
    nothing = [0, 0, 0]
    return {
        name: [late - early for late, early in zip(counts, before.get(name, nothing), strict=True)]
        for name, counts in after.items()
        if counts != before.get(name)
    }


ROLES: dict[str, Callable[..., Steps]] = {role.__name__: role for role in (million, traffic, half_landed, resume)}


def main() -> None:
    """Run one role. Arguments: the role's name, and its options as JSON."""
    bulk_role.main(ROLES)


if __name__ == "__main__":
    main()
