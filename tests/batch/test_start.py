"""Begin and resume attempts: what a new attempt takes over from earlier ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from submission_world import World

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.attempt import Attempt
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.land.manifest import Manifest, write_manifest
from airflow_claude_batch.batch.ledger.part import Part
from airflow_claude_batch.batch.ledger.record import LedgerRecord, load_ledger, save_ledger
from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.start import begin_attempt, resume_attempt
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.exceptions import (
    ConfigurationError,
    InputError,
    ResultsError,
    SubmissionRecordError,
    SubmissionTakenOverError,
    SubmissionUnknownError,
)
from airflow_claude_batch.simulator import ManualClock, Simulator

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
LATER = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
ATTEMPT = Attempt(submission_id="s", try_number=1, generation=0, now=LATER)


class Task:
    """A task instance: its folder and its attempts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = LocalFolder(path / "submission")
        self.store = FolderLedgerStore(self.folder)
        self.tries = 0

    @contextmanager
    def begin(
        self, *contents: Any, generation: int = 0, reuse_answers: bool = True, now: datetime = NOW
    ) -> Iterator[tuple[LedgerRecord, RequestFile]]:
        self.tries += 1
        self.store = FolderLedgerStore(self.folder)  # each attempt has a process of its own
        requests = [Request(index, index, {"content": content}) for index, content in enumerate(contents)]
        scratch = self.path / str(self.tries)
        scratch.mkdir()
        record, opened = begin_attempt(
            self.store,
            self.folder,
            Attempt(submission_id="s", try_number=self.tries, generation=generation, now=now),
            lambda file, index: write_requests(iter(requests), file, index),
            scratch,
            reuse_answers=reuse_answers,
        )
        with opened:
            yield record, opened

    def ended(self, *contents: Any, parts: tuple[Part, ...] = (), **fields: Any) -> str:
        """Begin an attempt, replace parts of its ledger, and return its name."""
        with self.begin(*contents) as (record, _):
            save_ledger(self.store, msgspec.structs.replace(record.ledger, parts=parts, **fields))
            return record.ledger.attempt

    def resume(self, *, try_number: int | None = None, generation: int = 0) -> tuple[LedgerRecord, RequestFile] | None:
        attempt = Attempt(submission_id="s", try_number=try_number or self.tries, generation=generation, now=LATER)
        return resume_attempt(FolderLedgerStore(self.folder), self.folder, attempt, self.path)

    def write(self, name: str, data: bytes) -> None:
        storage.write(self.folder, name, data)

    def remove(self, name: str) -> None:
        for path in self.folder.path.glob(name):
            path.unlink()

    @property
    def files(self) -> list[str]:
        """Names of the files. The ledger counts once, although each of its owners has a file."""
        return sorted({re.sub(r"^ledger-.*", "ledger", path.name) for path in self.folder.path.iterdir()})


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(tmp_path)


def part(token: str, batch_id: str | None = None, **fields: Any) -> Part:
    values = {"first": 0, "last": 0, "count": 1, "size": 100, "attempt": "a", "round": 0, "intended_at": NOW}
    return Part(token=token, batch_id=batch_id, **values | fields)


OPEN = part("open", "b1")
INTENT = part("intent")
LANDED = part("landed", "b0", landed=True)


# ---------------------------------------------------------------- the first attempt


def test_first_attempt_writes_the_requests_and_owns_an_empty_ledger(task: Task) -> None:
    with task.begin("a", "b") as (record, requests):
        assert record.ledger == load_ledger(task.store)
        assert record.ledger.input_digest == requests.digest
        assert (record.ledger.attempt_began_at, record.ledger.try_number, record.ledger.parts) == (NOW, 1, ())
        record.check_ownership()

    assert task.files == ["ledger", "requests.jsonl"]
    with RequestFile(task.folder.path / "requests.jsonl") as read:
        assert read.digest == requests.digest


def test_input_that_cannot_be_sent_leaves_nothing(task: Task) -> None:
    with pytest.raises(InputError):
        task.begin().__enter__()

    assert not task.folder.path.exists()


def test_unwritable_folder_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "submission").write_text("a file")

    with pytest.raises(ConfigurationError, match=r"(?s)cannot be written .*\nNothing was sent\.\nSet results_path"):
        Task(tmp_path).begin("a").__enter__()


