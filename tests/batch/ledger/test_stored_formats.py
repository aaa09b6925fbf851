"""Submissions that an earlier release began: today's release reads their files and finishes them without paying twice.

``stored/`` holds, byte for byte, what a release of the old, flat package layout has left behind. It was stopped with a
create call without a response, with open batches, with landed rows, and with a changed input. A later release left
``many_parts``, whose ledger has a chunk. ``ended_folder`` and ``retried_folder`` are of the last release that published
its rows whole after each batch: one has ended with failures, one has landed a batch of the next try. Each folder has:

* ``submission/``: the submission's folder, with the ledger where it is stored there;
* ``task_state.json``: what is in Airflow's task state store, where the ledger is stored there;
* ``api.json``: the message batches that were created, with the requests as they were sent, and the time of the stop.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.attempt import Attempt
from airflow_claude_batch.batch.input.elements import Defaults, Request, read_request
from airflow_claude_batch.batch.input.output_schema import SCHEMA_FILE, read_schema, write_schema
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.ledger.chunks import chunk_name, split
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.ledger.part import AnswerUse
from airflow_claude_batch.batch.ledger.record import LedgerRecord, load_ledger
from airflow_claude_batch.batch.ledger.stores import (
    CHUNK_KEY,
    STATE_KEY,
    FolderLedgerStore,
    LedgerStore,
    StateLedgerStore,
)
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.start import begin_attempt, resume_attempt
from airflow_claude_batch.batch.steps import DoneStep
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.batch.submission import Submission
from airflow_claude_batch.simulator import ManualClock, Simulator

STORED = Path(__file__).parent / "stored"
CASES = sorted(path.name for path in STORED.iterdir())
START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)

SCHEMA = read_schema({"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}, "required": ["n"]})
DEFAULTS = Defaults(model="claude-haiku-5-5", max_tokens=64, output_format=SCHEMA.format)
#: Six requests, one of them a duplicate.
MESSAGES = [
    {"key": "a", "prompt": "question 0"},
    {"key": 7, "prompt": "question 1"},
    {"key": {"id": "b", "day": 2}, "prompt": "question 2 \u2013 é"},
    {"key": "same", "prompt": "question 0"},
    "question 4",
    "question 5",
]
CHANGED = [*MESSAGES[:5], "question 6"]
MANY = [f"question {number}" for number in range(18)]
KEYS = ["a", 7, {"id": "b", "day": 2}, "same", 4, 5]


def messages_of(name: str) -> list[Any]:
    return {"input": CHANGED, "many": MANY}.get(name.partition("_")[0], MESSAGES)


class TaskState:
    """Airflow's task state store, as far as it is used."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def set(self, key: str, value: Any, *, retention: timedelta) -> None:
        self.values[key] = value

    def delete(self, key: str) -> None:
        self.values.pop(key, None)


