"""A page that updates itself while somebody types into it, in a real browser."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from submission_examples import example_snapshot
from submission_rows import TaskRow, insert_rows
from web.submission_pages import browser, reader

from airflow_claude_batch._airflow.snapshots import SNAPSHOT_KEY

playwright_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [pytest.mark.airflow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")]


@pytest.fixture
def address(airflow_db: None, tmp_path: Any) -> Iterator[str]:
    """The page of a submission that runs, below the path of a proxy."""
    import uvicorn
    from fastapi import FastAPI

    from airflow_claude_batch._airflow.servers import create_session

    names = {"dag_id": "page_typing", "run_id": "run", "task_id": "send"}
    tmp_path.joinpath(*names.values()).mkdir(parents=True)
    tmp_path.joinpath(*names.values(), "results.jsonl").write_text('{"index":0,"key":"a","status":"succeeded"}\n')
    now = datetime.now(UTC)
    snapshot = {**example_snapshot(0, "waiting", now), "root": str(tmp_path), "place": names}
    with create_session() as session:
        insert_rows(session, [TaskRow(*names.values(), "deferred", now, {SNAPSHOT_KEY: snapshot})])
    with browser(reader("page_typing")) as client:
        outer = FastAPI()
        outer.mount("/airflow/claude-batch", client.app)
        # By default, uvicorn makes all later event loops those of uvloop. With one, Playwright cannot start a browser.
        server = uvicorn.Server(uvicorn.Config(outer, port=0, loop="asyncio", log_level="warning"))
        listening = socket.create_server(("127.0.0.1", 0))  # who connects waits until the server accepts
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        port = listening.getsockname()[1]
        query = "&".join(f"{name}={value}" for name, value in names.items())
        yield f"http://127.0.0.1:{port}/airflow/claude-batch/submission?{query}"
        server.should_exit = True
        thread.join()


def test_an_update_keeps_what_is_typed_and_where(address: str) -> None:
    with playwright_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--no-proxy-server"])
        tab = chromium.new_page()
        tab.goto(address)
        field = tab.locator("input[name=key]")
        field.type("keys")
        tab.keyboard.press("ArrowLeft")
        tab.evaluate("window.before = document.querySelector('[data-live]')")
        tab.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        while tab.evaluate("window.before === document.querySelector('[data-live]')"):
            time.sleep(0.02)  # the page's policy forbids the evaluation with which Playwright waits
        tab.keyboard.type("-of-row")
        assert field.input_value() == "key-of-rows"
        chromium.close()
