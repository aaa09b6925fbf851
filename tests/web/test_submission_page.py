"""The page of one submission, of tasks that have run: what a reader sees, and what others do not."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from stored_xcoms import stored_xcoms
from submission_examples import example_snapshot
from submission_rows import TaskRow, insert_rows
from web.submission_pages import Rights, browser, reader
from workbench import Run, Workbench

from airflow_claude_batch._airflow.snapshots import SNAPSHOT_KEY
from airflow_claude_batch.batch.input.request_lines import format_line
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("claude_default")]

ELEMENTS = [{"key": "a", "prompt": "<b>first</b>"}, {"key": 12, "prompt": "second"}, {"key": "no", "prompt": "third"}]
REFUSED = {"type": "error", "error": {"type": "invalid_request_error", "message": "<i>refused</i>"}}


def names_of(run: Run, task_id: str = "send") -> dict[str, str]:
    return {"dag_id": run.dag.dag_id, "run_id": run.run.run_id, "task_id": task_id}


def send(task_id: str = "send", **options: Any) -> SendMessageBatchOperator:
    waits: dict[str, Any] = {"wait_for_completion": True, "deferrable": False}
    return SendMessageBatchOperator(task_id=task_id, **{"messages": ELEMENTS, "max_tokens": 10, **waits, **options})


@pytest.fixture(scope="module")
def ran() -> dict[str, Run]:
    """What has run for an earlier test of this module. To run a task takes a second."""
    return {}


@pytest.fixture
def answered(ran: dict[str, Run], bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A submission of three requests, of which one has no answer."""
    if "answered" in ran:
        return ran["answered"]
    bench.results = tmp_path_factory.mktemp("answered")
    with bench.dag("page_answered") as dag:
        send(allow_failed=1)
    run = ran["answered"] = bench.run(dag)
    folder = run.folder("send")
    lines = (folder / "results.jsonl").read_text().splitlines()
    failed = json.loads(lines[2]) | {"status": "errored", "text": None, "error": REFUSED["error"], "cost_usd": None}
    (folder / "results.jsonl").write_text("\n".join([*lines[:2], json.dumps(failed, separators=(",", ":")), ""]))
    return run


def test_a_reader_sees_figures_rows_and_links(answered: Run) -> None:
    with browser(reader("page_answered")) as client:
        response = client.get("/submission", params=names_of(answered))

    page = response.text
    assert response.status_code == 200
    assert "<b>3</b><span>requests" in page
    assert "claude-opus-5-5" in page
    assert "&lt;b&gt;first&lt;/b&gt;" in page
    assert "<b>first" not in page
    assert 'href="../dags/page_answered/runs/manual__' in page
    assert '/tasks/send?try_number=1">log' in page
    assert str(answered.folder("send")) in page
    assert 'data-live="0"' in page
    assert "https://platform.claude.com/settings/workspaces/default/batches" in page


@pytest.mark.parametrize("map_index", [2**31, 2**63, 2**70, -2])
@pytest.mark.parametrize("path", ["/submission", "/rows", "/cancel"])
def test_a_map_index_that_no_database_has(airflow_db: None, path: str, map_index: int) -> None:
    query = {"dag_id": "page_answered", "run_id": "run", "task_id": "send", "map_index": map_index}
    with browser(replace(reader("page_answered"), changes=frozenset({"page_answered"}))) as client:
        assert client.get(path, params=query).status_code == 400


def test_texts_of_any_length_make_no_long_page(airflow_db: None) -> None:
    from airflow_claude_batch._airflow.servers import create_session

    now, long = datetime(2026, 11, 30, tzinfo=UTC), "x" * 1_000_000
    snapshot = example_snapshot(0, "ended", now) | {"conn_id": long, "counts": {long: 3}, "reason": long}
    with create_session() as session:
        insert_rows(session, [TaskRow("page_long", "run", "send", "success", now, {SNAPSHOT_KEY: snapshot})])
    with browser(reader("page_long")) as client:
        page = client.get("/submission", params={"dag_id": "page_long", "run_id": "run", "task_id": "send"}).text
    assert len(page) < 20_000