class StoppedSubmission:
    """A stored submission, in a folder of its own, and a simulator that knows the batches that it created.

    The simulator gives batches new ids, which replace the stored ones in every file.
    """

    def __init__(self, name: str, path: Path, *, accepted: bool = True) -> None:
        self.messages = messages_of(name)
        self.api = json.loads((STORED / name / "api.json").read_text())
        self.clock = ManualClock(START)
        self.simulator = Simulator(
            clock=self.clock,
            batch_seconds=lambda batch: 60 if batch.number == 0 else 7200,
            answer=lambda params, n: '{"n": 1}',
        )
        shutil.copytree(STORED / name, path, dirs_exist_ok=True)
        ids = {batch["id"]: self._create(batch["requests"]) for batch in self.api["batches"]} if accepted else {}
        replace_texts(path, ids)
        replace_texts(path, rename_chunks(path))
        self.clock.advance((datetime.fromisoformat(self.api["now"]) - START).total_seconds())
        self.path, self.folder = path, LocalFolder(path / "submission")
        state = path / "task_state.json"
        self.state = TaskState(json.loads(state.read_text())) if state.exists() else None

    def _create(self, requests: list[dict[str, Any]]) -> str:
        with httpx.Client(transport=self.simulator.transport(), base_url="http://127.0.0.1:1") as client:
            headers = {"x-api-key": "sk-test", "anthropic-version": "2023-06-01"}
            response = client.post("/v1/messages/batches", json={"requests": requests}, headers=headers)
            return str(response.raise_for_status().json()["id"])

    @property
    def store(self) -> LedgerStore:
        return FolderLedgerStore(self.folder) if self.state is None else StateLedgerStore(self.state, self.folder)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder.path / "results.jsonl").read_bytes().splitlines()]

    def resume(self) -> tuple[LedgerRecord, RequestFile]:
        """Continue the stored attempt, as after a deferral."""
        attempt = self._attempt(self.api["try_number"])
        resumed = resume_attempt(self.store, self.folder, attempt, self.path)
        assert resumed is not None
        return resumed

    def retry(
        self, *, reorders: bool = False, is_clear: bool = False, reuse_answers: bool = True
    ) -> tuple[LedgerRecord, RequestFile]:
        """Begin the next attempt with the same input.

        :param reorders: give the keys of every object in another order.
        :param is_clear: a user has cleared the task.
        """
        read = map(in_reversed_order, requests(self.messages)) if reorders else requests(self.messages)
        return begin_attempt(
            self.store,
            self.folder,
            self._attempt(self.api["try_number"] + 1, generation=self.api["generation"] + is_clear),
            lambda file, index: write_requests(read, file, index, deduplicate=True),
            self.path,
            reuse_answers=reuse_answers,
            output_schema=SCHEMA,
        )

    def _attempt(self, try_number: int, generation: int | None = None) -> Attempt:
        return Attempt(
            submission_id="dag/run/task",
            try_number=try_number,
            generation=self.api["generation"] if generation is None else generation,
            now=self.clock.now(),
        )

    @contextlib.contextmanager
    def submission(self, record: LedgerRecord, requests: RequestFile) -> Iterator[Submission]:
        config = ClientConfig(credentials=ApiKey("sk-test"), base_url="http://127.0.0.1:1", max_retries=0)
        with requests, ClaudeClient(config, transport=self.simulator.transport(), sleep=lambda _: None) as client:
            yield Submission(
                client=client,
                record=record,
                folder=self.folder,
                requests=requests,
                policy=Policy(max_requests=1 if self.messages is MANY else 2),
                prices=PriceTable.load(),
                clock=self.clock.now,
                sleep=lambda _: None,
                estimate_client=client,
            )

    def finish(self, record: LedgerRecord, requests: RequestFile) -> DoneStep:
        with self.submission(record, requests) as submission:
            for _ in range(50):
                step = submission.advance()
                if isinstance(step, DoneStep):
                    return step
                self.clock.advance(min(3600.0, max(1.0, (step.until - self.clock.now()).total_seconds())))
        raise AssertionError(f"not done: {step}")


def replace_texts(path: Path, texts: Mapping[str, str]) -> None:
    for file in path.rglob("*.json*"):
        text = file.read_text()
        for old, new in texts.items():
            text = text.replace(old, new)
        file.write_text(text)


def rename_chunks(path: Path) -> dict[str, str]:
    """Return the new names of the ledger's chunks, by old name: a chunk is named by its content, which has changed."""
    names = {}
    for file in path.rglob("ledger-*-chunk-*.json"):
        start, _, name = file.stem.rpartition("-")
        names[name] = chunk_name(file.read_bytes())
        file.rename(file.with_name(f"{start}-{names[name]}.json"))
    state = path / "task_state.json"
    for key, value in json.loads(state.read_text()).items() if state.exists() else ():
        if key.startswith(CHUNK_KEY):
            names[key.removeprefix(CHUNK_KEY)] = chunk_name(value.encode())
    return names


def requests(messages: list[Any]) -> Iterator[Any]:
    return (read_request(message, index, DEFAULTS) for index, message in enumerate(messages))


def in_reversed_order(value: Any) -> Any:
    """Return the same request, or the same value, with the keys of every object in reversed order."""
    if isinstance(value, Request):
        return msgspec.structs.replace(value, params=in_reversed_order(value.params))
    if isinstance(value, dict):
        return {key: in_reversed_order(value[key]) for key in reversed(value)}
    return [in_reversed_order(item) for item in value] if isinstance(value, list) else value


def stored_ledger(stopped: StoppedSubmission) -> Ledger:
    ledger = load_ledger(stopped.store)
    assert ledger is not None
    return ledger


# ---------------------------------------------------------------- the bytes


@pytest.mark.parametrize("name", CASES)
def test_requests_and_schema_are_written_today_as_they_were_before(name: str, tmp_path: Path) -> None:
    stored = STORED / name / "submission"
    messages = messages_of(name)
    written = io.BytesIO()
    write_requests(requests(messages), written, deduplicate=True)
    write_schema(LocalFolder(tmp_path), SCHEMA)

    assert written.getvalue() == (stored / "requests.jsonl").read_bytes()
    assert storage.read(LocalFolder(tmp_path), SCHEMA_FILE) == (stored / "output_schema.json").read_bytes()


