"""Result streams and landed rows: whatever arrives, every request ends as one row, or reading says that it failed."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from fuzzing import damaged, fuzzed, json_values, mutated
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.api.wire import MessageBatch, decode
from airflow_claude_batch.batch.failures import evaluate_outcome
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.output_schema import read_schema
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.land.csv_results import CSV_FILE, write_csv
from airflow_claude_batch.batch.land.download import download_results
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.match_requests import ExternalMatcher, SubmissionMatcher
from airflow_claude_batch.batch.land.parquet import PARQUET_FILE
from airflow_claude_batch.batch.land.publish import publish_rows
from airflow_claude_batch.batch.land.result_stream import read_results
from airflow_claude_batch.batch.land.rows import RESULTS_FILE, count_statuses
from airflow_claude_batch.batch.land.validate_output import OutputValidator
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.exceptions import ResultsError
from airflow_claude_batch.rows import read_rows

PRICES = PriceTable.load()
TOKEN = "0123456789ab"
BATCH_ID = "msgbatch_01AbCd"
COUNT = 4
SCHEMA = read_schema({"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}, "required": ["n"]})

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-5-5",
    "content": [
        {"type": "thinking", "thinking": "hm \u2028", "signature": "x"},
        {"type": "text", "text": '{"n":1}\u2028\u0085'},
    ],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 10,
        "output_tokens": 2,
        "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2},
        "cache_creation_input_tokens": 3,
        "cache_read_input_tokens": 4,
        "server_tool_use": {"web_search_requests": 1},
        "inference_geo": "us",
    },
}
ERROR = {
    "type": "error",
    "error": {"type": "api_error", "message": "why", "details": {"error_code": "x"}},
    "request_id": "req_1",
}
RESULTS = [
    {"type": "succeeded", "message": MESSAGE},
    {"type": "errored", "error": ERROR},
    {"type": "expired"},
    {"type": "succeeded", "message": {**MESSAGE, "stop_reason": "max_tokens"}},
]


@contextlib.contextmanager
def submission() -> Iterator[RequestFile]:
    params = {"max_tokens": 5, "output_config": {"format": SCHEMA.format}}
    with tempfile.NamedTemporaryFile() as file:
        write_requests((Request(index, f"k{index}", {**params, "content": index}) for index in range(COUNT)), file)
        file.flush()
        with RequestFile(Path(file.name)) as requests:
            yield requests


def lines_of(requests: RequestFile, endings: list[Any]) -> list[bytes]:
    return [
        json.dumps({"custom_id": requests.custom_id(index, TOKEN), "result": ending}, ensure_ascii=False).encode(
            errors="surrogatepass"
        )
        for index, ending in enumerate(endings)
    ]


class Stream:
    """A transport that answers with these bytes, cut into chunks anyhow, and another order each time."""

    def __init__(self, bodies: list[bytes], cuts: list[int]) -> None:
        self.bodies = bodies
        self.cuts = cuts
        self.calls = 0

    def transport(self) -> Any:
        import httpx

        def answer(request: httpx.Request) -> httpx.Response:
            body = self.bodies[min(self.calls, len(self.bodies) - 1)]
            self.calls += 1
            return httpx.Response(200, content=self._chunks(body))

        return httpx.MockTransport(answer)

    def _chunks(self, body: bytes) -> Iterator[bytes]:
        places = sorted({cut % (len(body) + 1) for cut in self.cuts} | {0, len(body)})
        for start, end in itertools.pairwise(places):
            yield body[start:end]


def batch(count: int) -> MessageBatch:
    return decode(
        json.dumps(
            {
                "id": BATCH_ID,
                "processing_status": "ended",
                "request_counts": {"succeeded": count},
                "created_at": "2026-11-22T09:00:00Z",
            }
        ).encode(),
        MessageBatch,
    )


def check_rows(landing: Landing, count: int) -> list[dict[str, Any]]:
    """Each request has one row, and each row can be read by everybody who will read it."""
    lines = list(landing.lines(missing="gone"))
    rows = [json.loads(line.decode()) for line in lines]
    assert [row["index"] for row in rows] == list(range(count))
    assert sum(count_statuses(landing.statuses).values()) == count
    for row, line in zip(rows, lines, strict=True):
        assert line.count(b"\n") == 1
        assert row["cost_usd"] is None or Decimal(row["cost_usd"]).is_finite()
    with tempfile.TemporaryDirectory() as path:
        folder = LocalFolder(Path(path))
        publish_rows(landing, folder, missing="gone")
        read = list(read_rows(folder.uri(RESULTS_FILE)))
        assert [row.status for row in read] == [row["status"] for row in rows]
        with Landing(landing.matcher, prices=PRICES) as again, folder.open(RESULTS_FILE) as file:  # type: ignore[union-attr]
            again.restore(file)
            assert [row["status"] for row in map(json.loads, again.lines(missing="gone"))] == [
                row["status"] for row in rows
            ]
    manifest = Manifest(
        submission_id="s",
        status="ended",
        batch_ids=[],
        request_count=count,
        counts=count_statuses(landing.statuses),
        results_path="x",
    )
    evaluate_outcome(landing, Policy(), manifest)
    json.dumps(landing.bill.to_manifest())
    return rows


def fetch(stream: Stream, landing: Landing) -> None:
    config = ClientConfig(credentials=ApiKey("sk-test"), base_url="http://127.0.0.1:1", max_retries=0)
    with ClaudeClient(config, transport=stream.transport(), sleep=lambda _: None) as client:
        download_results(client, batch(COUNT), landing, sleep=lambda _: None)


cuts = st.lists(st.integers(0, 10_000), max_size=12)


@fuzzed
@given(data=st.data(), cuts=cuts, seed=st.randoms(use_true_random=False), validated=st.booleans())
def test_stream_of_odd_rows_ends_in_a_row_for_each_request_or_an_error(
    data: st.DataObject, cuts: list[int], seed: random.Random, validated: bool
) -> None:
    with submission() as requests:
        endings = [mutated(ending, data.draw) if data.draw(st.booleans()) else ending for ending in RESULTS]
        lines = lines_of(requests, endings)
        lines += [data.draw(st.sampled_from(lines)) for _ in range(data.draw(st.integers(0, 2)))]
        lines += [json.dumps(data.draw(json_values)).encode() for _ in range(data.draw(st.integers(0, 1)))]
        seed.shuffle(lines)
        ends = data.draw(st.sampled_from([b"\n", b"", b"\r\n", b"\n\n"]))
        body = b"\n".join(lines) + ends
        with Landing(
            SubmissionMatcher(requests, OutputValidator(SCHEMA) if validated else None), prices=PRICES
        ) as landing:
            try:
                fetch(Stream([body], cuts), landing)
            except ResultsError as error:
                assert "stay at the API" in str(error)
            check_rows(landing, COUNT)


@fuzzed
@given(data=st.data(), cuts=cuts, times=st.integers(1, 3))
@example(data=None, cuts=[], times=1)
def test_damaged_stream_is_read_again_and_loses_nothing_silently(data: Any, cuts: list[int], times: int) -> None:
    with submission() as requests:
        body = b"\n".join(lines_of(requests, RESULTS)) + b"\n"
        broken = [] if data is None else [damaged(body, data.draw) for _ in range(times)]
        with Landing(SubmissionMatcher(requests), prices=PRICES) as landing:
            with contextlib.suppress(ResultsError):
                fetch(Stream([*broken, body], cuts), landing)
            rows = check_rows(landing, COUNT)
            if data is None:
                assert [row["status"] for row in rows] == ["succeeded", "errored", "expired", "succeeded"]


@fuzzed
@given(data=st.data())
def test_whole_stream_after_a_cut_one_gives_every_answer(data: st.DataObject) -> None:
    """A cut at any place is noticed: by the count, by the row that it tears, or by the connection."""
    with submission() as requests:
        body = b"\n".join(lines_of(requests, RESULTS)) + b"\n"
        cut = data.draw(st.integers(0, len(body) - 2))
        with Landing(SubmissionMatcher(requests), prices=PRICES) as landing:
            fetch(Stream([body[:cut], body], []), landing)
            assert [row["status"] for row in check_rows(landing, COUNT)] == [
                "succeeded",
                "errored",
                "expired",
                "succeeded",
            ]


@fuzzed
@given(
    custom_id=st.text()
    | st.builds("{}-{}-{}".format, st.just(TOKEN), st.text("0123456789٣²", max_size=30), st.text(max_size=24))
    | st.just(f"{TOKEN}-{'9' * 5000}-{'x' * 22}")
)
@example(custom_id=f"{TOKEN}-{'9' * 5000}-{'x' * 22}")
def test_any_unknown_custom_id_is_named_and_nothing_more(custom_id: str) -> None:
    with submission() as requests, Landing(SubmissionMatcher(requests), prices=PRICES) as landing:
        try:
            line = json.dumps({"custom_id": custom_id, "result": RESULTS[0]}, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return
        assert read_results(landing, BATCH_ID, [line]).unknown == [custom_id]
        assert {row["status"] for row in check_rows(landing, COUNT)} == {"missing"}


@fuzzed
@given(data=st.data(), external=st.booleans())
def test_landed_rows_that_are_damaged_are_refused_or_restored_whole(data: st.DataObject, external: bool) -> None:
    with submission() as requests:
        with Landing(SubmissionMatcher(requests), prices=PRICES) as first:
            read_results(first, BATCH_ID, lines_of(requests, RESULTS))
            landed = b"".join(first.lines(missing="gone"))
        if data.draw(st.booleans()):
            content = damaged(landed, data.draw)
        else:
            rows = [json.loads(line) for line in landed.decode().split("\n") if line]
            content = b"".join(
                json.dumps(mutated(row, data.draw), ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
                for row in rows
            )
        matcher = ExternalMatcher(COUNT) if external else SubmissionMatcher(requests)
        with Landing(matcher, prices=PRICES) as landing:
            try:
                landing.restore(content.splitlines(keepends=True) if data.draw(st.booleans()) else _file(content))
            except ResultsError as error:
                assert "Restore the file, or remove it" in str(error)
                return
            check_rows(landing, COUNT)


def _file(content: bytes) -> list[bytes]:
    return [line + b"\n" for line in content.split(b"\n")]


@fuzzed
@given(data=st.data(), suffix=st.sampled_from([".jsonl", ".parquet", ".csv"]))
def test_rows_are_read_or_refused_by_line(data: st.DataObject, suffix: str) -> None:
    from airflow_claude_batch.batch.land.parquet_writer import write_parquet

    with submission() as requests, tempfile.TemporaryDirectory() as path:
        with Landing(SubmissionMatcher(requests), prices=PRICES) as landing:
            read_results(landing, BATCH_ID, lines_of(requests, RESULTS))
            lines = list(landing.lines(missing="gone"))
        folder = LocalFolder(Path(path))
        if suffix == ".parquet":
            write_parquet(folder, lines)
            good = (folder.path / PARQUET_FILE).read_bytes()
        elif suffix == ".csv":
            write_csv(folder, lines)
            good = (folder.path / CSV_FILE).read_bytes()
        else:
            good = b"".join(lines)
        content = (
            damaged(good, data.draw) if data.draw(st.booleans()) else data.draw(st.binary() | st.just(b"[" * 5000))
        )
        file = folder.path / f"results{suffix}"
        file.write_bytes(content)
        for source in (str(file), {"results_path": str(file)}):
            with contextlib.suppress(ResultsError):
                for row in read_rows(source):
                    assert isinstance(row.index, int)
