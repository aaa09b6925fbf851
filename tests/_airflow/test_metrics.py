"""Metrics of tasks and triggers, as Airflow's Stats get them."""

from __future__ import annotations

import contextlib
import re
import socket
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from workbench import Run, Workbench

from airflow_claude_batch._airflow import metrics
from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor
from airflow_claude_batch.simulator import Fault

NOW = datetime(2026, 11, 23, tzinfo=UTC)


class RecordingStats:
    """Keeps what Airflow's Stats would send on."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.timers: dict[str, timedelta] = {}

    def incr(self, name: str, count: int = 1, *, tags: dict[str, str] | None = None) -> None:
        self.counters[",".join([name, *(f"{key}={value}" for key, value in (tags or {}).items())])] += count

    def timing(self, name: str, value: timedelta) -> None:
        self.timers[name] = value


class BrokenStats:
    """A metrics backend that is configured badly."""

    def incr(self, *args: Any, **kwargs: Any) -> None:
        raise ImportError("no module named statsd")

    timing = incr


@pytest.fixture
def stats(monkeypatch: pytest.MonkeyPatch) -> RecordingStats:
    recording = RecordingStats()
    monkeypatch.setattr(metrics, "Stats", recording)
    return recording


def manifest(status: str) -> Manifest:
    usage = {"input_tokens": 70, "output_tokens": 30, "cache_read_input_tokens": 0, "web_search_requests": 1}
    return Manifest(
        submission_id="s",
        status=status,
        batch_ids=["msgbatch_1"],
        request_count=4,
        counts={"succeeded": 3, "errored": 1, "expired": 0},
        results_path="/r",
        by_model={
            "claude-haiku-5-5": {"counts": {"succeeded": 2, "errored": 1}, "usage": usage, "usd": "0.0125"},
            "claude-7-novella": {"counts": {"succeeded": 1}, "usage": {"output_tokens": 5}, "usd": None},
        },
        created_at=NOW,
        ended_at=NOW + timedelta(minutes=7),
    )


def test_ended_submission_is_counted_by_model_outcome_tokens_and_cost(stats: RecordingStats) -> None:
    metrics.count_submission(manifest("ended"))

    assert stats.counters == {
        "claude_batch.submissions,status=ended": 1,
        "claude_batch.rows,outcome=succeeded,model=claude-haiku-5-5": 2,
        "claude_batch.rows,outcome=errored,model=claude-haiku-5-5": 1,
        "claude_batch.rows,outcome=succeeded,model=claude-7-novella": 1,
        "claude_batch.tokens,kind=input,model=claude-haiku-5-5": 70,
        "claude_batch.tokens,kind=output,model=claude-haiku-5-5": 30,
        "claude_batch.tokens,kind=output,model=claude-7-novella": 5,
        "claude_batch.cost_microusd,model=claude-haiku-5-5": 12_500,
    }
    assert stats.timers == {"claude_batch.turnaround": timedelta(minutes=7)}


def test_reused_answers_are_counted_by_model(stats: RecordingStats) -> None:
    part = {"counts": {"succeeded": 3}, "usage": {}, "usd": "0", "reused": 2}
    metrics.count_submission(replace(manifest("ended"), by_model={"claude-haiku-5-5": part}))

    assert stats.counters["claude_batch.reused_answers,model=claude-haiku-5-5"] == 2


def test_direct_answers_are_counted_with_their_cost(stats: RecordingStats) -> None:
    direct = {"answers": 45, "usd": "0.2", "batch_usd": "0.4", "unseen": 0}
    metrics.count_submission(replace(manifest("ended"), direct=direct))

    assert stats.counters["claude_batch.direct_answers"] == 45
    assert stats.counters["claude_batch.direct_microusd"] == 200_000


def test_submission_in_progress_counts_no_rows(stats: RecordingStats) -> None:
    metrics.count_submission(manifest("in_progress"))

    assert stats.counters == {"claude_batch.submissions,status=in_progress": 1}


def test_broken_metrics_backend_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "Stats", BrokenStats())

    metrics.count_submission(manifest("ended"))
    metrics.StatsObserver().poll_failed(OSError())


# ---------------------------------------------------------------- from tasks and triggers

MESSAGES = ["a", {"prompt": "b", "model": "claude-haiku-5-5"}]


def send_and_wait(bench: Workbench, **arguments: Any) -> Run:
    with bench.dag("counted") as dag:
        send = SendMessageBatchOperator(task_id="send", messages=MESSAGES, **arguments)
        MessageBatchSensor(task_id="wait", batch=send.output, deferrable=True, poll_interval=0.1)
    return bench.run(dag)


@pytest.mark.airflow
def test_task_counts_what_it_sends_and_lands(bench: Workbench, claude_default: str, stats: RecordingStats) -> None:
    send_and_wait(bench)

    assert stats.counters["claude_batch.requests,model=claude-opus-5-5"] == 1
    assert stats.counters["claude_batch.requests,model=claude-haiku-5-5"] == 1
    assert stats.counters["claude_batch.rows,outcome=succeeded,model=claude-haiku-5-5"] == 1
    assert stats.counters["claude_batch.submissions,status=in_progress"] == 1
    assert stats.counters["claude_batch.submissions,status=ended"] == 1
    assert set(stats.timers) == {"claude_batch.queue_time", "claude_batch.turnaround"}


@pytest.mark.airflow
def test_lost_create_and_resumed_try_are_counted_as_recoveries(
    bench: Workbench, claude_default: str, simulator: Any, stats: RecordingStats
) -> None:
    simulator.inject(Fault(do="drop_after_accept", on="create"))
    with bench.dag("recovered") as dag:
        SendMessageBatchOperator(task_id="ask", messages=["a"], wait_for_completion=True)

    run = bench.run(dag)
    assert stats.counters["claude_batch.recoveries,how=adopted"] == 1
    run.again(dag, "ask")

    assert stats.counters["claude_batch.recoveries,how=taken_over"] == 1
    assert stats.counters["claude_batch.recoveries,how=sent_again"] == 0


def test_documented_metrics_are_exactly_those_reported(stats: RecordingStats) -> None:
    observer = metrics.StatsObserver()
    observer.batch_created({"claude-haiku-5-5": 1})
    observer.recovered("adopted")
    observer.batch_ended(timedelta(1))
    observer.poll_failed(OSError())
    metrics.count_submission(replace(manifest("ended"), stop_reasons={"end_turn": 3}))
    part = {"counts": {}, "usage": {}, "usd": "0", "reused": 2}
    direct = {"answers": 1, "usd": "0.1", "batch_usd": "0", "unseen": 0}
    metrics.count_submission(replace(manifest("ended"), by_model={"claude-haiku-5-5": part}, direct=direct))

    told = {counter.partition(",")[0] for counter in stats.counters} | set(stats.timers)
    assert set(re.findall(r"``(claude_batch\.\w+)``", str(metrics.__doc__))) == told


# ---------------------------------------------------------------- where StatsD listens


@pytest.fixture
def statsd(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A listener, to which Airflow's Stats send as they are configured to."""
    pytest.importorskip("statsd")
    from airflow.sdk.observability import stats as airflow_stats
    from airflow.sdk.observability.metrics import stats_utils

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        for name, value in {"ON": "True", "PORT": listener.getsockname()[1], "INFLUXDB_ENABLED": "True"}.items():
            monkeypatch.setenv(f"AIRFLOW__METRICS__STATSD_{name}", str(value))
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_HOST", "127.0.0.1")
        airflow_stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
        yield listener
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "False")
        airflow_stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)