@pytest.mark.parametrize("name", CASES)
def test_ledger_is_read_and_would_be_written_as_it_was_before(name: str, tmp_path: Path) -> None:
    stopped = StoppedSubmission(name, tmp_path)
    head, chunks = split(stored_ledger(stopped))
    files = {file.name: file.read_bytes() for file in sorted((tmp_path / "submission").glob("ledger-*-*.json"))}
    stored_chunks = {name.removesuffix(".json")[-16:]: data for name, data in files.items() if "-chunk-" in name}

    if stopped.state is None:
        assert head == [data for name, data in files.items() if "-chunk-" not in name][-1]
        assert chunks == stored_chunks
    else:
        assert not files
        assert {
            STATE_KEY: json.loads(head),
            **{f"{CHUNK_KEY}{name}": data.decode() for name, data in chunks.items()},
        } == stopped.state.values
    assert bool(chunks) == name.startswith("many_parts")
    with RequestFile(tmp_path / "submission" / "requests.jsonl") as read:
        assert read.digest == stored_ledger(stopped).input_digest


def test_stored_names_are_read_into_their_fields(tmp_path: Path) -> None:
    stopped = StoppedSubmission("input_changed_folder", tmp_path)
    ledger = stored_ledger(stopped)

    first, second, third = [batch["id"] for batch in stopped.simulator.books()["batches"]]
    assert ledger.archived_batch_ids == (first,)
    assert [(part.batch_id, part.answers) for part in ledger.parts] == [
        (second, AnswerUse.PREVIOUS_INPUT),
        (third, AnswerUse.PREVIOUS_INPUT),
    ]


# ---------------------------------------------------------------- going on


@pytest.mark.parametrize("begun", ["resume", "retry", "reordered retry"])
@pytest.mark.parametrize("name", CASES)
def test_submission_of_an_earlier_release_is_finished_and_paid_for_once(begun: str, name: str, tmp_path: Path) -> None:
    stopped = StoppedSubmission(name, tmp_path)
    record, requests = stopped.resume() if begun == "resume" else stopped.retry(reorders=begun != "retry")

    done = stopped.finish(record, requests)

    batches, billed, keys = {
        "input": (4, 6, KEYS),
        "many": (18, 18, [*range(18)]),
        # Four requests of the first try ended without an answer. Here their batches are billed in full.
        "ended": (5, 9, KEYS),
        "retried": (5, 9, KEYS),
    }.get(name.partition("_")[0], (3, 5, KEYS))  # the input has five different requests
    books = stopped.simulator.books()
    assert done.failure is None
    assert [row["key"] for row in stopped.rows] == keys
    assert {row["status"] for row in stopped.rows} == {"succeeded"}
    assert done.manifest.batch_ids == [batch["id"] for batch in books["batches"]]
    assert len(books["batches"]) == batches
    assert books["billed_requests"] == billed


def test_intent_of_an_earlier_release_that_was_not_accepted_is_sent_again(tmp_path: Path) -> None:
    stopped = StoppedSubmission("intent_folder", tmp_path, accepted=False)

    done = stopped.finish(*stopped.resume())

    assert done.failure is None
    assert len(stopped.simulator.books()["batches"]) == 3
    assert stopped.simulator.books()["billed_requests"] == 5


@pytest.mark.parametrize(
    ("name", "answered"), [("partly_landed_folder", 3), ("ended_folder", 1), ("retried_folder", 4)]
)
@pytest.mark.parametrize("begun", ["resume", "retry", "clear"])
def test_landed_rows_of_an_earlier_release_stay_as_they_are(
    begun: str, name: str, answered: int, tmp_path: Path
) -> None:
    stopped = StoppedSubmission(name, tmp_path)
    before = (tmp_path / "submission" / "results.jsonl").read_bytes().splitlines()
    landed = [line for line in before if b'"status":"succeeded"' in line]

    done = stopped.finish(*(stopped.resume() if begun == "resume" else stopped.retry(is_clear=begun == "clear")))

    now = (tmp_path / "submission" / "results.jsonl").read_bytes().splitlines()
    assert len(landed) == answered
    assert set(landed) <= set(now)
    assert done.failure is None
    left = {path.name for path in (tmp_path / "submission").iterdir() if not path.name.startswith("ledger-")}
    assert left == {"requests.jsonl", "results.jsonl", "manifest.json", "output_schema.json"}


def test_clear_that_sends_everything_again_keeps_the_rows_of_an_earlier_release_aside(tmp_path: Path) -> None:
    stopped = StoppedSubmission("ended_folder", tmp_path)
    before = (tmp_path / "submission" / "results.jsonl").read_bytes()

    done = stopped.finish(*stopped.retry(is_clear=True, reuse_answers=False))

    assert done.failure is None
    assert [path.read_bytes() for path in (tmp_path / "submission").glob("results-*.jsonl")] == [before]
    assert len(stopped.simulator.books()["batches"]) == 3 + 3
    assert len(stopped.rows) == 6
