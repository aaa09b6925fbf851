"""Collect batches that another task or somebody else sent: the sensor's work, without Airflow."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.collection import Collection
from airflow_claude_batch.batch.input.create_body import CreateBody
from airflow_claude_batch.batch.input.elements import Defaults, read_request
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.land.download import TRIES
from airflow_claude_batch.batch.land.manifest import Manifest, load_manifest, write_manifest
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.steps import DoneStep, WaitStep
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.exceptions import (
    AuthenticationError,
    BatchIncompleteError,
    BatchTimeoutError,
    SubmissionRecordError,
    SubmissionUnknownError,
)
from airflow_claude_batch.simulator import Fault, ManualClock, Simulator

DEFAULTS = Defaults(model="claude-haiku-5-5", max_tokens=64)
TABLE = PriceTable.load()


@dataclass
class Bench:
    """A folder, a simulator, and batches created there."""

    path: Path
    simulator: Simulator
    clock: ManualClock
    client: ClaudeClient
    pauses: list[float] = field(default_factory=list)

    @property
    def folder(self) -> LocalFolder:
        return LocalFolder(self.path)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.path / "results.jsonl").read_text().split("\n") if line]

    def foreign(self, *custom_ids: str) -> str:
        """Create a batch elsewhere."""
        items = [
            {
                "custom_id": custom_id,
                "params": {
                    "model": "claude-haiku-5-5",
                    "max_tokens": 64,
                    "messages": [{"role": "user", "content": custom_id}],
                },
            }
            for custom_id in custom_ids
        ]
        return self.client.create_batch(json.dumps({"requests": items}).encode()).id

    def own(self, *messages: Any) -> str:
        """Create a batch as the operator does, leaving its requests in the folder."""
        with self.folder.replace_file("requests.jsonl") as file:
            write_requests((read_request(message, index, DEFAULTS) for index, message in enumerate(messages)), file)
        with self.requests() as requests:
            return self.client.create_batch(CreateBody(requests, range(len(messages)), "0123456789ab")).id

    def requests(self) -> RequestFile:
        return RequestFile(self.path / "requests.jsonl")

    def collection(
        self, *batch_ids: str, own: bool = False, minutes: float = 60, policy: Policy | None = None
    ) -> Collection:
        return Collection(
            client=self.client,
            submission_id="s",
            batch_ids=batch_ids,
            folder=self.folder,
            requests=self.requests if own else None,
            policy=policy or Policy(),
            prices=TABLE,
            deadline=self.clock.now() + timedelta(minutes=minutes),
            clock=self.clock.now,
            sleep=self.pauses.append,
        )

    def land(self, *batch_ids: str, **how: Any) -> DoneStep:
        """Land batches that have ended."""
        step = self.collection(*batch_ids, **how).advance()
        assert isinstance(step, DoneStep), step
        return step


def a_expires(custom_id: str, params: Any, attempt: int) -> str | None:
    return "expired" if params["messages"][0]["content"] == "a" else None


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Make a bench with options of the simulator."""
    clients: list[ClaudeClient] = []

    def bench(**options: Any) -> Bench:
        clock = ManualClock(datetime.fromisoformat("2026-11-22T09:00:00+00:00"))
        simulator = Simulator(clock=clock, **{"batch_seconds": 60, **options})
        config = ClientConfig(credentials=ApiKey("sk-test"), base_url="http://127.0.0.1:1", max_retries=0)
        clients.append(ClaudeClient(config, transport=simulator.transport(), sleep=lambda _: None))
        return Bench(tmp_path, simulator, clock, clients[-1])

    yield bench
    for client in clients:
        client.close()


# ---------------------------------------------------------------- waiting


def test_running_batches_are_waited_for_and_nothing_is_landed(make: Callable[..., Bench]) -> None:
    bench = make()
    first, second = bench.foreign("a"), bench.foreign("b")
    bench.simulator.end(first)
    collection = bench.collection(first, second)
    step = collection.advance()

    assert isinstance(step, WaitStep)
    assert (step.batch_ids, step.wait_for, step.until) == ((second,), "all", collection.deadline)
    assert step.open_batch_ids == (first, second)
    assert list(bench.path.iterdir()) == []


