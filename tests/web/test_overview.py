"""The overview: what is shown of submissions, to whom, and how pages follow each other."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from submission_examples import example_rows, example_snapshot
from submission_rows import TaskRow, insert_rows

from airflow_claude_batch._airflow.snapshots import SNAPSHOT_KEY

pytestmark = pytest.mark.airflow

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


class Reader:
    """A user who may read some DAGs."""

    def __init__(self, *dag_ids: str, may_read_rows: bool = True) -> None:
        self.dag_ids = set(dag_ids)
        self._may_read_rows = may_read_rows

    def readable_dag_ids(self) -> set[str]:
        return self.dag_ids

    def may_read_dag(self, dag_id: str) -> bool:
        return dag_id in self.dag_ids

    def may_read_rows(self, dag_id: str) -> bool:
        return self._may_read_rows and dag_id in self.dag_ids

    def may_change(self, dag_id: str) -> bool:
        return False


class Page:
    """What a user gets."""

    def __init__(self, client: TestClient, path: str) -> None:
        response = client.get(path)
        assert response.status_code == 200, response.text
        self.text = response.text
        rows = re.findall(r'<td class="name">.*?</tr>', self.text, re.DOTALL)
        self.rows = [" ".join(re.sub(r"<[^>]+>", " ", html.unescape(row)).split()) for row in rows]

    def link(self, words: str) -> str | None:
        found = re.search(rf'<a href="\./([^"]*)">{words}', self.text)
        return html.unescape(found[1]) if found else None


class Browser:
    """Pages of the overview, as a user who may read some DAGs sees them."""

    def __init__(self) -> None:
        from airflow_claude_batch.web.access import access_of_request
        from airflow_claude_batch.web.app import create_app

        app = create_app()
        app.dependency_overrides[access_of_request] = lambda: self.user
        self.user = Reader()
        self.client = TestClient(app)

    def get(self, query: str = "") -> Page:
        return Page(self.client, f"/{query}")


@pytest.fixture
def browser(airflow_db: None) -> Browser:
    return Browser()


@pytest.fixture
def insert(airflow_db: None) -> Iterator[Any]:
    """Insert rows, and remove them after the test."""
    from airflow.models.dagrun import DagRun

    from airflow_claude_batch._airflow.servers import create_session

    def insert(*rows: TaskRow) -> None:
        with create_session() as session:
            insert_rows(session, rows)
        dag_ids.update(row.dag_id for row in rows)

    dag_ids: set[str] = set()
    yield insert
    with create_session() as session:
        session.query(DagRun).where(DagRun.dag_id.in_(dag_ids)).delete()


def task(dag_id: str, state: str | None, snapshot: Any, *, task_id: str = "send", at: datetime = NOW) -> TaskRow:
    return TaskRow(dag_id, "run_1", task_id, state, at, {SNAPSHOT_KEY: snapshot})


def test_no_submissions(browser: Browser) -> None:
    page = browser.get()
    assert "No submissions yet." in page.text
    assert page.rows == []


def test_a_filter_that_cannot_be_read_is_named(browser: Browser) -> None:
    page = browser.get("?state=finished&day=30.11.2026&dag_id=label")
    assert "Not filtered by state, day:" in page.text
    assert "Not filtered by" not in browser.get("?state=failed&day=2026-11-30&before=").text


def test_a_user_sees_the_submissions_of_readable_dags_only(browser: Browser, insert: Any) -> None:
    ended = example_snapshot(0, "ended", NOW)
    insert(task("overview_mine", "success", ended), task("overview_secret", "success", ended))
    browser.user = Reader("overview_mine", "overview_without_submissions")

    assert [row.split(" ")[0] for row in browser.get().rows] == ["overview_mine"]
    assert "overview_secret" not in browser.get().text
    assert browser.get("?dag_id=overview_secret").rows == []


def test_an_error_is_for_those_who_may_read_xcoms(browser: Browser, insert: Any) -> None:
    insert(task("overview_error", "failed", example_snapshot(1, "waiting", NOW, "Row customer-17 is odd.")))
    browser.user = Reader("overview_error")
    assert "customer-17" in browser.get().text
    browser.user = Reader("overview_error", may_read_rows=False)
    assert len(browser.get().rows) == 1
    assert "customer-17" not in browser.get().text


def test_a_submission_that_runs_has_no_percentage(browser: Browser, insert: Any) -> None:
    now = datetime.now(UTC)
    insert(task("overview_runs", "deferred", example_snapshot(2, "waiting", now), at=now))
    browser.user = Reader("overview_runs")

    (row,) = browser.get().rows
    assert "running" in row
    assert re.search(r"claude-opus-5-5 174 2 of 3 ended 19 min so far .* 12 min to 1 h", row)
    assert "left" in row
    assert "%" not in row
    assert 'data-live="10"' in browser.get().text


def test_operator_and_sensor_are_one_line_with_both_tasks(browser: Browser, insert: Any) -> None:
    earlier = NOW - timedelta(days=1)
    insert(
        task("overview_two", "success", example_snapshot(1, "sent", earlier), at=earlier),
        task("overview_two", "success", example_snapshot(1, "ended", NOW), task_id="wait"),
    )
    browser.user = Reader("overview_two")

    (row,) = browser.get().rows
    assert row.startswith("overview_two · send, wait run_1 · send ↗ , wait ↗ ended")
    assert browser.get(f"?day={NOW:%Y-%m-%d}").rows == [row]
    assert browser.get(f"?day={earlier:%Y-%m-%d}").rows == [], "it has changed since"
    assert browser.get("?before=2026-11-30T11:00:00Z").rows == []


def test_the_same_submission_id_in_another_dag_is_another_submission(browser: Browser, insert: Any) -> None:
    insert(
        task("overview_victim", "success", example_snapshot(1, "ended", NOW)),
        task("overview_forger", "failed", example_snapshot(1, "waiting", NOW), at=NOW + timedelta(hours=1)),
    )
    browser.user = Reader("overview_victim", "overview_forger")
    assert [row.split(" ")[0] for row in browser.get().rows] == ["overview_forger", "overview_victim"]


def test_filters(browser: Browser, insert: Any) -> None:
    insert(
        task("overview_a", "success", example_snapshot(0, "ended", NOW)),
        task("overview_b", "failed", example_snapshot(1, "ended", NOW, "<b>no</b>"), at=NOW - timedelta(days=3)),
    )
    browser.user = Reader("overview_a", "overview_b")

    def names(query: str) -> list[str]:
        return [row.split(" ")[0] for row in browser.get(query).rows]

    assert names("") == ["overview_a", "overview_b"]
    assert names("?dag_id=overview_b") == ["overview_b"]
    assert names("?state=failed") == ["overview_b"]
    assert names("?state=ended&dag_id=") == ["overview_a"]
    assert names("?model=claude-haiku-5-5") == ["overview_a"]
    assert names("?day=2026-11-27") == ["overview_b"]
    assert names("?state=wrong&day=wrong&before=wrong&model=") == ["overview_a", "overview_b"]
    assert "&lt;b&gt;no&lt;/b&gt;" in browser.get("?state=failed").text
    assert "No submission matches the filters" in browser.get("?model=%3Cscript%3E").text
    assert "<script>" not in browser.get("?model=%3Cscript%3E").text


@pytest.mark.parametrize(("read", "shown"), [(1000, 10), (25, 10), (25, 100), (3, 2)])
def test_submissions_of_the_same_time_are_on_one_page_or_the_other(
    browser: Browser, insert: Any, monkeypatch: pytest.MonkeyPatch, read: int, shown: int
) -> None:
    from airflow_claude_batch.web import overview

    monkeypatch.setattr(overview, "MAX_READ", read)
    monkeypatch.setattr(overview, "MAX_SHOWN", shown)
    snapshots = [{**example_snapshot(0, "ended", NOW), "submission_id": f"s{number}"} for number in range(40)]
    times = [NOW - timedelta(seconds=number // 3) for number in range(40)]
    insert(*(task("overview_tied", "success", snapshots[n], at=times[n], task_id=f"t{n}") for n in range(40)))
    browser.user = Reader("overview_tied")

    seen, query = list[str](), ""
    for _ in range(40):
        page = browser.get(query)
        seen += [row.split()[2] for row in page.rows]
        query = page.link("older") or ""
        if not query:
            break
    assert sorted(seen) == sorted(f"t{number}" for number in range(40))


def test_pages_follow_each_other_without_gap_and_without_repetition(browser: Browser, insert: Any) -> None:
    rows = example_rows(250, NOW)
    insert(*rows)
    browser.user = Reader(*(row.dag_id for row in rows))

    seen: list[str] = []
    query: str | None = ""
    for _ in range(9):
        page = browser.get(query or "")
        seen += page.rows
        query = page.link("older")
        if query is None:
            break
    keys = [re.search(r"scheduled__\S+", row)[0] for row in seen]  # type: ignore[index]
    assert len(keys) == len(set(keys)) == 250
    assert keys == sorted(keys, reverse=True)


def test_many_submissions_take_as_many_queries_as_few(browser: Browser, insert: Any) -> None:
    few = example_rows(10, NOW)
    many = example_rows(1000, NOW)[len(few) :]
    browser.user = Reader(*(row.dag_id for row in many))

    insert(*few)
    queries_for_few = count_queries(browser)
    insert(*many)
    assert count_queries(browser) == queries_for_few <= 4
    page = browser.get()
    assert len(page.rows) == 100
    assert "newest 1,000 task instances" in page.text


def test_submissions_that_cannot_be_read_are_passed_over(browser: Browser, insert: Any) -> None:
    at = datetime.now(UTC)
    odd = ["text", "{}", 5, None, [], {"submission_id": "s"}, {**example_snapshot(0, "ended", at), "state": "odd"}]
    insert(
        *(task("overview_odd", "success", value, task_id=f"t{n}", at=at) for n, value in enumerate(odd)),
        task("overview_odd", "success", example_snapshot(0, "ended", at), at=at - timedelta(hours=1)),
    )
    browser.user = Reader("overview_odd")
    assert len(browser.get().rows) == 1


def test_a_snapshot_whose_texts_no_response_can_encode(browser: Browser, insert: Any) -> None:
    odd = {**example_snapshot(3, "waiting", NOW), "failure": "\ud800<script>alert(1)</script>"}
    insert(task("overview_surrogate", "failed", odd))
    browser.user = Reader("overview_surrogate")
    page = browser.get()
    assert "?&lt;script&gt;" in page.text
    assert "<script>" not in page.text


def test_static_files_are_those_that_pages_name(browser: Browser) -> None:
    names = re.findall(r'(?:href|src)="(static/[^"]+)"', browser.get().text)
    assert len(names) == 2
    for name in names:
        response = browser.client.get(f"/{name}")
        assert response.status_code == 200
        assert response.headers["content-type"].startswith(("text/css", "text/javascript"))
        assert "max-age" in response.headers["cache-control"]
    for name in ("base.css", "layout.html.j2", "..%2Fapp.py", "%2e%2e/app.py"):
        assert browser.client.get(f"/static/{name}").status_code == 404


def count_queries(browser: Browser) -> int:
    """Count the statements that a page needs."""
    from airflow import settings
    from sqlalchemy import event

    statements: list[str] = []

    def note(*args: Any) -> None:
        statements.append(args[2])

    event.listen(settings.engine, "before_cursor_execute", note)
    try:
        browser.get()
    finally:
        event.remove(settings.engine, "before_cursor_execute", note)
    return len(statements)
