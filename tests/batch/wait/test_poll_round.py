from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_claude_batch.api.wire import BatchPage, MessageBatch, RequestCounts
from airflow_claude_batch.batch.wait.poll_round import MAX_RETRIEVES_PER_ROUND, ListPage, PollResult, poll_round
from airflow_claude_batch.exceptions import NotFoundError, PermissionDeniedError, ServerError

START = datetime(2026, 11, 22, tzinfo=UTC)


class Workspace:
    """Responds to calls from a list of batches, oldest first, and counts them."""

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
        self.errors: dict[str, Exception] = {}
        self.listed_as_ended: set[str] = set()
        self.retrieved_as_ended: set[str] = set()
        self.error: Exception | None = None
        self.lists = self.retrieves = 0

    def created_at(self, number: int) -> datetime:
        return self.batches[number].created_at

    def respond(self, call):
        return self._page(call) if isinstance(call, ListPage) else self._one(call.batch_id)

    def _page(self, call):
        self.lists += 1
        if self.list_error:
            return self.list_error
        listed = [batch for batch in reversed(self.batches) if batch.id not in self.unlisted]
        ids = [batch.id for batch in listed]
        begin = ids.index(call.after_id) + 1 if call.after_id else 0
        data = [
            msgspec.structs.replace(batch, processing_status="ended") if batch.id in self.listed_as_ended else batch
            for batch in listed[begin : begin + call.limit]
        ]
        more = begin + call.limit < len(listed)
        return BatchPage(data=data, has_more=more, last_id=data[-1].id if data else None)

    def _one(self, batch_id):
        self.retrieves += 1
        if error := self.error or self.errors.get(batch_id):
            return error
        found = [batch for batch in self.batches if batch.id == batch_id]
        if batch_id in self.retrieved_as_ended:
            return msgspec.structs.replace(found[0], processing_status="ended")
        return found[0] if found else NotFoundError("no", status_code=404, error_type="not_found_error")

    def poll(self, due, watched=None, **options) -> PollResult:
        round_ = poll_round(due, watched=watched or due.keys(), **options)
        try:
            calls = next(round_)
            while True:
                calls = round_.send([self.respond(call) for call in calls])
        except StopIteration as stop:
            return stop.value


def test_one_batch_is_retrieved():
    workspace = Workspace(5)
    result = workspace.poll({"msgbatch_2": None})
    assert list(result.batches) == ["msgbatch_2"]
    assert (workspace.lists, workspace.retrieves, result.calls) == (0, 1, 1)


@pytest.mark.parametrize("known", [True, False], ids=["ages known", "ages unknown"])
def test_a_thousand_batches_are_one_page(known):
    workspace = Workspace(1000)
    due = {batch.id: batch.created_at if known else None for batch in workspace.batches}
    assert len(workspace.poll(due).batches) == 1000
    assert (workspace.lists, workspace.retrieves) == (1, 0)


def test_ten_thousand_batches_are_ten_pages():
    workspace = Workspace(10_000)
    assert len(workspace.poll({batch.id: None for batch in workspace.batches}).batches) == 10_000
    assert (workspace.lists, workspace.retrieves) == (10, 0)


def test_listing_stops_once_the_oldest_is_passed():
    workspace = Workspace(5000)
    workspace.unlisted = {"msgbatch_4990"}
    due = {f"msgbatch_{number}": workspace.created_at(number) for number in range(4980, 5000)}
    assert len(workspace.poll(due).batches) == 20
    assert (workspace.lists, workspace.retrieves) == (1, 1)


def test_a_page_also_updates_batches_that_are_not_due_yet():
    workspace = Workspace(10)
    due = dict.fromkeys(["msgbatch_8", "msgbatch_9"])
    result = workspace.poll(due, watched=["msgbatch_3", *due])
    assert sorted(result.batches) == ["msgbatch_3", "msgbatch_8", "msgbatch_9"]


def test_old_batches_in_a_busy_workspace_are_retrieved():
    workspace = Workspace(20_000)
    result = workspace.poll(dict.fromkeys(["msgbatch_1", "msgbatch_2", "msgbatch_3"]))
    assert len(result.batches) == 3
    assert (workspace.lists, workspace.retrieves) == (1, 3)


def test_batches_that_the_api_does_not_know_are_denied():
    workspace = Workspace(3)
    result = workspace.poll(dict.fromkeys(["msgbatch_1", "msgbatch_7"]))
    assert list(result.batches) == ["msgbatch_1"]
    assert list(result.denied) == ["msgbatch_7"]
    assert result.error is None


