from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_claude_batch.api.wire import BatchPage, MessageBatch, RequestCounts
from airflow_claude_batch.batch.wait.poll_round import MOST_SINGLES, ListPage, PollResult, poll_round
from airflow_claude_batch.exceptions import NotFoundError, PermissionDeniedError, ServerError

START = datetime(2026, 11, 22, tzinfo=UTC)


class Workspace:
    """Answers calls from a list of batches, the oldest first, and counts them."""

    def __init__(self, count: int) -> None:
        self.batches = [
            MessageBatch(
                id=f"msgbatch_{number}",
                processing_status="in_progress",
                request_counts=RequestCounts(processing=1),
                created_at=START + timedelta(minutes=number),
            )
            for number in range(count)
        ]
        self.unlisted: set[str] = set()
        self.list_error: Exception | None = None
        self.error: Exception | None = None
        self.lists = self.singles = 0

    def created_at(self, number: int) -> datetime:
        return self.batches[number].created_at

    def answer(self, call):
        return self._page(call) if isinstance(call, ListPage) else self._one(call.batch_id)

    def _page(self, call):
        self.lists += 1
        if self.list_error:
            return self.list_error
        listed = [batch for batch in reversed(self.batches) if batch.id not in self.unlisted]
        ids = [batch.id for batch in listed]
        begin = ids.index(call.after_id) + 1 if call.after_id else 0
        data = listed[begin : begin + call.limit]
        more = begin + call.limit < len(listed)
        return BatchPage(data=data, has_more=more, last_id=data[-1].id if data else None)

    def _one(self, batch_id):
        self.singles += 1
        if self.error:
            return self.error
        found = [batch for batch in self.batches if batch.id == batch_id]
        return found[0] if found else NotFoundError("no", status_code=404, error_type="not_found_error")

    def survey(self, wanted, watched=None, *, may_list=True) -> PollResult:
        asking = poll_round(wanted, watched=watched or wanted.keys(), may_list=may_list)
        try:
            calls = next(asking)
            while True:
                calls = asking.send([self.answer(call) for call in calls])
        except StopIteration as stop:
            return stop.value


def test_one_batch_is_retrieved():
    workspace = Workspace(5)
    found = workspace.survey({"msgbatch_2": None})
    assert list(found.seen) == ["msgbatch_2"]
    assert (workspace.lists, workspace.singles, found.calls) == (0, 1, 1)


@pytest.mark.parametrize("known", [True, False], ids=["ages known", "ages unknown"])
def test_a_thousand_batches_are_one_page(known):
    workspace = Workspace(1000)
    wanted = {batch.id: batch.created_at if known else None for batch in workspace.batches}
    assert len(workspace.survey(wanted).seen) == 1000
    assert (workspace.lists, workspace.singles) == (1, 0)


def test_ten_thousand_batches_are_ten_pages():
    workspace = Workspace(10_000)
    assert len(workspace.survey({batch.id: None for batch in workspace.batches}).seen) == 10_000
    assert (workspace.lists, workspace.singles) == (10, 0)


def test_the_listing_is_left_once_the_oldest_is_passed():
    workspace = Workspace(5000)
    workspace.unlisted = {"msgbatch_4990"}
    wanted = {f"msgbatch_{number}": workspace.created_at(number) for number in range(4980, 5000)}
    assert len(workspace.survey(wanted).seen) == 20
    assert (workspace.lists, workspace.singles) == (1, 1)


def test_a_page_shows_batches_that_were_not_asked_after_yet():
    workspace = Workspace(10)
    wanted = dict.fromkeys(["msgbatch_8", "msgbatch_9"])
    found = workspace.survey(wanted, watched=["msgbatch_3", *wanted])
    assert sorted(found.seen) == ["msgbatch_3", "msgbatch_8", "msgbatch_9"]


def test_old_batches_in_a_busy_workspace_are_retrieved():
    workspace = Workspace(20_000)
    found = workspace.survey(dict.fromkeys(["msgbatch_1", "msgbatch_2", "msgbatch_3"]))
    assert len(found.seen) == 3
    assert (workspace.lists, workspace.singles) == (1, 3)


def test_what_the_api_denies_is_in_doubt():
    workspace = Workspace(3)
    found = workspace.survey(dict.fromkeys(["msgbatch_1", "msgbatch_7"]))
    assert list(found.seen) == ["msgbatch_1"]
    assert list(found.doubts) == ["msgbatch_7"]
    assert found.trouble is None


def test_an_outage_ends_the_survey_at_the_first_page():
    workspace = Workspace(10)
    workspace.list_error = ServerError("no", status_code=503, error_type="api_error")
    found = workspace.survey({batch.id: None for batch in workspace.batches})
    assert (found.trouble, found.listed, workspace.singles) == (workspace.list_error, True, 0)


def test_an_outage_ends_the_single_calls_after_one_handful():
    workspace = Workspace(50)
    workspace.error = ServerError("no", status_code=503, error_type="api_error")
    found = workspace.survey({batch.id: None for batch in workspace.batches}, may_list=False)
    assert found.trouble is workspace.error
    assert workspace.singles == 8


def test_a_listing_refused_as_such_is_remembered_and_done_without():
    workspace = Workspace(30)
    workspace.list_error = PermissionDeniedError("no", status_code=403, error_type="permission_error")
    wanted = {batch.id: None for batch in workspace.batches}
    found = workspace.survey(wanted)
    assert (len(found.seen), found.listed, found.trouble) == (30, False, None)
    again = workspace.survey(wanted, may_list=found.listed)
    assert (len(again.seen), again.listed, workspace.lists) == (30, False, 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.data())
def test_every_wanted_batch_is_seen_within_bounded_calls(count, data):
    workspace = Workspace(count)
    numbers = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=MOST_SINGLES, unique=True))
    known = data.draw(st.booleans())
    wanted = {f"msgbatch_{n}": workspace.created_at(n) if known else None for n in numbers}
    found = workspace.survey(wanted)
    assert set(wanted) == set(found.seen)
    assert found.calls <= len(wanted) + 10
    assert found.calls == workspace.lists + workspace.singles
