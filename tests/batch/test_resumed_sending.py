"""A later process sends what an earlier one wrote: it reads what it sends, and verifies it first."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from stores import Store
from submission_world import DEFAULTS, World, make_world

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.attempt import Attempt
from airflow_claude_batch.batch.input.elements import read_request
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.start import begin_attempt, resume_attempt
from airflow_claude_batch.batch.steps import DoneStep, WaitStep
from airflow_claude_batch.batch.storage import Folder, LocalFolder, ObjectFolder
from airflow_claude_batch.batch.submission import Submission
from airflow_claude_batch.exceptions import SubmissionRecordError

PROMPTS = [f"question {number} {'x' * 100_000}" for number in range(20)]
POLICY = Policy(max_requests=5)


@dataclass
class RangeFolder(ObjectFolder):
    """Folder in an object store. It counts the bytes of ``requests.jsonl`` that are read, and fails when told to."""

    fs: Any = field(default_factory=Store)
    root: str = "/b/run"
    bytes_read: int = 0
    failures: int = 0

    def __post_init__(self) -> None:
        super().__init__(self.fs, self.root, uri="s3://b/run")

    def read_range(self, name: str, start: int, end: int) -> bytes | None:
        if name == "requests.jsonl":
            if self.failures:
                self.failures -= 1
                raise OSError("503 Slow Down")
            self.bytes_read += end - start
        return super().read_range(name, start, end)


@dataclass
class Task:
    """A task in a full queue: each of its processes advances once."""

    world: World
    folder: Folder
    begun: bool = False

    def advance(self) -> WaitStep | DoneStep:
        """Advance in a new process."""
        store, now = FolderLedgerStore(self.folder), self.world.clock.now()
        attempt = Attempt(submission_id="s", try_number=1, generation=0, now=now)
        requests = (read_request(prompt, index, DEFAULTS) for index, prompt in enumerate(PROMPTS))
        opened = (
            resume_attempt(store, self.folder, attempt, self.world.path)
            if self.begun
            else begin_attempt(
                store,
                self.folder,
                attempt,
                lambda file, index: write_requests(requests, file, index),
                self.world.path,
                reuse_answers=True,
            )
        )
        assert opened is not None
        self.begun = True
        config = ClientConfig(credentials=ApiKey("sk-test"), base_url="http://127.0.0.1:1", max_retries=0)
        transport = self.world.simulator.transport()
        with opened[1] as read, ClaudeClient(config, transport=transport, sleep=lambda _: None) as client:
            submission = Submission(
                client=client,
                record=opened[0],
                folder=self.folder,
                requests=read,
                policy=POLICY,
                prices=PriceTable.load(),
                clock=self.world.clock.now,
                sleep=lambda _: None,
                estimate_client=client,
            )
            return submission.advance()

    def damage(self, request: int) -> None:
        """Change a prompt in the folder."""
        data = storage.read(self.folder, "requests.jsonl")
        assert data is not None
        storage.write(self.folder, "requests.jsonl", data.replace(b"question %d " % request, b"question %d!" % request))

    @property
    def created(self) -> int:
        return len(self.world.simulator.books()["batches"])


def task(folder: Folder, tmp_path: Path) -> Task:
    return Task(make_world(tmp_path, queue_limit=5), folder)


@pytest.fixture(params=["disk", "object store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    return LocalFolder(tmp_path / "run") if request.param == "disk" else RangeFolder()


def test_each_process_reads_what_it_sends(tmp_path: Path) -> None:
    folder = RangeFolder()
    sending = task(folder, tmp_path)
    assert isinstance(sending.advance(), WaitStep)
    assert (sending.created, folder.bytes_read) == (1, 0)  # the process that wrote them has them on its disk
    sending.world.clock.advance(1)
    part = 5 * len(PROMPTS[0])

    while sending.created < 4:
        before = folder.bytes_read
        sending.world.clock.advance(60)
        sending.advance()
        assert folder.bytes_read - before < 2.1 * part  # what is sent, and what the full queue then refuses
    sending.world.clock.advance(1)
    before = folder.bytes_read
    assert isinstance(sending.advance(), WaitStep)
    assert folder.bytes_read == before


def test_a_damaged_request_is_refused_before_its_create_call(folder: Folder, tmp_path: Path) -> None:
    sending = task(folder, tmp_path)
    sending.advance()
    sending.damage(7)
    sending.world.clock.advance(300)

    with pytest.raises(SubmissionRecordError, match=r"Line 8 of the submission's requests.jsonl is damaged"):
        sending.advance()

    assert sending.created == 1
    ledger = FolderLedgerStore(folder).load()
    assert ledger is not None
    assert ledger.count(b'"intended_at"') == 1  # no other intent


def test_damage_that_is_not_sent_now_stops_nothing(tmp_path: Path) -> None:
    sending = task(RangeFolder(), tmp_path)
    sending.advance()
    sending.damage(17)
    sending.world.clock.advance(300)

    sending.advance()

    assert sending.created == 2


def test_a_store_that_fails_before_a_create_call_is_waited_out(tmp_path: Path) -> None:
    folder = RangeFolder()
    sending = task(folder, tmp_path)
    sending.advance()
    sending.world.clock.advance(300)
    folder.failures = 1

    step = sending.advance()
    assert isinstance(step, WaitStep)
    assert sending.created == 1

    sending.world.clock.advance(300)
    sending.advance()
    assert sending.created == 2