def test_actions_are_offered_to_those_who_may_change_the_task(answered: Run) -> None:
    rights = reader("page_answered")
    with browser(rights) as client:
        without = client.get("/submission", params=names_of(answered)).text
    with browser(replace(rights, changes=rights.dags)) as client:
        page = client.get("/submission", params=names_of(answered)).text

    assert "Clear the task" in page
    assert "Cancel" not in page, "nothing runs"
    assert "Clear the task" not in without


def test_who_may_not_read_xcoms_sees_no_row(answered: Run) -> None:
    with browser(Rights(frozenset({"page_answered"}))) as client:
        page = client.get("/submission", params=names_of(answered)).text
        rows = [client.get("/rows", params={**names_of(answered), **query}) for query in ({}, {"at": 0}, {"key": "a"})]

    assert "<b>3</b><span>requests" in page
    assert "claude-opus-5-5" in page
    assert not any(
        text in page for text in ("Simulated answer", "first", "results.jsonl", "refused", str(answered.bench.results))
    )
    assert [row.status_code for row in rows] == [403, 403, 403]


@pytest.mark.parametrize("path", ["/submission", "/rows"])
def test_who_may_not_read_the_dag_sees_nothing(answered: Run, path: str) -> None:
    with browser(reader("another")) as client:
        assert client.get(path, params=names_of(answered)).status_code == 403
        assert client.get(path, params={"dag_id": "another", "run_id": "r", "task_id": "t"}).status_code == 404


def test_rows_without_an_answer_come_first_with_their_reasons(answered: Run) -> None:
    with browser(reader("page_answered")) as client:
        failed = client.get("/rows", params={**names_of(answered), "failed": 1}).text

    assert "invalid_request_error: &lt;i&gt;refused&lt;/i&gt;" in failed
    assert "Simulated answer" not in failed


@pytest.mark.parametrize(
    ("key", "texts"),
    [
        pytest.param("a", ["&lt;b&gt;first&lt;/b&gt;", "Simulated answer", "max_tokens"], id="text"),
        pytest.param("12", ["<pre>second</pre>", "Simulated answer"], id="number"),
        pytest.param("no", ["<pre>third</pre>", "&lt;i&gt;refused&lt;/i&gt;"], id="failed"),
        pytest.param("<u>", ["No row and no request has the key <code>&lt;u&gt;</code>"], id="none"),
    ],
)
def test_a_key_shows_the_request_beside_its_answer(answered: Run, key: str, texts: list[str]) -> None:
    with browser(reader("page_answered")) as client:
        page = client.get("/rows", params={**names_of(answered), "key": key}).text

    assert [text for text in texts if text not in page] == []


def test_files_on_another_machine(answered: Run) -> None:
    away = answered.folder("send").rename(answered.bench.results / "away")
    with browser(reader("page_answered")) as client:
        page = client.get("/submission", params=names_of(answered)).text
        row = client.get("/rows", params={**names_of(answered), "key": "a"}).text
    away.rename(answered.folder("send"))

    assert "This api-server sees no files in" in page
    assert "those in the task&#39;s XCom" in page or "those in the task's XCom" in page
    assert "&lt;b&gt;first&lt;/b&gt;" in page, "small results are in the task's XCom"
    assert "The request is not here" in row


