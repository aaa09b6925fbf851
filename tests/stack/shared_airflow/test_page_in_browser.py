"""The page in Airflow's UI in a real browser: menu, frame, links, actions, updates, and errors of the console."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from shared_airflow.page_stack import DAG_ID, HIDDEN_DAG_ID, PageStack, airflow_minor
from shared_airflow.page_stack import prepare as prepare

playwright_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]
has_menu = pytest.mark.skipif(airflow_minor() < (3, 1), reason="this Airflow has no entries of plugins in its menu")

WAIT_MILLISECONDS = 180_000  # a busy machine


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--no-proxy-server"])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Any) -> Iterator[Any]:
    """An empty tab of a browser without cookies. Checks in the end that no policy was violated."""
    context = chromium.new_context(viewport={"width": 1200, "height": 800})
    context.set_default_timeout(WAIT_MILLISECONDS)
    tab = context.new_page()
    violations: list[str] = []
    tab.on("console", lambda message: violations.append(message.text) if "Content Security" in message.text else None)
    tab.on("pageerror", lambda error: violations.append(str(error)) if "claude-batch" in str(error.stack) else None)
    yield tab
    context.close()
    assert violations == []


def sign_in(tab: Any, page: PageStack, user: str) -> None:
    """Sign in from the page itself, which leads back to it."""
    tab.goto(f"{page.airflow.url}/claude-batch/")
    tab.get_by_role("link", name="Sign in to Airflow").click()
    tab.fill("input[name=username]", user)
    tab.fill("input[name=password]", page.password(user))
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/claude-batch/")
    tab.get_by_role("link", name="Claude batches").wait_for()
    tab.locator("td a", has_text=DAG_ID).first.wait_for()


def submission(page: PageStack, task_id: str) -> str:
    return f"{page.airflow.url}/claude-batch/submission?{page.query(task_id)}"


def test_a_viewer_signs_in_and_sees_what_a_viewer_may(tab: Any, page: PageStack) -> None:
    sign_in(tab, page, "viewer")
    assert HIDDEN_DAG_ID not in tab.inner_text("body")
    tab.goto(submission(page, "ask"))
    tab.get_by_text(page.batch_id("ask")).first.wait_for()
    assert tab.get_by_role("link", name=re.compile("Cancel|Clear")).count() == 0
    tab.goto(submission(page, "ask").replace("submission", "cancel"))
    tab.get_by_text("You may not edit task instances").wait_for()


@has_menu
def test_the_menu_leads_to_the_pages_and_these_to_the_task_instance(tab: Any, page: PageStack) -> None:
    sign_in(tab, page, "admin")
    tab.goto(page.airflow.url)
    tab.get_by_role("button", name="Browse").click()
    tab.get_by_role("menuitem", name="Claude batches").click()
    frame = tab.frame_locator("iframe[title='Claude batches']")
    frame.locator("tr", has_text=page.run_id).get_by_role("link", name="in_worker").first.click()
    frame.get_by_text(page.batch_id("in_worker")).first.wait_for()
    frame.get_by_role("link", name="task instance").click()
    tab.wait_for_url(re.compile(rf"/dags/{DAG_ID}/runs/{re.escape(quote(page.run_id, safe=''))}/tasks/in_worker"))
    tab.get_by_text("in_worker").first.wait_for()


@has_menu
def test_links_to_other_sites_leave_the_frame(tab: Any, page: PageStack) -> None:
    sign_in(tab, page, "admin")
    tab.context.route("https://platform.claude.com/**", lambda route: route.fulfill(body="the console"))
    tab.goto(page.airflow.url)
    tab.get_by_role("button", name="Browse").click()
    tab.get_by_role("menuitem", name="Claude batches").click()
    frame = tab.frame_locator("iframe[title='Claude batches']")
    frame.locator("tr", has_text=page.run_id).get_by_role("link", name="in_worker").first.click()
    with tab.context.expect_page() as opened:
        frame.get_by_role("link", name="https://platform.claude.com").click()
    assert opened.value.url.startswith("https://platform.claude.com/")


def test_the_button_of_a_task_instance_leads_to_its_submission(tab: Any, page: PageStack) -> None:
    sign_in(tab, page, "viewer")
    run = quote(page.run_id, safe="")
    tab.goto(f"{page.airflow.url}/dags/{DAG_ID}/runs/{run}/tasks/in_worker/details")
    button = tab.get_by_role("link", name="Claude batch", exact=True)
    button.wait_for()
    assert button.evaluate("link => link.href") == submission(page, "in_worker")
    tab.goto(button.evaluate("link => link.href"))
    tab.get_by_text(page.batch_id("in_worker")).first.wait_for()


def test_an_editor_cancels_and_clears(tab: Any, page: PageStack) -> None:
    batch_id = page.batch_id("by_click")
    sign_in(tab, page, "editor")
    tab.goto(submission(page, "by_click"))
    tab.get_by_role("link", name=re.compile("^Cancel")).first.click()
    tab.get_by_text("not billed").first.wait_for()
    tab.get_by_role("link", name="Leave as it is").click()
    assert batch_id not in page.canceled()

    tab.get_by_role("link", name=re.compile("^Cancel")).first.click()
    tab.get_by_role("button", name=re.compile("^Cancel")).click()
    tab.get_by_text("Canceled.").wait_for()
    assert batch_id in page.canceled()
    page.wait_until(lambda: page.states()["by_click", -1] == "failed", "the task to fail")

    tab.get_by_role("link", name="Back to the submission").click()
    tab.get_by_text("failed").first.wait_for()
    tab.get_by_role("link", name=re.compile("^Clear")).first.click()
    tab.get_by_role("button", name="Clear the task").click()
    tab.wait_for_url("**/claude-batch/submission?**")
    page.wait_until(lambda: page.states()["by_click", -1] == "deferred", "the cleared task to wait again")


def test_a_page_updates_itself_when_its_batch_ends(tab: Any, page: PageStack) -> None:
    sign_in(tab, page, "viewer")
    tab.goto(submission(page, "in_worker"))
    tab.get_by_text("0 of 1 batch ended").first.wait_for()
    tab.evaluate("window.isTheSame = true")
    page.simulator.pace(0)
    tab.locator(".badge.ended").first.wait_for()
    assert tab.evaluate("window.isTheSame")