def test_an_outage_ends_the_round_at_the_first_page():
    workspace = Workspace(10)
    workspace.list_error = ServerError("no", status_code=503, error_type="api_error")
    result = workspace.poll({batch.id: None for batch in workspace.batches})
    assert (result.error, result.may_list, workspace.retrieves) == (workspace.list_error, True, 0)


def test_an_outage_ends_the_round_after_one_group_of_retrieves():
    workspace = Workspace(50)
    workspace.error = ServerError("no", status_code=503, error_type="api_error")
    result = workspace.poll({batch.id: None for batch in workspace.batches}, may_list=False)
    assert result.error is workspace.error
    assert workspace.retrieves == 8


def test_a_refused_listing_is_remembered_and_not_called_again():
    workspace = Workspace(30)
    workspace.list_error = PermissionDeniedError("no", status_code=403, error_type="permission_error")
    due = {batch.id: None for batch in workspace.batches}
    result = workspace.poll(due)
    assert (len(result.batches), result.may_list, result.error) == (30, False, None)
    again = workspace.poll(due, may_list=result.may_list)
    assert (len(again.batches), again.may_list, workspace.lists) == (30, False, 1)


def test_after_a_failed_round_a_single_call_goes_first():
    workspace = Workspace(50)
    due = {batch.id: None for batch in workspace.batches}
    workspace.error = ServerError("no", status_code=503, error_type="api_error")
    assert workspace.poll(due, may_list=False, is_probe=True).error is workspace.error
    assert workspace.retrieves == 1
    workspace.error = None
    assert len(workspace.poll(due, may_list=False, is_probe=True).batches) == 50


@pytest.mark.parametrize("may_list", [True, False], ids=["listed", "single calls"])
def test_a_refusal_of_one_batch_concerns_that_batch_alone(may_list):
    workspace = Workspace(30)
    workspace.errors["msgbatch_3"] = PermissionDeniedError("no", status_code=403, error_type="permission_error")
    workspace.unlisted = {"msgbatch_3"}
    result = workspace.poll({batch.id: None for batch in workspace.batches}, may_list=may_list)
    assert (len(result.batches), list(result.denied), result.error) == (29, ["msgbatch_3"], None)


def test_a_refusal_of_every_batch_ends_the_round_after_one_group():
    workspace = Workspace(30)
    refusal = PermissionDeniedError("no", status_code=403, error_type="permission_error")
    workspace.errors = {batch.id: refusal for batch in workspace.batches}
    result = workspace.poll({batch.id: None for batch in workspace.batches}, may_list=False)
    assert (result.error, result.denied, workspace.retrieves) == (refusal, {}, 8)


def test_an_end_is_not_believed_from_a_listing_where_an_earlier_one_was_wrong():
    workspace = Workspace(30)
    workspace.listed_as_ended = {"msgbatch_1", "msgbatch_2"}
    result = workspace.poll({batch.id: None for batch in workspace.batches}, unconfirmed={"msgbatch_1"})
    assert {batch.id for batch in result.batches.values() if batch.ended} == {"msgbatch_2"}
    assert (len(result.batches), workspace.lists, workspace.retrieves) == (30, 1, 1)


@pytest.mark.parametrize("stale", [True, False])
def test_a_listing_is_checked_with_one_call_and_not_believed_if_it_is_out_of_date(stale):
    workspace = Workspace(30)
    workspace.listed_as_ended = set()
    workspace.retrieved_as_ended = {batch.id for batch in workspace.batches} if stale else set()
    result = workspace.poll({batch.id: None for batch in workspace.batches}, check="msgbatch_7")
    assert len(result.batches) == 30
    assert all(batch.ended is stale for batch in result.batches.values())
    assert (workspace.lists, workspace.retrieves) == (1, 30 if stale else 1)
    assert (result.list_error is not None) is stale
    assert "msgbatch_7" in result.retrieved


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.data())
def test_every_due_batch_is_polled_within_bounded_calls(count, data):
    workspace = Workspace(count)
    numbers = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=MAX_RETRIEVES_PER_ROUND, unique=True))
    known = data.draw(st.booleans())
    due = {f"msgbatch_{n}": workspace.created_at(n) if known else None for n in numbers}
    result = workspace.poll(due)
    assert set(due) == set(result.batches)
    assert result.calls <= len(due) + 10
    assert result.calls == workspace.lists + workspace.retrieves