def test_unwritable_store_with_an_error_of_its_own_is_refused_too(task: Task) -> None:
    class Refusing(LocalFolder):
        def check_writable(self) -> None:
            raise RuntimeError("no credentials")

    task.folder = Refusing(task.path)

    with pytest.raises(ConfigurationError, match=r"cannot be written \(no credentials\)"):
        task.begin("a").__enter__()


def test_ledger_that_cannot_be_read_stops_before_anything_is_written(task: Task) -> None:
    task.write("ledger-1-a.json", b"{")

    with pytest.raises(SubmissionRecordError):
        task.begin("a").__enter__()
    assert task.files == ["ledger"]


# ---------------------------------------------------------------- the same input again


def test_next_attempt_with_the_same_input_takes_everything_over(task: Task) -> None:
    earlier = task.ended(
        "a",
        parts=(OPEN, INTENT, LANDED),
        archived_batch_ids=("b",),
        dropped=("d",),
        created_at=NOW,
        round=1,
        timed_out=True,
    )
    task.write("results.jsonl", b"")
    with task.begin("a", now=LATER) as (record, _):
        ledger = record.ledger

    assert ledger.attempt != earlier
    assert ledger.parts == (OPEN, INTENT)
    assert (ledger.archived_batch_ids, ledger.dropped) == (("b", "b0"), ("d",))
    assert (ledger.created_at, ledger.attempt_began_at) == (NOW, LATER)
    assert (ledger.round, ledger.timed_out) == (0, False)


def test_earlier_attempt_that_is_still_running_loses_the_submission(task: Task) -> None:
    with task.begin("a") as (first, _), task.begin("a"):
        pass

    with pytest.raises(SubmissionTakenOverError):
        first.check_ownership()


def test_batches_that_the_sensor_has_landed_are_not_downloaded_again(task: Task) -> None:
    task.ended("a", parts=(OPEN, part("open2", "b2")))
    task.write("results.jsonl", b"")
    write_manifest(
        task.folder,
        Manifest(
            submission_id="s",
            status="in_progress",
            batch_ids=["b1", "b2"],
            request_count=1,
            counts={},
            results_path=None,
            landed_batch_ids=["b1"],
        ),
    )
    with task.begin("a") as (record, _):
        assert record.ledger.open_batch_ids == ("b2",)
        assert record.ledger.archived_batch_ids == ("b1",)


def test_requests_that_were_damaged_are_written_again(task: Task) -> None:
    task.ended("a")
    task.write("requests.jsonl", b"damage")
    with task.begin("a") as (_, requests):
        pass

    with RequestFile(task.folder.path / "requests.jsonl") as read:
        assert read.digest == requests.digest


# ---------------------------------------------------------------- another input


def test_open_batches_of_an_input_that_shares_content_are_waited_for(task: Task) -> None:
    task.ended("a", "b", parts=(OPEN, INTENT, LANDED), dropped=("d",))
    task.write("results.jsonl", b"row\n")
    with task.begin("b", "c") as (record, _):
        ledger = record.ledger

    assert [(item.token, item.answers) for item in ledger.parts] == [("open", "moved"), ("intent", "moved")]
    assert (ledger.archived_batch_ids, ledger.dropped) == (("b0",), ("d",))
    assert storage.read(task.folder, "results.jsonl") == b"row\n"


def test_open_batches_of_an_input_that_shares_nothing_are_discarded(task: Task) -> None:
    task.ended("a", parts=(OPEN,))
    with task.begin("x") as (record, _):
        assert [item.answers for item in record.ledger.parts] == ["unwanted"]


@pytest.mark.parametrize("damage", [None, b"damage"], ids=["gone", "damaged"])
def test_open_batches_of_an_input_that_cannot_be_read_are_waited_for(damage: bytes | None, task: Task) -> None:
    task.ended("a", parts=(OPEN,))
    task.remove("requests.jsonl")
    if damage:
        task.write("requests.jsonl", damage)
    with task.begin("x") as (record, _):
        assert [item.answers for item in record.ledger.parts] == ["moved"]


def test_discarded_parts_stay_discarded(task: Task) -> None:
    task.ended("a", parts=(part("old", "b9", answers="unwanted"), OPEN))
    with task.begin("a", "b") as (record, _):
        assert {item.token: item.answers for item in record.ledger.parts} == {"old": "unwanted", "open": "moved"}


def test_rows_of_an_earlier_input_are_backed_up(task: Task) -> None:
    earlier = task.ended("a", parts=(LANDED,))
    task.write("results.jsonl", b"row\n")
    with task.begin("b"):
        pass

    assert storage.read(task.folder, f"results-{earlier}.jsonl") == b"row\n"


