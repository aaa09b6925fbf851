"""Memory does not grow with the number or the size of the requests, when they are sent and when they are landed."""

from __future__ import annotations

import json
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.api.request_body import SLICE_BYTES
from airflow_claude_batch.batch.input.create_body import CreateBody
from airflow_claude_batch.batch.input.elements import Defaults, Request, read_request
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.match_requests import SubmissionMatcher
from airflow_claude_batch.batch.land.publish import publish_rows
from airflow_claude_batch.batch.land.result_stream import read_results
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.storage import LocalFolder

DEFAULTS = Defaults(model="claude-haiku-5-5", max_tokens=64)
TABLE = PriceTable.load()
TOKEN = "0123456789ab"
COUNT, TEXT = 300, "x" * 100_000
WHOLE = COUNT * len(TEXT)
MOST = WHOLE // 10  # allowed memory: buffers, and a few copies of one request


class Block(dict[str, Any]):
    """A content block that can be watched."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # a WeakSet needs one


class Stream(httpx.SyncByteStream):
    """A response body that counts how many of its pieces were read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.given = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.given += 1
            yield piece


@pytest.fixture
def requests(tmp_path: Path) -> Iterator[RequestFile]:
    """Requests of 30 MB in all."""
    with (tmp_path / "requests.jsonl").open("wb") as file:
        write_requests((Request(index, index, {"content": TEXT}) for index in range(COUNT)), file)
    with RequestFile(tmp_path / "requests.jsonl") as requests:
        yield requests


def line(requests: RequestFile, index: int) -> bytes:
    message = {
        "model": "claude-haiku-5-5",
        "content": [{"type": "text", "text": TEXT}],
        "usage": {"input_tokens": 10, "output_tokens": 1},
    }
    result = {"type": "succeeded", "message": message}
    return json.dumps({"custom_id": requests.custom_id(index, TOKEN), "result": result}).encode()


def peak(work: Callable[[], object]) -> int:
    """Return the peak of allocated bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class SharedClient(httpx.BaseTransport):
    """Leaves the body to be read piece by piece, unlike httpx's own stand-in."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self._answer = answer

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._answer(request)


def client(answer: Callable[[httpx.Request], httpx.Response]) -> ClaudeClient:
    config = ClientConfig(credentials=ApiKey("sk-test"), base_url="http://127.0.0.1:1", max_retries=0)
    return ClaudeClient(config, transport=SharedClient(answer))


# ---------------------------------------------------------------- submitting


def test_elements_are_released_as_they_are_written(tmp_path: Path) -> None:
    alive: weakref.WeakSet[Block] = weakref.WeakSet()
    alive_counts = []

    def elements() -> Iterator[Any]:
        for number in range(10_000):
            block = Block(type="text", text=f"question {number}")
            alive.add(block)
            alive_counts.append(len(alive))
            yield {"prompt": [block]}

    read = (read_request(element, index, DEFAULTS) for index, element in enumerate(elements()))
    with (tmp_path / "requests.jsonl").open("wb") as file:
        assert write_requests(read, file) == 10_000

    assert max(alive_counts) <= 3


def test_requests_are_written_and_indexed_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"

    def work() -> None:
        with path.open("wb") as file:
            write_requests((Request(index, index, {"content": f"{index}{TEXT}"}) for index in range(COUNT)), file)
        RequestFile(path).close()

    assert peak(work) < MOST
    assert path.stat().st_size > WHOLE


def test_body_reads_no_further_than_what_is_being_sent(requests: RequestFile) -> None:
    asked = []

    class Indices:
        def __iter__(self) -> Iterator[int]:
            for index in range(COUNT):
                asked.append(index)
                yield index

    pieces = CreateBody(requests, Indices(), TOKEN).chunks()
    next(pieces)
    first = len(asked)
    next(pieces)

    assert first <= 3
    assert len(asked) <= 2 * first


def test_upload_is_streamed_in_slices(requests: RequestFile) -> None:
    sizes = []

    def receive(request: httpx.Request) -> httpx.Response:
        sizes.extend(map(len, request.stream))
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        batch = {"id": "msgbatch_1", "processing_status": "in_progress", "request_counts": counts}
        return httpx.Response(200, json={**batch, "created_at": "2026-10-08T00:00:00Z"})

    with client(receive) as claude:
        peak_bytes = peak(lambda: claude.create_batch(CreateBody(requests, range(COUNT), TOKEN)))

    assert sum(sizes) > WHOLE
    assert max(sizes) <= SLICE_BYTES
    assert peak_bytes < MOST


# ---------------------------------------------------------------- landing


def test_results_are_read_no_further_than_they_are_landed(requests: RequestFile) -> None:
    stream = Stream(line(requests, index) + b"\n" for index in range(COUNT))
    ahead = []

    def watched(lines: Iterator[bytes]) -> Iterator[bytes]:
        for taken, raw in enumerate(lines):
            ahead.append(stream.given - taken)
            yield raw

    with (
        client(lambda _: httpx.Response(200, stream=stream)) as claude,
        claude.stream_results("msgbatch_1") as lines,
        Landing(SubmissionMatcher(requests), prices=TABLE) as landing,
    ):
        assert read_results(landing, "msgbatch_1", watched(lines)).rows == COUNT

    assert max(ahead) <= 1


def test_answers_are_landed_in_little_memory(requests: RequestFile, tmp_path: Path) -> None:
    def work() -> None:
        stream = Stream(line(requests, index) + b"\n" for index in reversed(range(COUNT)))
        with (
            client(lambda _: httpx.Response(200, stream=stream)) as claude,
            Landing(SubmissionMatcher(requests), prices=TABLE) as landing,
        ):
            with claude.stream_results("msgbatch_1") as lines:
                read_results(landing, "msgbatch_1", lines)
            publish_rows(landing, LocalFolder(tmp_path / "landed"), missing="missing")

    assert peak(work) < MOST
    assert (tmp_path / "landed" / "results.jsonl").stat().st_size > 2 * WHOLE