def test_requests_are_not_read_before_everything_has_ended(make: Callable[..., Bench]) -> None:
    bench = make()
    batch = bench.own("a")
    (bench.path / "requests.jsonl").unlink()

    assert isinstance(bench.collection(batch, own=True).advance(), WaitStep)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(do="status", on="retrieve", status=529), id="529"),
        pytest.param(Fault(do="status", on="retrieve", status=500), id="500"),
        pytest.param(Fault(do="status", on="retrieve", status=429), id="429"),
        pytest.param(Fault(do="html", on="retrieve"), id="a proxy's page"),
        pytest.param(Fault(do="malformed", on="retrieve"), id="broken JSON"),
        pytest.param(Fault(do="drop_before_accept", on="retrieve"), id="connection lost"),
        pytest.param(Fault(do="html", on="results"), id="a proxy's page for the results"),
    ],
)
def test_outage_is_waited_for(fault: Fault, make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    batch = bench.foreign("a")
    bench.simulator.inject(msgspec.structs.replace(fault, times=TRIES))
    collection = bench.collection(batch)
    step = collection.advance()

    assert isinstance(step, WaitStep)
    assert step.batch_ids == ()
    assert step.until == bench.clock.now() + timedelta(minutes=1)
    bench.simulator.clear_faults()
    assert isinstance(collection.advance(), DoneStep)


def test_outage_at_the_deadline_fails_without_reporting_a_loss(make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    batch = bench.foreign("a")
    bench.simulator.outage("status:503")

    with pytest.raises(BatchTimeoutError, match=rf"(?s)could not be found out: {batch}\..*503.*Clear it to wait again"):
        bench.collection(batch, minutes=0).advance()


def test_refused_credential_is_no_outage(make: Callable[..., Bench]) -> None:
    bench = make()
    batch = bench.foreign("a")
    bench.simulator.inject(Fault(do="status", on="retrieve", status=401))

    with pytest.raises(AuthenticationError):
        bench.collection(batch).advance()


# ---------------------------------------------------------------- landing


def test_own_rows_come_in_input_order_under_the_author_s_keys(make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    batch = bench.own({"key": "x", "prompt": "one"}, "two", {"key": {"y": 1}, "prompt": "three"})
    done = bench.land(batch, own=True)

    assert done.failure is None
    assert done.manifest.status == "ended"
    assert done.manifest.counts["succeeded"] == 3
    assert [row["key"] for row in bench.rows] == ["x", 1, {"y": 1}]
    assert done.manifest.responses == bench.rows
    assert load_manifest(bench.folder) == msgspec.structs.replace(done.manifest, responses=None)


def test_foreign_rows_of_several_batches_are_all_there(make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    first, second = bench.foreign("a", "b"), bench.foreign("b", "c")
    done = bench.land(first, second)

    assert done.failure is None
    assert sorted((row["batch_id"], row["key"]) for row in bench.rows) == sorted(
        [(first, "a"), (first, "b"), (second, "b"), (second, "c")]
    )
    assert [row["index"] for row in bench.rows] == [0, 1, 2, 3]


def test_manifest_is_dated_by_the_batches(make: Callable[..., Bench]) -> None:
    bench = make()
    began = bench.clock.now()
    first = bench.foreign("a")
    bench.simulator.advance(30)
    second = bench.foreign("b")
    bench.simulator.advance(60)
    done = bench.land(first, second)

    assert done.manifest.created_at == began
    assert done.manifest.ended_at == began + timedelta(seconds=90)


def test_operator_s_estimate_and_dates_stay_in_the_manifest(make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    batch = bench.own("a")
    early = bench.clock.now() - timedelta(hours=1)
    estimate = {"usd": {"expected": "0.5"}}
    handed_over = msgspec.structs.replace(
        bench.land(batch, own=True).manifest,
        status="in_progress",
        landed_batch_ids=[],
        estimate=estimate,
        created_at=early,
    )
    (bench.path / "results.jsonl").unlink()
    write_manifest(bench.folder, handed_over)
    done = bench.land(batch, own=True)

    assert done.manifest.estimate == estimate
    assert done.manifest.created_at == early


def test_too_many_failures_are_permanent_because_a_sensor_sends_nothing(make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0, outcome=a_expires)
    batch = bench.foreign("a", "b")
    done = bench.land(batch)

    assert isinstance(done.failure, BatchIncompleteError)
    assert done.permanent
    assert "1 of 2 requests ended without an answer" in str(done.failure)
    assert "key 'a': expired" in str(done.failure)
    assert len(bench.rows) == 2


# ---------------------------------------------------------------- again


@pytest.mark.parametrize("own", [True, False], ids=["the operator's", "foreign"])
def test_landed_rows_are_neither_downloaded_again_nor_lost(own: bool, make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0, outcome=a_expires)
    batch = bench.own("a", "b") if own else bench.foreign("a", "b")
    first = bench.land(batch, own=own)
    rows, fetched = bench.rows, bench.simulator.calls()["results"]
    second = bench.land(batch, own=own, policy=Policy(allow_failed=1))

    assert bench.simulator.calls()["results"] == fetched
    assert bench.rows == rows
    assert isinstance(first.failure, BatchIncompleteError)
    assert second.failure is None
    assert second.manifest == msgspec.structs.replace(first.manifest, responses=second.manifest.responses)
    assert second.manifest.responses == rows


@pytest.mark.parametrize("own", [True, False], ids=["the operator's", "foreign"])
def test_removed_rows_are_downloaded_again(own: bool, make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    batch = bench.own("a", "b") if own else bench.foreign("a", "b")
    bench.land(batch, own=own)
    rows = bench.rows
    (bench.path / "results.jsonl").unlink()
    done = bench.land(batch, own=own)

    assert done.failure is None
    assert sorted(row["text"] for row in bench.rows) == sorted(row["text"] for row in rows)


def test_batch_that_the_operator_has_dropped_is_not_waited_for(make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    batch = bench.own("a")
    write_manifest(
        bench.folder,
        Manifest(
            submission_id="s",
            status="in_progress",
            batch_ids=["msgbatch_lost", batch],
            request_count=1,
            counts={"missing": 1},
            results_path="",
            landed_batch_ids=["msgbatch_lost"],
        ),
    )
    done = bench.land("msgbatch_lost", batch, own=True)

    assert done.manifest.counts["succeeded"] == 1


def test_other_foreign_batches_in_the_same_folder_replace_the_rows(make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    first, second = bench.foreign("a"), bench.foreign("b")
    bench.land(first)
    done = bench.land(first, second)

    assert [row["key"] for row in bench.rows] == ["a", "b"]
    assert done.manifest.landed_batch_ids == [first, second]
    bench.land(second)
    assert [row["key"] for row in bench.rows] == ["b"]


def test_damaged_manifest_never_counts_as_no_manifest(make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    batch = bench.foreign("a")
    storage.write(bench.folder, "manifest.json", b"{")

    with pytest.raises(SubmissionRecordError, match=r"(?s)manifest.json is damaged.*Remove the file"):
        bench.collection(batch).advance()


# ---------------------------------------------------------------- the deadline


@pytest.mark.parametrize("own", [True, False], ids=["the operator's", "foreign"])
def test_deadline_lands_what_has_ended_and_leaves_the_rest_running(own: bool, make: Callable[..., Bench]) -> None:
    bench = make()
    first = bench.own("a", "b") if own else bench.foreign("a", "b")
    second = bench.foreign("c")
    bench.simulator.end(first)
    done = bench.land(first, second, own=own, minutes=0)

    assert isinstance(done.failure, BatchTimeoutError)
    assert not done.permanent
    assert f"1 message batch is still running and billed for what is answered: {second}." in str(done.failure)
    assert done.manifest.status == "in_progress"
    assert done.manifest.landed_batch_ids == [first]
    assert {row["status"] for row in bench.rows} == {"succeeded"}
    assert len(bench.rows) == 2
    assert bench.simulator.calls()["cancel"] == 0


def test_foreign_rows_landed_at_a_timeout_are_kept_when_the_rest_has_ended(make: Callable[..., Bench]) -> None:
    bench = make()
    first, second = bench.foreign("a", "b"), bench.foreign("c")
    bench.simulator.end(first)
    bench.land(first, second, minutes=0)
    bench.simulator.end(second)
    done = bench.land(first, second)

    assert done.failure is None
    assert sorted(row["key"] for row in bench.rows) == ["a", "b", "c"]


# ---------------------------------------------------------------- not found


def test_single_404_is_polled_again(make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    batch = bench.foreign("a")
    bench.simulator.inject(Fault(do="not_found_blip", on="retrieve"))
    collection = bench.collection(batch)

    step = collection.advance()
    assert isinstance(step, WaitStep)
    assert step.reason == "1 message batch has not ended or was not found"
    assert set(collection.not_found) == {batch}
    assert isinstance(collection.advance(), DoneStep)
    assert collection.not_found == {}


def test_batch_not_found_until_the_deadline_is_not_reported_as_running(make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    batch = bench.foreign("a")

    with pytest.raises(
        SubmissionUnknownError, match=r"(?s)msgbatch_unknown \(.*404.*Check the ids.*older than 29 days"
    ):
        bench.collection(batch, "msgbatch_unknown", minutes=0).advance()
    assert [row["key"] for row in bench.rows] == ["a"]


def test_batch_whose_results_are_gone_is_named(make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    batch = bench.foreign("a")
    bench.client.retrieve_batch(batch)
    bench.simulator.advance(timedelta(days=30).total_seconds())

    with pytest.raises(SubmissionUnknownError, match=rf"{batch} \(it has ended, but its results are gone"):
        bench.collection(batch).advance()


def test_mark_lost_raises_with_the_batch_and_the_reason(make: Callable[..., Bench]) -> None:
    with pytest.raises(SubmissionUnknownError, match=r"msgbatch_1 \(never seen\)"):
        make().collection("msgbatch_1").mark_lost("msgbatch_1", "never seen")


# ---------------------------------------------------------------- downloading


def test_stream_that_is_cut_is_downloaded_again(make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    batch = bench.foreign(*"abcd")
    bench.simulator.inject(
        Fault(do="cut", on="results", at="mid_line"),
        Fault(do="cut", on="results", at="line_end"),
        Fault(do="cut", on="results", at=10, reset=True),
    )
    done = bench.land(batch)

    assert done.manifest.counts["succeeded"] == 4
    assert bench.simulator.calls()["results"] == 4
    assert bench.pauses == [2.0, 4.0, 6.0]


def test_stream_that_is_always_cut_keeps_landed_rows_and_names_where_the_rest_is(
    make: Callable[..., Bench],
) -> None:
    bench = make(batch_seconds=0)
    batch = bench.foreign(*"abcd")
    bench.simulator.inject(Fault(do="cut", on="results", at="mid_line", times=None))

    with pytest.raises(BatchTimeoutError, match=r"(?s)incomplete in each of 5 downloads.*stay at the API for 29 days"):
        bench.collection(batch, minutes=0).advance()
    assert not (bench.path / "results.jsonl").exists()


def test_missing_row_is_accepted_after_two_complete_downloads(
    make: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    bench = make(batch_seconds=0, shuffle=False)
    batch = bench.own("a", "b", "c")
    bench.simulator.inject(Fault(do="missing_row", on="results", times=None))
    done = bench.land(batch, own=True, policy=Policy(allow_failed=1))

    assert bench.simulator.calls()["results"] == 2
    assert done.manifest.counts["missing"] == 1
    assert [row["index"] for row in bench.rows] == [0, 1, 2]
    assert "The API has no result for 1 of the 3 requests of " in caplog.text


def test_duplicate_and_foreign_rows_are_dropped_and_logged(
    make: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    bench = make(batch_seconds=0)
    batch = bench.own("a", "b", "c")
    bench.simulator.inject(Fault(do="duplicate_row", on="results"), Fault(do="unknown_row", on="results"))
    done = bench.land(batch, own=True)

    assert done.manifest.counts["succeeded"] == len(bench.rows) == 3
    assert re.search(r"repeated 1 of 3 custom_ids; the first row of each was kept: '0123456789ab-\d-", caplog.text)
    assert "1 of 5 rows matched no request of this submission: '" in caplog.text


# ---------------------------------------------------------------- afterwards


def test_delete_batches_deletes_them_once_their_rows_are_landed(make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    batch = bench.foreign("a")
    bench.land(batch, policy=Policy(delete_batches=True))

    assert bench.simulator.books()["batches"][0]["deleted"]
    assert bench.land(batch, policy=Policy(delete_batches=True)).manifest.counts["succeeded"] == 1


def test_batches_without_a_row_for_every_request_are_not_deleted(
    make: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    bench = make(batch_seconds=0, shuffle=False)
    batch = bench.own("a", "b", "c")
    bench.simulator.inject(Fault(do="missing_row", on="results", times=None))
    done = bench.land(batch, own=True, policy=Policy(delete_batches=True))

    assert done.manifest.counts["missing"] == 1
    assert not bench.simulator.books()["batches"][0]["deleted"]
    assert "The message batches are not deleted, because the API had no result for 1 of 3 requests." in caplog.text


def test_unused_prompt_cache_is_logged_by_a_collection(
    make: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    bench = make(batch_seconds=0)
    system = [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    bench.land(bench.own({"prompt": "a", "system": system}), own=True)

    assert (
        "No answer wrote or read the prompt cache. The prompt before the cache_control mark is shorter" in caplog.text
    )


def test_batches_are_not_deleted_while_one_runs(make: Callable[..., Bench]) -> None:
    bench = make()
    first, second = bench.foreign("a"), bench.foreign("b")
    bench.simulator.end(first)
    bench.land(first, second, minutes=0, policy=Policy(delete_batches=True))

    assert bench.simulator.calls()["delete"] == 0


def test_stopping_a_collection_changes_nothing(make: Callable[..., Bench]) -> None:
    bench = make()
    batch = bench.foreign("a")
    collection = bench.collection(batch)
    collection.stop()

    assert collection.open_batch_ids == (batch,)
    assert isinstance(collection.advance(), WaitStep)
    assert bench.simulator.calls()["create"] == 1