# ---------------------------------------------------------------- reuse_answers=False


def test_clear_without_reuse_keeps_only_open_batches_to_cancel_them(task: Task) -> None:
    earlier = task.ended("a", parts=(OPEN, LANDED), archived_batch_ids=("b",))
    task.write("results.jsonl", b"row\n")
    with task.begin("a", generation=1, reuse_answers=False) as (record, _):
        ledger = record.ledger

    assert [(item.token, item.answers) for item in ledger.parts] == [("open", "unwanted")]
    assert ledger.archived_batch_ids == ()
    assert storage.read(task.folder, "results.jsonl") == b""
    assert storage.read(task.folder, f"results-{earlier}.jsonl") == b"row\n"


def test_retry_without_reuse_continues(task: Task) -> None:
    task.ended("a", parts=(OPEN,))
    with task.begin("a", reuse_answers=False) as (record, _):
        assert record.ledger.parts == (OPEN,)


@pytest.mark.parametrize(
    ("known", "generation", "clear_mark", "is_clear"),
    [
        pytest.param((2, "traceparent 00-a"), 2, "traceparent 00-a", False, id="retry"),
        pytest.param((2, None), 2, None, False, id="retry, without marks"),
        pytest.param((2, "traceparent 00-a"), 5, "traceparent 00-b", True, id="clear"),
        pytest.param((2, None), 5, None, True, id="clear, without marks"),
        pytest.param((2, "traceparent 00-a"), 2, "traceparent 00-b", True, id="clear, as many tries as before"),
        pytest.param((2, "clear_number 0"), 2, "clear_number 1", True, id="clear of the run before 3.2"),
        pytest.param((2, None), 2, "traceparent 00-b", False, id="retry after an upgrade of the package"),
        pytest.param((2, "traceparent 00-a"), 2, None, False, id="retry after a downgrade of Airflow"),
        pytest.param((2, "clear_number 0"), 2, "traceparent 00-b", False, id="retry after an upgrade of Airflow"),
    ],
)
def test_clear_is_told_from_a_retry_by_what_airflow_changes(
    known: tuple[int, str | None], generation: int, clear_mark: str | None, is_clear: bool, task: Task
) -> None:
    with task.begin("a") as (record, _):
        ledger = msgspec.structs.replace(record.ledger, generation=known[0], clear_mark=known[1] or msgspec.UNSET)
    attempt = Attempt(submission_id="s", try_number=2, generation=generation, now=LATER, clear_mark=clear_mark)

    assert attempt.follows_clear(ledger) == is_clear


def test_ledger_keeps_the_mark_of_the_clear(task: Task) -> None:
    attempt = Attempt(submission_id="s", try_number=1, generation=0, now=LATER, clear_mark="traceparent 00-a")
    write = lambda file, index: write_requests([Request(0, 0, {"content": "a"})], file, index)  # noqa: E731  # short, and used once
    record, requests = begin_attempt(task.store, task.folder, attempt, write, task.path, reuse_answers=True)
    requests.close()

    assert record.ledger.clear_mark == "traceparent 00-a"
    known = load_ledger(FolderLedgerStore(task.folder))
    assert known is not None
    assert known.clear_mark == "traceparent 00-a"


def test_empty_rows_are_not_backed_up(task: Task) -> None:
    task.ended("a")
    task.write("results.jsonl", b"")
    with task.begin("b"):
        pass

    assert task.files == ["ledger", "requests.jsonl", "results.jsonl"]


def test_first_run_without_reuse_backs_up_rows_that_it_finds(task: Task) -> None:
    task.write("results.jsonl", b"somebody's\n")
    with task.begin("a", reuse_answers=False) as (record, _):
        assert record.ledger.parts == ()

    assert len([name for name in task.files if name.startswith("results-")]) == 1


# ---------------------------------------------------------------- the landed rows are gone


def test_batches_whose_rows_are_gone_are_reopened(task: Task) -> None:
    task.ended("a", parts=(OPEN, LANDED), archived_batch_ids=("b",), dropped=("d",))
    with task.begin("a") as (record, _):
        ledger = record.ledger

    assert ledger.open_batch_ids == ("b", "b0", "b1")
    assert [item.answers for item in ledger.parts] == ["moved", "moved", "ours"]
    assert len({item.token for item in ledger.parts}) == 3
    assert (ledger.archived_batch_ids, ledger.dropped) == ((), ("d",))


