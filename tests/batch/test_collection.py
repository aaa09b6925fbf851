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


@pytest.mark.parametrize("own", [False, True])
def test_sensor_that_finds_everything_landed_says_so(own: bool, make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    batch_id = bench.own("a", "b") if own else bench.foreign("a", "b")

    first, again = bench.land(batch_id, own=own), bench.land(batch_id, own=own)

    assert (first.is_old, again.is_old) == (False, True)
    assert again.manifest.counts == first.manifest.counts


def test_first_warning_of_a_denied_batch_says_when_it_is_given_up(
    make: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    bench = make()

    bench.collection("msgbatch_01typed").advance()

    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "msgbatch_01typed now, which proves nothing yet" in warning
    assert "in 3 polls or more, until 2026-11-22 09:10:00 UTC at least, there is none" in warning
    assert "If the id or the connection is wrong, correct it and clear the task." in warning


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


def test_what_is_shown_of_running_batches_is_complete(make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=600)
    mine = bench.own("a", "b")
    sent = Manifest(
        submission_id="s",
        status="sent",
        batch_ids=[mine],
        created_at=bench.clock.now(),
        request_count=2,
        counts={},
        results_path=None,
        estimate={"requests": 2},
    )
    write_manifest(bench.folder, sent)
    collection = bench.collection(mine, own=True)

    collection.advance()

    (part,) = collection.parts()
    assert (collection.request_count, collection.estimate) == (2, {"requests": 2})
    assert (part.requests, part.created_at) == (2, bench.clock.now())
    assert part.expires_at == bench.clock.now() + timedelta(hours=24)


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


@pytest.mark.parametrize("operation", ["retrieve", "results"])
@pytest.mark.parametrize("status", [401, 403])
def test_refused_credential_is_waited_out_after_the_first_contact(
    operation: Any, status: int, make: Callable[..., Bench]
) -> None:
    bench = make(batch_seconds=0)
    batch = bench.foreign("a")
    bench.simulator.inject(Fault(do="status", on=operation, status=status))
    collection = bench.collection(batch)
    collection.in_contact = True

    step = collection.advance()

    assert isinstance(step, WaitStep)
    assert (step.batch_ids, step.read_connection, step.open_batch_ids) == ((batch,), True, (batch,))
    assert collection.refusal is not None
    assert isinstance(collection.advance(), DoneStep)
    assert collection.refusal is None
    assert len(bench.rows) == 1


def test_refused_credential_at_the_deadline_fails_without_reporting_a_loss(make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    batch = bench.foreign("a")
    bench.simulator.inject(Fault(do="status", on="retrieve", status=401))
    collection = bench.collection(batch, minutes=0)
    collection.in_contact = True

    with pytest.raises(BatchTimeoutError, match=r"(?s)could not be found out.*401"):
        collection.advance()


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


@pytest.mark.parametrize("own", [True, False], ids=["the operator's", "foreign"])
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: b"", id="emptied"),
        pytest.param(lambda data: data.splitlines(keepends=True)[0], id="cut after a line"),
        pytest.param(lambda data: data[: len(data) // 2 + 5], id="cut within a line"),
        pytest.param(lambda data: b"<html>\n" + data[9:], id="damaged at the beginning"),
        pytest.param(lambda data: b"\0" * 100, id="zeros"),
    ],
)
def test_rows_that_were_lost_since_are_read_again(own: bool, damage: Any, make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    batch = bench.own("a", "b", "c") if own else bench.foreign("a", "b", "c")
    bench.land(batch, own=own)
    storage.write(bench.folder, "results.jsonl", damage(storage.read(bench.folder, "results.jsonl")))

    done = bench.land(batch, own=own)

    assert done.failure is None
    assert sorted(row["text"] for row in bench.rows) == [f"Simulated answer to “{key}”" for key in "abc"]


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


@pytest.mark.parametrize("on", ["results", "retrieve"])
def test_404s_are_believed_when_they_last_even_if_each_poke_is_a_process(on: Any, make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    batch = bench.foreign("a")
    bench.simulator.inject(Fault(do="not_found_blip", on=on, times=None))
    began = bench.clock.now()
    with pytest.raises(SubmissionUnknownError, match=rf"{batch} \("):
        finish(bench, lambda: bench.collection(batch, minutes=600))

    assert timedelta(minutes=10) <= bench.clock.now() - began <= timedelta(minutes=12)


@pytest.mark.parametrize("on", ["results", "retrieve"])
def test_one_404_long_after_another_is_not_believed(on: Any, make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    batch = bench.foreign("a")
    running = bench.foreign("b")
    bench.simulator.inject(Fault(do="not_found_blip", on=on, times=3, match=batch))
    for seconds in (0, 1, 3600):
        bench.simulator.advance(seconds)
        step = bench.collection(batch, running, minutes=600).advance()
        bench.simulator.inject(Fault(do="not_found_blip", on=on, times=1, match=batch))
    assert step is not None


@pytest.mark.parametrize("status", [400, 403, 404, 200])
@pytest.mark.parametrize("on", ["results", "retrieve"])
def test_pages_of_a_gateway_are_an_outage(on: Any, status: int, make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    batch = bench.foreign("a")
    bench.simulator.inject(Fault(do="page", on=on, status=status, times=None))
    for _ in range(20):
        step = bench.collection(batch, minutes=600).advance()
        assert isinstance(step, WaitStep)
        bench.simulator.advance(100)
    bench.simulator.clear_faults()

    assert bench.land(batch).failure is None


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


def test_missing_row_is_accepted_when_the_counts_agree(
    make: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    bench = make(batch_seconds=0, shuffle=False)
    batch = bench.own("a", "b", "c")
    bench.simulator.inject(
        Fault(do="missing_row", on="results", times=None), Fault(do="odd_counts", counts={"succeeded": 2}, times=None)
    )
    write_manifest(bench.folder, handed_over(bench, batch, 3))
    done = bench.land(batch, own=True, policy=Policy(allow_failed=1))

    assert bench.simulator.calls()["results"] == 2
    assert done.manifest.counts["missing"] == 1
    assert [row["index"] for row in bench.rows] == [0, 1, 2]
    assert "The API has no result for 1 of the 3 requests of " in caplog.text
    # The operator would take the whole batch for landed, and send the request without a row again.
    assert done.manifest.landed_batch_ids == []


def test_rows_whose_custom_ids_were_changed_are_not_counted_as_landed(make: Callable[..., Bench]) -> None:
    """The operator reads them again at no cost. If the batch were listed as landed, it would send them again."""
    bench = make(batch_seconds=0)
    batch = bench.own("a", "b", "c")
    write_manifest(bench.folder, handed_over(bench, batch, 3))
    bench.simulator.inject(Fault(do="changed_ids", on="results", ids="damaged", times=1))

    done = bench.land(batch, own=True)

    assert done.manifest.counts["missing"] == 3
    assert done.manifest.landed_batch_ids == []
    assert bench.land(batch, own=True).manifest.landed_batch_ids == [batch]


# ---------------------------------------------------------------- fewer rows than the API counts


def handed_over(bench: Bench, batch: str, count: int) -> Manifest:
    """Return the manifest that the operator leaves in the folder when it hands over to the sensor."""
    return Manifest(
        submission_id="s",
        status="in_progress",
        batch_ids=[batch],
        request_count=count,
        counts={"missing": count},
        results_path=bench.folder.uri("results.jsonl"),
        batch_request_counts={batch: count},
    )


def finish(bench: Bench, make_collection: Callable[[], Collection]) -> tuple[DoneStep, list[float]]:
    """Advance until done, each time as another process would. Return the pauses, too."""
    pauses = []
    for _ in range(100):
        step = make_collection().advance()
        if isinstance(step, DoneStep):
            return step, pauses
        pauses.append((step.until - bench.clock.now()).total_seconds())
        bench.simulator.advance(min(60.0, pauses[-1]) if step.batch_ids else pauses[-1])
    raise AssertionError(f"not done: {step}")


@pytest.mark.parametrize("own", [True, False], ids=["the operator's", "foreign"])
@pytest.mark.parametrize("rows", [0, 2])
def test_rows_that_come_late_are_waited_for(own: bool, rows: int, make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0, shuffle=False)
    batch = bench.own(*"abcd") if own else bench.foreign(*"abcd")
    other = bench.foreign("x")
    ids = (batch,) if own else (batch, other)
    bench.simulator.inject(Fault(do="few_rows", on="results", rows=rows, times=9, match=batch))
    deadline = bench.clock.now() + timedelta(hours=20)

    def collection() -> Collection:
        minutes = (deadline - bench.clock.now()) / timedelta(minutes=1)
        return bench.collection(*ids, own=own, minutes=minutes)

    step = collection().advance()
    assert isinstance(step, WaitStep)
    assert step.batch_ids == ()
    assert batch in step.reason
    assert len(bench.rows) == rows + len(ids) - 1
    assert load_manifest(bench.folder).status == "in_progress"  # type: ignore[union-attr]
    assert "unread.json" in bench.folder.names()
    done, pauses = finish(bench, collection)

    assert "unread.json" not in bench.folder.names()

    assert done.failure is None
    assert done.manifest.counts["succeeded"] == len(bench.rows) == 3 + len(ids)
    assert len(pauses) == 4
    assert pauses == sorted(pauses)
    if not own:
        assert sum(f"{other}/results" in call for call in bench.simulator.calls()) <= 1


@pytest.mark.parametrize("own", [True, False], ids=["the operator's", "foreign"])
def test_sensor_says_at_its_deadline_which_rows_did_not_come(own: bool, make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0, shuffle=False)
    batch = bench.own(*"abcd") if own else bench.foreign(*"abcd")
    bench.simulator.inject(Fault(do="few_rows", on="results", rows=3, times=None))
    deadline = bench.clock.now() + timedelta(hours=2)
    done, _ = finish(
        bench,
        lambda: bench.collection(batch, own=own, minutes=max(0, (deadline - bench.clock.now()) / timedelta(minutes=1))),
    )

    assert isinstance(done.failure, BatchTimeoutError)
    assert not done.permanent
    assert bench.clock.now() == deadline
    assert f"Message batch {batch} has ended, but only 3 of 4 rows came in" in str(done.failure)
    assert "on_lost='resend'" in str(done.failure)
    assert done.manifest.status == "in_progress"
    assert done.manifest.landed_batch_ids == []
    assert len(bench.rows) == 3
    bench.simulator.clear_faults()
    assert bench.land(batch, own=own).manifest.counts["succeeded"] == 4


def test_an_empty_stream_takes_no_landed_row_away(make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0, shuffle=False)
    batch = bench.foreign(*"abcd")
    bench.simulator.inject(
        Fault(do="few_rows", on="results", rows=3, times=2), Fault(do="few_rows", on="results", times=None)
    )
    bench.collection(batch).advance()
    bench.simulator.advance(60)
    bench.collection(batch).advance()

    assert len(bench.rows) == 3


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param({}, id="empty"),
        pytest.param({"succeeded": 0}, id="zero"),
        pytest.param({"succeeded": 1}, id="below the rows"),
    ],
)
@pytest.mark.parametrize("own", [True, False], ids=["the operator's", "foreign"])
def test_counts_below_the_rows_lose_no_row(own: bool, counts: dict[str, Any], make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    batch = bench.own(*"abcd") if own else bench.foreign(*"abcd")
    bench.simulator.inject(Fault(do="odd_counts", counts=counts, times=None))
    done = bench.land(batch, own=own)

    assert done.failure is None
    assert done.manifest.request_count == len(bench.rows) == 4
    assert bench.land(batch, own=own).manifest.counts["succeeded"] == 4


def test_doubled_counts_of_the_operator_s_batch_change_nothing(make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    batch = bench.own(*"abcd")
    bench.simulator.inject(Fault(do="odd_counts", counts={"succeeded": 8}, times=None))

    assert bench.land(batch, own=True).failure is None


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
    write_manifest(bench.folder, handed_over(bench, batch, 3))
    bench.simulator.inject(
        Fault(do="missing_row", on="results", times=None), Fault(do="odd_counts", counts={"succeeded": 2}, times=None)
    )
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


def test_batch_whose_results_are_always_cut_costs_no_other_batch(make: Callable[..., Bench]) -> None:
    bench = make(batch_seconds=0)
    first, second = bench.foreign(*"ab"), bench.foreign(*"cd")
    bench.simulator.inject(Fault(do="cut", on="results", at="mid_line", match=second, times=None))

    with pytest.raises(BatchTimeoutError, match="incomplete in each of 5 downloads"):
        bench.collection(first, second, minutes=0).advance()
    assert {row["key"] for row in bench.rows} >= {"a", "b"}

    bench.simulator.clear_faults()
    assert bench.land(first, second).manifest.counts["succeeded"] == 4
