"""Pages of submissions whose files are larger than what one page reads, and of one that runs with an index."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from stored_xcoms import stored_xcoms
from submission_rows import TaskRow, insert_rows
from web.submission_pages import browser, reader

from airflow_claude_batch.batch.input.custom_id import make_custom_id
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.request_writer import create_request_file, write_requests
from airflow_claude_batch.web import rows_view

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("airflow_db")]

COUNT = 400
NOW = datetime(2026, 11, 30, tzinfo=UTC)
NAMES = {"dag_id": "page_large", "run_id": "run", "task_id": "send"}


def submission(root: Path) -> dict[str, Any]:
    return {
        "submission_id": "s",
        "state": "ended",
        "updated_at": "2026-11-30T00:00:00Z",
        "conn_id": "claude_default",
        "root": str(root),
        "place": {"dag_id": "page_large", "run_id": "run", "task_id": "send"},
        "request_count": COUNT,
        "counts": {"succeeded": COUNT - 1, "errored": 1},
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Requests and rows of 400 kB each. The last row failed."""
    root = tmp_path_factory.mktemp("large")
    folder = root.joinpath("page_large", "run", "send")
    folder.mkdir(parents=True)
    params = {"model": "claude-haiku-5-5", "max_tokens": 64}
    requests = [
        Request(i, f"key-{i}", {**params, "messages": [{"role": "user", "content": f"prompt {i} " + "x" * 900}]})
        for i in range(COUNT)
    ]
    write: Any = lambda file, index: write_requests(requests, file, index)  # noqa: E731
    with (
        create_request_file(folder / "requests.jsonl", write) as written,
        (folder / "results.jsonl").open("w") as rows,
    ):
        for i in range(COUNT):
            status = "errored" if i == COUNT - 1 else "succeeded"
            row = {"index": i, "key": f"key-{i}", "status": status, "text": f"answer {i} " + "y" * 900}
            custom_id = make_custom_id("0123456789ab", i, written.hash(i))
            rows.write(json.dumps({**row, "custom_id": custom_id}, separators=(",", ":")) + "\n")
    return root


@pytest.fixture
def client(root: Path, airflow_db: None) -> Iterator[Any]:
    from airflow_claude_batch._airflow.servers import create_session

    with create_session() as session:
        if not stored_xcoms(session, dag_id="page_large").count():
            row = TaskRow("page_large", "run", "send", "success", NOW, {"claude_batch": submission(root)})
            insert_rows(session, [row])
    with browser(reader("page_large")) as client:
        yield client


@pytest.fixture
def without_index(root: Path) -> Iterator[None]:
    """The index is removed at the end of a submission."""
    index = root.joinpath("page_large", "run", "send", "requests.index")
    aside = index.rename(index.with_name("aside"))
    yield
    aside.rename(index)


@pytest.fixture
def small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_view, "_SEARCH_BYTES", 60_000)


def further(page: str) -> str:
    """Return the address of the link that goes on with a search."""
    (href,) = re.findall(r'<a href="([^"]+)">Look further', page)
    return "/" + unescape(href)


def follow(client: Any, page: str) -> str:
    """Go on with a search until it ends."""
    for _ in range(20):
        if "Look further" not in page:
            return page
        page = client.get(further(page)).text
    raise AssertionError("the search does not end")


@pytest.mark.usefixtures("small_budget", "without_index")
def test_a_search_for_a_key_says_how_far_it_has_looked_and_goes_on(client: Any) -> None:
    first = client.get("/rows", params={**NAMES, "key": "key-399"}).text

    assert re.search(r"Not found in the first \d+\.?\d* kB of \d+ kB", first)
    page = follow(client, first)
    assert "answer 399" in page
    assert "prompt 399" in page


@pytest.mark.usefixtures("small_budget", "without_index")
def test_a_key_that_is_not_there_is_looked_for_in_all_files(client: Any) -> None:
    page = follow(client, client.get("/rows", params={**NAMES, "key": "key-400"}).text)

    assert "No row and no request has the key <code>key-400</code>" in page


@pytest.mark.usefixtures("small_budget")
def test_failed_rows_at_the_end_are_found_by_looking_further(client: Any) -> None:
    first = client.get("/submission", params=NAMES).text

    assert "Looked at" in first
    assert "key-399" in follow(client, first)


@pytest.mark.usefixtures("small_budget")
def test_a_request_is_found_by_the_index_while_there_is_one(client: Any, root: Path) -> None:
    page = client.get("/rows", params={**NAMES, "at": (position_of(root, 399))}).text

    assert "prompt 399" in page
    assert "Look further" not in page


@pytest.mark.usefixtures("without_index")
def test_next_rows_follow_the_first(client: Any) -> None:
    page = client.get("/rows", params=NAMES).text
    (href,) = re.findall(r'<a href="([^"]+)">Next rows', page)

    assert "answer 19 " in page
    assert "answer 20 " not in page
    following = client.get("/" + unescape(href)).text
    assert "answer 20 " in following
    assert "answer 19 " not in following


def position_of(root: Path, index: int) -> int:
    lines = root.joinpath("page_large", "run", "send", "results.jsonl").read_bytes().splitlines(keepends=True)
    return sum(map(len, lines[:index]))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"place": {"dag_id": "other", "run_id": "run", "task_id": "send"}}, id="place of another DAG"),
        pytest.param({"root": "/etc/../etc"}, id="dots"),
        pytest.param({"root": "file:///etc"}, id="etc"),
        pytest.param({"root": "http://127.0.0.1:1/"}, id="http"),
        pytest.param({"root": "x" * 100_000}, id="long"),
        pytest.param({"root": "\x00"}, id="null"),
        pytest.param({"reason": "<script>alert(1)</script>", "failure": "<img src=x>", "conn_id": "<b>"}, id="markup"),
        pytest.param({"estimate": {"usd": 7, "input_tokens": [], "expected_from_runs": "x"}}, id="estimate"),
        pytest.param({"by_model": {"<i>": None, "m": {"usage": "x", "usd": "NaN", "counts": 3}}}, id="bill"),
        pytest.param({"counts": {"<u>": 5, "succeeded": -3, "errored": 10**12}}, id="counts"),
        pytest.param({"parts": [{"state": "landed", "batch_id": "<s>" * 1000}], "part_count": 4_000_000}, id="parts"),
        pytest.param({"created_at": "0001-01-01T00:00:00Z", "ended_at": "9999-12-31T00:00:00Z"}, id="times"),
        pytest.param({"usual": [float("1e300"), -1.0, 5]}, id="usual"),
        pytest.param({"place": None}, id="no place"),
    ],
)
def test_whatever_the_xcom_says_the_page_is_a_page(client: Any, root: Path, change: dict[str, Any]) -> None:
    from airflow_claude_batch._airflow.servers import create_session

    def write(value: dict[str, Any]) -> None:
        with create_session() as session:
            stored_xcoms(session, dag_id="page_large").update({"value": value}, synchronize_session=False)

    write(submission(root) | change)
    try:
        pages = [client.get("/submission", params=NAMES), client.get("/rows", params={**NAMES, "key": "key-1"})]
    finally:
        write(submission(root))

    assert [page.status_code for page in pages] == [200, 200]
    assert not re.search(r"<(script>|img|i>|u>|s>)|root:x:", pages[0].text + pages[1].text)