@pytest.fixture
def world(tmp_path: Path) -> World:
    clock = ManualClock(NOW)
    return World(tmp_path, Simulator(clock=clock, batch_seconds=60), clock)


def test_removed_rows_are_downloaded_again_and_not_paid_for_again(world: World) -> None:
    world.run(["a", "b"], Policy())
    rows = world.rows
    (world.folder.path / "results.jsonl").unlink()
    done = world.run(["a", "b"], Policy())

    assert done.failure is None
    assert world.rows == rows
    assert (world.billed, world.simulator.calls()["create"]) == (2, 1)


def test_damaged_rows_stop_the_attempt_and_removing_them_repairs_it_as_the_error_says(world: World) -> None:
    world.run(["a", "b"], Policy())
    storage.write(world.folder, "results.jsonl", b"damage\n")
    with pytest.raises(ResultsError, match=r"(?s)stay at the API for 29 days.*remove it and clear the task"):
        world.run(["a", "b"], Policy())
    (world.folder.path / "results.jsonl").unlink()
    done = world.run(["a", "b"], Policy())

    assert done.manifest.counts["succeeded"] == 2
    assert world.billed == 2


def test_truncated_rows_are_downloaded_again_and_not_paid_for_again(world: World) -> None:
    """A file that was cut at the end of a line shows no damage."""
    world.run(["a", "b"], Policy())
    rows, path = world.rows, world.folder.path / "results.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])

    done = world.run(["a", "b"], Policy())

    assert done.failure is None
    assert world.rows == rows
    assert (world.billed, world.simulator.calls()["create"]) == (2, 1)


@pytest.mark.parametrize("lines", [0, 1], ids=["in the first line", "in the second line"])
def test_rows_that_were_cut_within_a_line_are_downloaded_again(lines: int, world: World) -> None:
    world.run(["a", "b"], Policy())
    rows, path = world.rows, world.folder.path / "results.jsonl"
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole[:lines]) + whole[lines][:-10])

    done = world.run(["a", "b"], Policy())

    assert done.failure is None
    assert world.rows == rows
    assert (world.billed, world.simulator.calls()["create"]) == (2, 1)


@pytest.mark.parametrize("left", [0.0, 0.5, 0.8])
def test_lost_rows_of_deleted_batches_are_never_paid_for_again_unasked(left: float, world: World) -> None:
    policy = Policy(delete_batches=True)
    world.run(["a", "b"], policy)
    path = world.folder.path / "results.jsonl"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * left)])

    with pytest.raises(SubmissionUnknownError, match="this task has deleted"):
        world.run(["a", "b"], policy)

    assert (world.billed, world.simulator.calls()["create"]) == (2, 1)


def test_removed_rows_are_downloaded_again_for_a_changed_input(world: World) -> None:
    world.run(["a", "b"], Policy())
    (world.folder.path / "results.jsonl").unlink()
    done = world.run(["b", "c"], Policy())

    assert done.manifest.counts["succeeded"] == 2
    assert world.billed == 3


def test_clear_without_reuse_ignores_batches_whose_rows_were_removed(world: World) -> None:
    world.run(["a"], Policy())
    (world.folder.path / "results.jsonl").unlink()
    world.run(["a"], Policy(), clear=True, reuse_answers=False)

    assert world.billed == 2


# ---------------------------------------------------------------- resuming


def test_resumed_attempt_continues_with_its_ledger(task: Task) -> None:
    attempt = task.ended("a", parts=(OPEN,))
    resumed = task.resume()

    assert resumed is not None
    record, requests = resumed
    with requests:
        assert record.ledger.attempt == attempt
        assert record.ledger.parts == (OPEN,)
        assert record.ledger.attempt_began_at == NOW
        assert requests.digest == record.ledger.input_digest


@pytest.mark.parametrize(
    ("fields", "removed", "attempt"),
    [
        pytest.param({}, None, {"try_number": 9}, id="another try"),
        pytest.param({}, None, {"generation": 9}, id="cleared meanwhile"),
        pytest.param({}, "ledger-*.json", {}, id="no ledger"),
        pytest.param({}, "requests.jsonl", {}, id="no requests"),
        pytest.param({"input_digest": "other"}, None, {}, id="requests of another input"),
        pytest.param({"parts": (LANDED,)}, None, {}, id="landed rows gone"),
    ],
)
def test_attempt_that_cannot_be_resumed_begins_again(
    fields: dict[str, Any], removed: str | None, attempt: dict[str, Any], task: Task
) -> None:
    task.ended("a", **fields)
    if removed:
        task.remove(removed)

    assert task.resume(**attempt) is None