def received(listener: socket.socket) -> list[str]:
    """The lines about us that have arrived, without the values of timers."""
    lines: list[str] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            lines += listener.recv(65_536).decode().split("\n")
    return [re.sub(r"[\d.]+\|ms$", "|ms", line) for line in lines if "claude_batch" in line]


@pytest.mark.airflow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Airflow never closes its socket
@pytest.mark.skipif(AIRFLOW_VERSION < (3, 3), reason="Stats are configured otherwise there")
def test_metrics_of_a_task_and_its_trigger_arrive_over_udp(
    bench: Workbench, claude_default: str, simulator: Any, statsd: socket.socket
) -> None:
    simulator.inject(Fault(do="status", on="retrieve", status=500))  # the first look is the trigger's
    with bench.dag("heard") as dag:
        SendMessageBatchOperator(
            task_id="ask", messages=MESSAGES, wait_for_completion=True, deferrable=True, poll_interval=0.1
        )

    manifest = bench.run(dag).xcom("ask")

    arrived = received(statsd)
    assert Counter(arrived) >= Counter(
        {
            "airflow.claude_batch.requests,model=claude-haiku-5-5:1|c": 1,
            "airflow.claude_batch.submissions,status=ended:1|c": 1,
            "airflow.claude_batch.rows,outcome=succeeded,model=claude-opus-5-5:1|c": 1,
            "airflow.claude_batch.poll_errors,error=ServerError:1|c": 1,
            "airflow.claude_batch.queue_time:|ms": 1,
            "airflow.claude_batch.turnaround:|ms": 1,
        }
    )
    assert not [line for line in arrived for id_ in [*manifest["batch_ids"], manifest["submission_id"]] if id_ in line]
