"""Who may see and do what on the page in Airflow's UI: four users and somebody unknown, on a real api-server."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from shared_airflow.page_stack import DAG_ID, HIDDEN_DAG_ID, PageStack, airflow_minor
from shared_airflow.page_stack import prepare as prepare

pytestmark = pytest.mark.stack

HTML = {"Accept": "text/html"}
ACTION = {"X-Claude-Batch-Action": "1"}
#: Each page of the task ``ask``, without its query.
PAGES = ("submission", "rows", "cancel", "clear")
needs_cookie = pytest.mark.skipif(airflow_minor() < (3, 1), reason="on this Airflow, no cookie says who a user is")


@pytest.fixture
def nobody(page: PageStack) -> Iterator[httpx.Client]:
    with page.client(None) as client:
        yield client


@pytest.fixture
def editor(page: PageStack) -> Iterator[httpx.Client]:
    with page.client("editor") as client:
        yield client


@pytest.fixture
def viewer(page: PageStack) -> Iterator[httpx.Client]:
    with page.client("viewer") as client:
        yield client


@pytest.fixture
def reader(page: PageStack) -> Iterator[httpx.Client]:
    with page.client("reader") as client:
        yield client


def statuses(client: httpx.Client, page: PageStack, dag_id: str = DAG_ID) -> dict[str, int]:
    return {name: client.get(f"{name}?{page.query('ask', dag_id=dag_id)}").status_code for name in PAGES}


def test_somebody_unknown_sees_nothing_but_the_style(page: PageStack, nobody: httpx.Client) -> None:
    assert nobody.get("").status_code == 401
    assert statuses(nobody, page) == dict.fromkeys(PAGES, 401)
    assert nobody.post(f"cancel?{page.query('ask')}", data={"batch_id": "x"}, headers=ACTION).status_code == 401
    for name in PAGES:
        answer = nobody.get(f"{name}?{page.query('ask')}", headers=HTML)
        assert answer.status_code == 401
        assert page.batch_id("ask") not in answer.text
    assert nobody.get("static/page.css").status_code == nobody.get("static/page.js").status_code == 200
    assert nobody.get("static/..%2Fapp.py").status_code == 404


def test_a_wrong_token_is_refused(page: PageStack) -> None:
    with page.client(None) as client:
        answer = client.get("", headers={"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."})
    assert answer.status_code in (401, 403)


def test_an_admin_sees_both_dags(page: PageStack) -> None:
    with page.client("admin") as admin:
        assert {DAG_ID, HIDDEN_DAG_ID} <= set(re.findall(r"page(?:_hidden)?", admin.get("", headers=HTML).text))
        assert statuses(admin, page, HIDDEN_DAG_ID) == dict.fromkeys(PAGES, 200)


@pytest.mark.parametrize("user", ["editor", "viewer", "reader"])
def test_a_dag_that_a_user_may_not_read_is_nowhere(page: PageStack, user: str) -> None:
    with page.client(user) as client:
        overview = client.get("", headers=HTML)
        assert overview.status_code == 200
        assert DAG_ID in overview.text
        assert HIDDEN_DAG_ID not in overview.text
        assert client.get("", params={"dag_id": HIDDEN_DAG_ID}).text.count(page.batch_id("ask", HIDDEN_DAG_ID)) == 0
        assert statuses(client, page, HIDDEN_DAG_ID) == dict.fromkeys(PAGES, 403)


def test_a_viewer_reads_and_changes_nothing(page: PageStack, viewer: httpx.Client) -> None:
    assert statuses(viewer, page) == {"submission": 200, "rows": 200, "cancel": 403, "clear": 403}
    shown = viewer.get(f"submission?{page.query('ask')}", headers=HTML).text
    assert page.batch_id("ask") in shown
    assert "cancel?" not in shown
    assert "clear?" not in shown
    answer = viewer.post(f"cancel?{page.query('ask')}", data={"batch_id": page.batch_id("ask")}, headers=ACTION)
    assert answer.status_code == 403
    assert page.canceled() == []


def test_prompts_and_answers_need_the_right_to_read_xcoms(page: PageStack, reader: httpx.Client) -> None:
    assert statuses(reader, page)["rows"] == 403
    shown = reader.get(f"submission?{page.query('ask')}", headers=HTML)
    assert shown.status_code == 200
    assert page.batch_id("ask") in shown.text
    assert "results" not in shown.text  # no path either
    assert reader.get(f"rows?{page.query('ask', key='0')}").status_code == 403


def test_data_is_escaped(page: PageStack, viewer: httpx.Client) -> None:
    shown = viewer.get(f"rows?{page.query('ask', key='0')}", headers=HTML)
    assert shown.status_code == 200
    assert "<b>of ask</b>" not in shown.text
    assert "&lt;b&gt;of ask" in shown.text


@pytest.mark.parametrize("name", ["dag_id", "run_id", "task_id"])
@pytest.mark.parametrize("value", ["../../../../etc", "/etc/passwd", "s3://bucket/x", "a\0b", "%2e%2e"])
def test_no_path_of_an_address_is_read(page: PageStack, name: str, value: str) -> None:
    query = {"dag_id": DAG_ID, "run_id": page.run_id, "task_id": "ask"} | {name: value}
    with page.client("admin") as admin:
        assert {admin.get(each, params=query).status_code for each in PAGES} <= {403, 404}


def test_an_incomplete_address_is_named(editor: httpx.Client) -> None:
    answer = editor.get("submission?dag_id=page", headers=HTML)
    assert answer.status_code == 400
    assert "run_id, task_id" in answer.text


def test_no_page_has_inline_scripts_or_styles_and_each_forbids_them(page: PageStack, editor: httpx.Client) -> None:
    for address in ("", *(f"{name}?{page.query('ask')}" for name in PAGES), "submission"):
        answer = editor.get(address, headers=HTML)
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'self'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=\"static/)", answer.text), address
        assert not re.search(r"(?:href|src|action)=\"/", answer.text), address  # Airflow may be served below a path


@needs_cookie
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 403, id="a form of any site"),
        pytest.param({**ACTION, "Sec-Fetch-Site": "cross-site"}, 403, id="another site"),
        pytest.param({**ACTION, "Sec-Fetch-Site": "same-site"}, 403, id="another port of the same host"),
        pytest.param({**ACTION, "Origin": "http://evil.example"}, 403, id="another origin"),
        pytest.param({**ACTION, "Origin": "null"}, 403, id="a sandboxed frame"),
        pytest.param({**ACTION, "Sec-Fetch-Site": "same-origin"}, 409, id="the page"),
        pytest.param(ACTION, 409, id="a client that is no browser"),
    ],
)
def test_a_cookie_alone_changes_nothing(page: PageStack, headers: dict[str, str], status: int) -> None:
    with page.client("editor", cookie=True) as client:
        answer = client.post(f"cancel?{page.query('ask')}", data={"batch_id": "msgbatch_other"}, headers=headers)
    assert answer.status_code == status
    assert page.canceled() == []


def test_only_batches_of_the_task_instance_are_canceled(page: PageStack, editor: httpx.Client) -> None:
    for ids in ([page.batch_id("wait")], [page.batch_id("ask", HIDDEN_DAG_ID)], [page.batch_id("ask"), "x"], []):
        answer = editor.post(f"cancel?{page.query('ask')}", data={"batch_id": ids}, headers=ACTION)
        assert answer.status_code in (400, 409)
    assert page.canceled() == []


@pytest.mark.parametrize(
    ("task_id", "map_index"), [("ask", -1), ("in_worker", -1), ("send", -1), ("wait", -1), ("decorated", 1)]
)
def test_each_task_has_a_button_that_leads_to_its_page(page: PageStack, task_id: str, map_index: int) -> None:
    run = page.run_id.replace("+", "%2B")
    address = f"{page.airflow.url}/api/v2/dags/{DAG_ID}/dagRuns/{run}/taskInstances/{task_id}/links"
    with page.client("viewer") as viewer:
        links = viewer.get(address, params={"map_index": map_index}).json()["extra_links"]
        answer = viewer.get(f"{page.airflow.url}/{links['Claude batch']}", headers=HTML)
    assert answer.status_code == 200
    assert page.run_id in answer.text


def test_a_forged_snapshot_cancels_no_batch_of_a_dag_that_the_user_may_not_edit(page: PageStack) -> None:
    forged = page.snapshot(DAG_ID, "wait")
    forged["parts"][0]["batch_id"] = page.batch_id("ask", HIDDEN_DAG_ID)
    run = page.run_id.replace("+", "%2B")
    address = f"{page.airflow.url}/api/v2/dags/{DAG_ID}/dagRuns/{run}/taskInstances/send/xcomEntries/claude_batch"
    with page.client("editor") as editor:
        written = editor.patch(address, json={"value": forged, "map_index": -1})
        assert written.status_code == 200, written.text
        data = {"batch_id": forged["parts"][0]["batch_id"]}
        answer = editor.post(f"cancel?{page.query('send')}", data=data, headers=ACTION)
        # The API of Airflow 3.0 and 3.1 serializes a value twice, so that nobody can read it as a snapshot.
        assert answer.status_code == (403 if airflow_minor() >= (3, 2) else 404)
    assert page.canceled() == []


def test_an_editor_cancels_and_clears(page: PageStack, editor: httpx.Client) -> None:
    batch_id = page.batch_id("ask")
    question = editor.get(f"cancel?{page.query('ask')}", headers=HTML).text
    assert re.findall(r'name="batch_id" value="(\w+)"', question) == [batch_id]
    assert "not billed" in question

    done = editor.post(f"cancel?{page.query('ask')}", data={"batch_id": batch_id}, headers=ACTION | HTML)

    assert (done.status_code, "Canceled." in done.text) == (200, True)
    assert page.canceled() == [batch_id]
    page.wait_until(lambda: page.states()["ask", -1] == "failed", "the task to fail")
    events = page.airflow.api._call("GET", "/api/v2/eventLogs", params={"event": "cancel_message_batches"})
    (entry,) = events["event_logs"]
    assert (entry["owner"], entry["dag_id"], entry["task_id"]) == ("editor", DAG_ID, "ask")
    assert batch_id in entry["extra"]

    # The page's script calls Airflow's own API with what the page has.
    asked = editor.get(f"clear?{page.query('ask')}", headers=HTML).text
    form = re.search(r'data-airflow-api="([^"]+)" data-body="([^"]+)"', asked)
    assert form is not None
    address, body = form[1], form[2].replace("&#34;", '"')
    with page.client("viewer") as viewer:
        json_type = {"Content-Type": "application/json"}
        assert viewer.post(address, content=body, headers=json_type).status_code == 403
    assert editor.post(address, content=body, headers=json_type).status_code == 200
    page.wait_until(lambda: page.states()["ask", -1] == "deferred", "the cleared task to wait again")
    assert page.batch_id("ask") != batch_id  # the canceled requests are sent again, as the page has said