def test_unreadable_ledger_is_not_replaced_by_a_new_attempt(task: Task) -> None:
    task.ended("a")
    task.write("ledger-9-a.json", b"{")

    with pytest.raises(SubmissionRecordError):
        resume_attempt(FolderLedgerStore(task.folder), task.folder, ATTEMPT, task.path)


# ---------------------------------------------------------------- keys in another order, and changed requests


def reordered(number: int) -> dict[str, Any]:
    """Return one element, whose keys come in another order for an odd number of calls."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}
    block = {"type": "text", "text": f"question {number}"}
    tool = {"name": "t", "description": "d", "input_schema": schema}
    return {"key": number, "params": {"tools": [tool], "metadata": {"user_id": "u"}}, "prompt": [block]}


def backwards(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return [backwards(item) for item in value] if isinstance(value, list) else value


FIVE = [reordered(number) for number in range(5)]


@pytest.mark.parametrize("clear", [False, True], ids=["retry", "clear"])
@pytest.mark.parametrize("ends_first", [False, True], ids=["in flight", "landed"])
@pytest.mark.parametrize("deduplicate", [False, True], ids=["all", "deduplicated"])
def test_input_with_its_keys_in_another_order_is_not_paid_for_again(
    clear: bool, ends_first: bool, deduplicate: bool, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with world.attempt(FIVE, Policy(), deduplicate=deduplicate) as submission:
        submission.advance()
        if ends_first:
            world.finish(submission)

    done = world.run([backwards(each) for each in FIVE], Policy(), clear=clear, deduplicate=deduplicate)

    assert done.failure is None
    assert [row["key"] for row in world.rows] == list(range(5))
    assert world.billed == 5
    assert len(world.simulator.books()["batches"]) == 1
    assert "The input has changed" not in caplog.text


def test_moved_and_changed_requests_among_reordered_ones_are_told_apart(world: World) -> None:
    world.run(FIVE, Policy())

    messages = [backwards(FIVE[number]) for number in (4, 0, 2)]
    done = world.run([*messages, {"key": "new", "prompt": "question 9"}], Policy(), clear=True)

    assert done.failure is None
    assert [row["key"] for row in world.rows] == [4, 0, 2, "new"]
    assert world.billed == 6


def test_clear_that_discards_answers_sends_the_keys_in_their_new_order(world: World) -> None:
    world.run(FIVE, Policy())

    world.run([backwards(each) for each in FIVE], Policy(), clear=True, reuse_answers=False)

    lines = (world.folder.path / "requests.jsonl").read_text().splitlines()
    assert list(json.loads(lines[0])["params"]["tools"][0]["input_schema"]["properties"]) == ["b", "a"]
    assert world.billed == 10


@pytest.mark.parametrize(
    ("changed", "clear", "warned", "says"),
    [
        pytest.param(5, False, True, "5 of 5 requests changed since the last try", id="all"),
        pytest.param(3, False, True, "3 of 5 requests changed since the last try", id="most"),
        pytest.param(2, False, False, "3 of 5 requests are unchanged; answers to these are kept", id="few"),
        pytest.param(4, True, False, "1 of 5 requests is unchanged; answers to these are kept", id="cleared"),
        pytest.param(5, True, False, "so no answer is kept", id="all, cleared"),
    ],
)
def test_template_that_renders_differently_on_a_retry_is_warned_of(
    changed: int, clear: bool, warned: bool, says: str, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    before = [f"question {number}" for number in range(5)]
    after = [f"{text} at 10:00" if number < changed else text for number, text in enumerate(before)]
    world.run(before, Policy())

    world.run(after, Policy(), clear=clear)

    assert says in caplog.text
    assert any("now()" in each.message and each.levelname == "WARNING" for each in caplog.records) == warned
    assert ("answers to these are kept" in caplog.text) == (changed < 5 and not warned)
    assert world.billed == 5 + changed


def test_changed_input_of_a_try_that_sent_nothing_is_not_warned_of(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with world.attempt(["question 0"], Policy()):
        pass  # ends before it sends

    world.run(["question 1"], Policy())

    assert "now()" not in caplog.text


def test_requests_of_the_previous_input_that_are_damaged_are_no_obstacle(world: World) -> None:
    with world.attempt(FIVE, Policy()) as submission:
        submission.advance()
    (world.folder.path / "requests.jsonl").write_text("{}")

    done = world.run([*FIVE, "question 9"], Policy())

    assert done.failure is None
    assert world.billed == 6


inputs = st.lists(st.tuples(st.permutations(range(4)), st.integers(1, 4), st.booleans(), st.booleans()), max_size=4)


@settings(max_examples=15, deadline=None)
@given(inputs, st.booleans())
def test_only_new_content_is_paid_for_whatever_order_it_comes_in(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[list[int], int, bool, bool]], deduplicate: bool
) -> None:
    """A run asks some of four requests, in some order, with the keys of their objects in some order."""
    clock = ManualClock(NOW)
    world = World(tmp_path_factory.mktemp("world"), Simulator(clock=clock, batch_seconds=60), clock)
    answered, expected = set[int](), 0

    for order, count, is_reordered, clear in runs:
        asked = order[:count]
        messages = [backwards(reordered(number)) if is_reordered else reordered(number) for number in asked]
        world.run(messages, Policy(), clear=clear, deduplicate=deduplicate)
        expected += len(set(asked) - answered)
        answered = set(asked)

        assert [row["key"] for row in world.rows] == asked
        assert [row["status"] for row in world.rows] == ["succeeded"] * count
        assert all(f"question {row['key']}" in row["text"] for row in world.rows)
    # Answers to what was left out for a while may still be found: the API keeps them.
    assert len({number for order, count, *_ in runs for number in order[:count]}) <= world.billed <= expected


# ---------------------------------------------------------------- the index beside the requests

LARGE = [f"{number} {'x' * 200_000}" for number in range(6)]


def test_a_large_file_of_requests_gets_an_index(task: Task) -> None:
    with task.begin(*LARGE) as (record, requests):
        assert task.files == ["ledger", "requests.index", "requests.jsonl"]
        written = [requests.params(index) for index in range(len(requests))]
    # Nothing else of the requests is read.
    (task.folder.path / "requests.jsonl").write_bytes(b"?" * (task.folder.size("requests.jsonl") or 0))
    resumed = task.resume()
    assert resumed is not None
    with resumed[1] as requests:
        assert (requests.digest, len(requests)) == (record.ledger.input_digest, len(LARGE))
        with pytest.raises(SubmissionRecordError, match="Line 3 "):
            requests.verify([2, 3])
    with task.begin(*LARGE) as (_, requests):  # what the error says
        assert [requests.params(index) for index in range(len(requests))] == written


def test_a_small_file_of_requests_gets_no_index(task: Task) -> None:
    with task.begin(*LARGE):
        pass
    with task.begin("a", "b"):
        assert task.files == ["ledger", "requests.jsonl"]


def test_requests_without_their_index_are_resumed(task: Task) -> None:
    with task.begin(*LARGE) as (_, requests):
        written = [requests.params(index) for index in range(len(requests))]
    task.remove("requests.index")
    resumed = task.resume()
    assert resumed is not None
    with resumed[1] as requests:
        assert [requests.params(index) for index in range(len(requests))] == written


def test_an_old_index_is_gone_before_the_requests_change(task: Task) -> None:
    class FullFolder(LocalFolder):
        @contextmanager
        def replace_file(self, name: str) -> Iterator[IO[bytes]]:
            if name == "requests.jsonl":
                raise OSError("No space left on device")
            with super().replace_file(name) as file:
                yield file

    with task.begin(*LARGE):
        pass
    task.folder = FullFolder(task.folder.path)
    with pytest.raises(OSError, match="No space"), task.begin("another", *LARGE[1:]):
        pass
    assert task.files == ["ledger", "requests.jsonl"]


def test_requests_that_keep_their_earlier_form_have_their_index(task: Task) -> None:
    """Their keys come in another order, so the file that is published is not the one that was written first."""
    with task.begin(*({"a": number, "b": text} for number, text in enumerate(LARGE))) as (_, requests):
        before = [requests.hash(index) for index in range(len(requests))]
    with task.begin({"a": 9, "b": 9}, *({"b": text, "a": number} for number, text in enumerate(LARGE))):
        resumed = task.resume()
        assert resumed is not None
        with resumed[1] as requests:
            assert [requests.hash(index) for index in range(1, len(requests))] == before
            requests.verify(range(len(requests)))