def test_rows_that_may_not_be_read(answered: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root reads every file, so that the operating system's answer is given here."""
    from airflow_claude_batch.web.bounded_folder import PlainFolder

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(PlainFolder, "sizes", refuse)
    with browser(reader("page_answered")) as client:
        page = client.get("/submission", params=names_of(answered)).text

    assert "This api-server may not read" in page


def test_a_submission_that_runs(airflow_db: None, tmp_path: Path) -> None:
    from airflow_claude_batch._airflow.servers import create_session

    now = datetime.now(UTC)
    names = {"dag_id": "page_running", "run_id": "run", "task_id": "send"}
    part = {"state": "in_progress", "batch_id": "msgbatch_1", "requests": 1, "created_at": f"{now:%Y-%m-%dT%H:%M:%SZ}"}
    snapshot = {
        "submission_id": "s", "state": "waiting", "updated_at": part["created_at"], "conn_id": "claude_default",
        "root": str(tmp_path), "place": names, "request_count": 1, "part_count": 1, "parts": [part],
        "failure": "Request 'a' is odd.",
    }  # fmt: skip
    folder = tmp_path / "page_running" / "run" / "send"
    folder.mkdir(parents=True)
    params = b'{"model":"m","messages":[{"role":"user","content":"<b>first</b>"}]}'
    (folder / "requests.jsonl").write_bytes(format_line(b"h" * 22, b'"a"', params))
    with create_session() as session:
        insert_rows(session, [TaskRow(*names.values(), "deferred", now, {SNAPSHOT_KEY: snapshot})])
    with browser(reader("page_running")) as client:
        page = client.get("/submission", params=names).text
        row = client.get("/rows", params={**names, "key": "a"}).text
    with browser(Rights(frozenset({"page_running"}))) as client:
        unread = client.get("/submission", params=names).text

    assert "0 of 1 batch ended" in page
    assert 'data-live="5"' in page
    assert "until the last batch expires" in page
    assert "The API counts the requests of a batch once the batch has ended" in page
    assert "No row is landed yet" in page
    assert "is odd" in page
    assert "is odd" not in unread, "errors may name keys"
    assert "is not answered yet" in row
    assert "&lt;b&gt;first&lt;/b&gt;" in row


def test_the_sensor_and_the_task_that_has_sent_name_each_other(bench: Workbench) -> None:
    with bench.dag("page_two") as dag:
        sent = send(wait_for_completion=False)
        MessageBatchSensor(task_id="wait", batch=sent.output, poke_interval=0.1)
    run = bench.run(dag)
    with browser(reader("page_two")) as client:
        sender, sensor = (client.get("/submission", params=names_of(run, task)).text for task in ("send", "wait"))

    assert 'collected by <a href="submission?dag_id=page_two' in sender
    assert 'sent by <a href="submission?dag_id=page_two' in sensor
    assert "&lt;b&gt;first&lt;/b&gt;" in sensor
    assert "&lt;b&gt;first&lt;/b&gt;" in sender
    assert "billed" in sender


def test_a_table_lies_beside_the_rows_that_are_shown(bench: Workbench) -> None:
    with bench.dag("page_csv") as dag:
        send(results_format="csv", max_tokens=20)
    run = bench.run(dag)
    with browser(reader("page_csv")) as client:
        page = client.get("/submission", params=names_of(run)).text

    assert "results.csv" in page
    assert "&lt;b&gt;first&lt;/b&gt;" in page


def test_an_output_of_a_version_before_snapshots(answered: Run) -> None:
    from airflow_claude_batch._airflow.servers import create_session

    with create_session() as session:
        own = stored_xcoms(session, dag_id="page_answered", key=SNAPSHOT_KEY)
        own.update({"key": "of a later version"}, synchronize_session=False)
    with browser(reader("page_answered")) as client:
        page = client.get("/submission", params=names_of(answered)).text
    with create_session() as session:
        stored_xcoms(session, dag_id="page_answered", key="of a later version").update(
            {"key": SNAPSHOT_KEY}, synchronize_session=False
        )

    assert "<b>3</b><span>requests" in page
    assert "&lt;b&gt;first&lt;/b&gt;" in page


def test_no_file_of_another_folder_is_named_by_a_query(answered: Run, tmp_path: Path) -> None:
    (tmp_path / "secret.jsonl").write_text('{"index":0,"key":"a","status":"succeeded","text":"secret"}\n')
    odd = {"results_path": str(tmp_path), "path": str(tmp_path / "secret.jsonl"), "root": str(tmp_path), "start": 0}
    with browser(reader("page_answered")) as client:
        page = client.get("/rows", params={**names_of(answered), **odd}).text
        refused = client.get("/rows", params={**names_of(answered), "start": "../../secret"})
        elsewhere = client.get("/rows", params={**names_of(answered), "task_id": f"../{tmp_path}/secret"})

    assert "secret" not in page
    assert (refused.status_code, elsewhere.status_code) == (400, 404)
