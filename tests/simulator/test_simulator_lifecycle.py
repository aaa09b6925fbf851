"""States of a batch, by the simulator's clock. Every test runs over sockets and in process."""

from __future__ import annotations

import json
from typing import Any

import pytest
from simulated import Api, Connect, error_of, params, request, requests

from airflow_claude_batch.simulator import Fault, ManualClock, Simulator

pytestmark = pytest.mark.usefixtures("transport")

HOUR = 3600
DAY = 24 * HOUR


def paced(clock: ManualClock, seconds: float, **settings: Any) -> Simulator:
    return Simulator(clock=clock, batch_seconds=seconds, **settings)


def test_a_new_batch_shows_all_ten_fields_in_the_order_of_the_api(api: Api) -> None:
    body = api.create(request()).json()
    assert list(body) == [
        "id",
        "type",
        "processing_status",
        "request_counts",
        "ended_at",
        "created_at",
        "expires_at",
        "archived_at",
        "cancel_initiated_at",
        "results_url",
    ]
    assert body["id"].startswith("msgbatch_01")
    assert body["created_at"] == "2026-11-22T09:00:00.000000+00:00"
    assert body["expires_at"] == "2026-11-23T09:00:00.000000+00:00"
    assert body["request_counts"] == {
        "processing": 1,
        "succeeded": 0,
        "errored": 0,
        "canceled": 0,
        "expired": 0,
    }


def test_a_pace_of_zero_ends_the_batch_at_the_next_poll(api: Api) -> None:
    created = api.create(request()).json()
    assert created["processing_status"] == "in_progress"
    assert api.retrieve(created["id"]).json()["processing_status"] == "ended"


def test_counts_stay_in_processing_until_the_end(clock: ManualClock, connect: Connect) -> None:
    api = connect(paced(clock, HOUR))
    batch = api.created(*requests(4))
    clock.advance(HOUR - 1)
    running = api.retrieve(batch)
    assert running.json()["request_counts"]["processing"] == 4
    assert running.headers["retry-after"] == "10"
    clock.advance(1)
    ended = api.retrieve(batch)
    assert ended.json()["request_counts"]["succeeded"] == 4
    assert ended.json()["request_counts"]["processing"] == 0
    assert ended.json()["ended_at"] == "2026-11-22T10:00:00.000000+00:00"
    assert "retry-after" not in ended.headers


def test_the_pace_may_depend_on_the_batch(clock: ManualClock, connect: Connect) -> None:
    api = connect(Simulator(clock=clock, batch_seconds=lambda batch: 10.0 * batch.request_count))
    small, large = api.created(*requests(1)), api.created(*requests(5))
    clock.advance(20)
    statuses = [api.retrieve(batch).json()["processing_status"] for batch in (small, large)]
    assert statuses == ["ended", "in_progress"]


def test_a_changed_pace_applies_to_batches_in_progress(clock: ManualClock, connect: Connect) -> None:
    simulator = paced(clock, HOUR)
    api = connect(simulator)
    batch = api.created()
    clock.advance(60)
    simulator.pace(0)
    ended = api.retrieve(batch).json()
    assert ended["processing_status"] == "ended"
    assert ended["ended_at"] == "2026-11-22T09:01:00.000000+00:00"


def test_unfinished_requests_expire_after_a_day(clock: ManualClock, connect: Connect) -> None:
    simulator = paced(clock, 2 * DAY)
    api = connect(simulator)
    batch = api.created(*requests(10))
    clock.advance(DAY - 1)
    assert api.retrieve(batch).json()["processing_status"] == "in_progress"
    clock.advance(1)
    counts = api.retrieve(batch).json()["request_counts"]
    assert (counts["succeeded"], counts["expired"]) == (5, 5)
    expired = [row for row in api.rows(batch) if row["result"]["type"] == "expired"]
    assert [row["result"] for row in expired] == [{"type": "expired"}] * 5
    assert simulator.books()["billed_requests"] == 5


def test_a_batch_that_never_ends_expires_completely(clock: ManualClock, connect: Connect) -> None:
    api = connect(paced(clock, float("inf")))
    batch = api.created(*requests(3))
    clock.advance(DAY)
    assert api.retrieve(batch).json()["request_counts"]["expired"] == 3


def test_a_cancel_keeps_the_requests_that_were_answered(clock: ManualClock, connect: Connect) -> None:
    simulator = paced(clock, HOUR, cancel_seconds=25, cancel_succeeded_share=0.25)
    api = connect(simulator)
    batch = api.created(*requests(8))
    clock.advance(10)
    canceling = api.cancel(batch).json()
    assert canceling["processing_status"] == "canceling"
    assert canceling["cancel_initiated_at"] == "2026-11-22T09:00:10.000000+00:00"
    assert canceling["request_counts"]["processing"] == 8
    clock.advance(5)
    assert api.cancel(batch).json() == canceling
    clock.advance(20)
    ended = api.retrieve(batch).json()
    assert ended["processing_status"] == "ended"
    assert (ended["request_counts"]["succeeded"], ended["request_counts"]["canceled"]) == (2, 6)
    assert simulator.books()["billed_requests"] == 2


def test_a_cancel_shortly_before_the_end_changes_nothing(clock: ManualClock, connect: Connect) -> None:
    api = connect(paced(clock, 60, cancel_seconds=120))
    batch = api.created(*requests(2))
    api.cancel(batch)
    clock.advance(60)
    assert api.retrieve(batch).json()["request_counts"]["succeeded"] == 2


@pytest.mark.parametrize(("setting", "status"), [("error", 400), ("unchanged", 200)])
def test_cancel_after_the_end_responds_as_configured(
    clock: ManualClock, connect: Connect, setting: Any, status: int
) -> None:
    api = connect(Simulator(clock=clock, cancel_ended=setting))
    batch = api.created()
    response = api.cancel(batch)
    assert response.status_code == status
    if status == 200:
        assert response.json()["processing_status"] == "ended"
        assert response.json()["cancel_initiated_at"] is None


def test_cancel_takes_an_empty_object_as_its_body(clock: ManualClock, connect: Connect) -> None:
    api = connect(paced(clock, HOUR))
    response = api.client.post(f"/v1/messages/batches/{api.created()}/cancel", json={})
    assert response.status_code == 200


def test_a_batch_of_invalid_requests_ends_like_any_other(api: Api) -> None:
    batch = api.created({"custom_id": "bad", "params": {}})
    counts = api.retrieve(batch).json()["request_counts"]
    assert counts["errored"] == 1
    assert api.outcomes(batch)["bad"]["error"]["error"]["message"] == "messages: Field required"


@pytest.mark.parametrize("cancel_first", [False, True], ids=["in_progress", "canceling"])
def test_a_running_batch_has_no_results_and_cannot_be_deleted(
    clock: ManualClock, connect: Connect, cancel_first: bool
) -> None:
    api = connect(paced(clock, HOUR, cancel_seconds=60))
    batch = api.created()
    if cancel_first:
        api.cancel(batch)
    refused = api.results(batch)
    text = f"Message Batch {batch} has no available results."
    assert error_of(refused) == (404, "not_found_error", text)
    assert refused.headers["x-should-retry"] == "false"
    text = "In progress batches cannot be deleted. Consider canceling the batch instead."
    assert error_of(api.delete(batch)) == (400, "invalid_request_error", text)


def test_a_deleted_batch_is_gone_everywhere_but_in_the_books(api: Api, simulator: Simulator) -> None:
    batch = api.created()
    assert api.delete(batch).json() == {"id": batch, "type": "message_batch_deleted"}
    text = f"Message Batch {batch} not found."
    for call in (api.retrieve, api.results, api.cancel, api.delete):
        assert error_of(call(batch)) == (404, "not_found_error", text)
    assert api.listed() == []
    assert simulator.books()["batches"][0]["deleted"] is True
    assert simulator.books()["billed_requests"] == 1


def test_results_are_gone_29_days_after_the_creation(clock: ManualClock, connect: Connect) -> None:
    api = connect(paced(clock, DAY))
    batch = api.created()
    clock.advance(29 * DAY - 1)
    assert api.results(batch).status_code == 200
    assert api.retrieve(batch).json()["archived_at"] is None
    clock.advance(1)
    archived = api.retrieve(batch).json()
    assert archived["archived_at"] == "2026-12-21T09:00:00.000000+00:00"
    assert archived["results_url"] is None
    assert error_of(api.results(batch))[0] == 404
    assert api.listed() == [batch]


def test_end_and_expire_do_not_wait_for_the_clock(clock: ManualClock, connect: Connect) -> None:
    simulator = paced(clock, HOUR)
    api = connect(simulator)
    ended, failed, expired = (api.created(*requests(4)) for _ in range(3))
    simulator.end(ended)
    simulator.end(failed, succeeded_share=0.5)
    simulator.expire(expired, succeeded_share=0.25)
    counts = [api.retrieve(batch).json()["request_counts"] for batch in (ended, failed, expired)]
    assert [count["succeeded"] for count in counts] == [4, 2, 1]
    assert [count["errored"] for count in counts] == [0, 2, 0]
    assert [count["expired"] for count in counts] == [0, 0, 3]


def test_workspaces_do_not_see_each_other(clock: ManualClock, connect: Connect) -> None:
    simulator = Simulator(clock=clock, keys={"sk-one": "wrkspc_1", "sk-two": "wrkspc_2"})
    one, two = connect(simulator, key="sk-one"), connect(simulator, key="sk-two")
    batch = one.created()
    assert two.listed() == []
    for call in (two.retrieve, two.results, two.cancel, two.delete):
        assert error_of(call(batch)) == (404, "not_found_error", f"Message Batch {batch} not found.")
    assert one.listed() == [batch]
    assert one.retrieve(batch).headers["anthropic-workspace-id"] == "wrkspc_1"


def test_the_queue_limit_refuses_a_create_until_batches_end(clock: ManualClock, connect: Connect) -> None:
    simulator = paced(clock, 60, queue_limit=5)
    api = connect(simulator)
    api.created(*requests(4))
    refused = api.create(*requests(2))
    assert error_of(refused)[:2] == (429, "rate_limit_error")
    assert "retry-after" not in refused.headers
    api.created(*requests(1))
    clock.advance(60)
    api.created(*requests(5))
    assert [batch["request_count"] for batch in simulator.books()["batches"]] == [4, 1, 5]


def test_results_are_complete_and_in_another_order_each_time(api: Api) -> None:
    batch = api.created(*requests(50))
    first, second = ([row["custom_id"] for row in api.rows(batch)] for _ in range(2))
    assert sorted(first) == sorted(second) == sorted(f"r{index}" for index in range(50))
    assert first != second
    assert first != [f"r{index}" for index in range(50)]


def test_the_same_seed_gives_the_same_order(clock: ManualClock, connect: Connect) -> None:
    apis = [connect(Simulator(clock=clock, seed=seed)) for seed in (7, 7, 8)]
    orders = [[row["custom_id"] for row in api.rows(api.created(*requests(30)))] for api in apis]
    assert orders[0] == orders[1] != orders[2]


def test_results_can_come_in_the_order_of_the_requests(clock: ManualClock, connect: Connect) -> None:
    api = connect(Simulator(clock=clock, shuffle=False))
    rows = api.rows(api.created(*requests(20)))
    assert [row["custom_id"] for row in rows] == [f"r{index}" for index in range(20)]


def test_results_are_a_chunked_attachment_with_raw_text(api: Api) -> None:
    batch = api.created(*(request(f"r{index}", prompt="naïve\u2028text") for index in range(5)))
    response = api.results(batch)
    assert response.headers["content-type"] == "application/x-jsonl"
    assert response.headers["content-disposition"] == f"attachment; filename*=utf-8''{batch}_results.jsonl"
    assert "content-length" not in response.headers
    assert "naïve\u2028text".encode() in response.content
    assert response.content.endswith(b"\n")
    assert len(response.text.splitlines()) > response.content.count(b"\n") == 5


def test_a_range_is_ignored(api: Api) -> None:
    batch = api.created()
    response = api.client.get(f"/v1/messages/batches/{batch}/results", headers={"range": "bytes=10-"})
    assert response.status_code == 200
    assert json.loads(response.content)["custom_id"] == "a"


def test_results_url_starts_with_the_address_of_the_caller(api: Api) -> None:
    batch = api.created()
    url = api.retrieve(batch).json()["results_url"]
    assert url == str(api.client.base_url).rstrip("/") + f"/v1/messages/batches/{batch}/results"
    assert api.client.get(url).status_code == 200


def test_results_url_can_start_with_another_address(clock: ManualClock, connect: Connect) -> None:
    api = connect(Simulator(clock=clock, results_base_url="https://elsewhere.example"))
    batch = api.created()
    url = api.retrieve(batch).json()["results_url"]
    assert url == f"https://elsewhere.example/v1/messages/batches/{batch}/results"


def test_a_batch_can_be_read_under_another_version(simulator: Simulator, connect: Connect) -> None:
    old, new = connect(simulator, version="2023-06-01"), connect(simulator)
    batch = old.created(request(**{"model": "claude-haiku-4-5", "temperature": 0.3}))
    assert new.outcomes(batch)["a"]["type"] == "succeeded"


class TestList:
    def test_an_empty_list_has_no_cursors(self, api: Api) -> None:
        assert api.list().json() == {"data": [], "has_more": False, "first_id": None, "last_id": None}

    def test_the_newest_comes_first(self, api: Api) -> None:
        ids = [api.created() for _ in range(3)]
        page = api.list().json()
        assert [batch["id"] for batch in page["data"]] == ids[::-1]
        assert (page["first_id"], page["last_id"], page["has_more"]) == (ids[2], ids[0], False)

    def test_twenty_are_shown_by_default(self, api: Api) -> None:
        ids = [api.created() for _ in range(21)]
        assert api.listed() == ids[:0:-1]
        assert api.list().json()["has_more"] is True

    def test_after_goes_to_older_and_before_to_newer(self, api: Api) -> None:
        ids = [api.created() for _ in range(6)]
        assert api.listed(after_id=ids[4], limit=2) == [ids[3], ids[2]]
        assert api.listed(before_id=ids[1], limit=2) == [ids[3], ids[2]]
        assert api.list(before_id=ids[1], limit=2).json()["has_more"] is True
        assert api.list(before_id=ids[3], limit=2).json()["has_more"] is False
        assert api.listed(before_id=ids[5]) == []

    @pytest.mark.parametrize(
        ("limit", "message"),
        [
            ("0", "limit: Input should be greater than or equal to 1"),
            ("1001", "limit: Input should be less than or equal to 1000"),
            ("x", "limit: Input should be a valid integer, unable to parse string as an integer"),
        ],
    )
    def test_a_wrong_limit_is_refused(self, api: Api, limit: str, message: str) -> None:
        assert error_of(api.list(limit=limit)) == (400, "invalid_request_error", message)

    def test_both_cursors_are_refused(self, api: Api) -> None:
        batch = api.created()
        assert error_of(api.list(before_id=batch, after_id=batch))[0] == 400

    @pytest.mark.parametrize("cursor", ["before_id", "after_id"])
    @pytest.mark.parametrize("deleted", [True, False], ids=["deleted", "unknown"])
    def test_an_unknown_cursor_is_an_error_or_an_empty_page(
        self, clock: ManualClock, connect: Connect, cursor: str, deleted: bool
    ) -> None:
        for setting in ("error", "empty"):
            api = connect(Simulator(clock=clock, unknown_cursor=setting))  # type: ignore[arg-type]  # a loop over both
            lost = api.created() if deleted else "msgbatch_unknown"
            if deleted:
                api.delete(lost)
            api.created()
            response = api.list(**{cursor: lost})
            if setting == "error":
                assert error_of(response)[0] == 400
            else:
                assert response.json()["data"] == []

    def test_a_new_batch_may_be_listed_late_by_the_clock(
        self, api: Api, simulator: Simulator, clock: ManualClock
    ) -> None:
        old = api.created()
        simulator.inject(Fault(on="create", do="listing_lag", seconds=5))
        new = api.created()
        assert api.listed() == [old]
        assert api.listed(before_id=old) == []
        assert api.retrieve(new).status_code == 200
        clock.advance(5)
        assert api.listed() == [new, old]

    def test_a_new_batch_may_be_listed_late_by_calls(self, api: Api, simulator: Simulator) -> None:
        simulator.inject(Fault(do="listing_lag", calls=2))
        new = api.created()
        assert [api.listed() for _ in range(3)] == [[], [], [new]]


class TestBooks:
    def test_they_show_what_was_created_called_and_billed(self, api: Api, simulator: Simulator) -> None:
        batch = api.created(request("good"), {"custom_id": "bad", "params": {}})
        before = simulator.books()["batches"][0]["requests"]
        api.retrieve(batch)
        books = simulator.books()
        json.dumps(books)
        entry = books["batches"][0]
        assert entry["id"] == batch
        assert entry["processing_status"] == "ended"
        good, bad = entry["requests"]
        assert (good["custom_id"], good["outcome"], good["billed"]) == ("good", "succeeded", True)
        assert good["usage"]["service_tier"] == "batch"
        assert (bad["outcome"], bad["billed"], bad["usage"]) == ("errored", False, {})
        assert books["billed"] == {good["params_sha256"]: 1}
        assert books["billed_requests"] == 1
        assert books["calls"]["create"] == 1
        assert books["calls"]["retrieve"] == 1
        assert books["calls"]["cancel"] == 0
        assert before == entry["requests"]

    def test_a_running_batch_has_no_outcomes(self, clock: ManualClock, connect: Connect) -> None:
        simulator = paced(clock, HOUR)
        connect(simulator).created()
        (entry,) = simulator.books()["batches"][0]["requests"]
        assert (entry["outcome"], entry["billed"]) == (None, False)
        assert simulator.books()["billed"] == {}

    def test_the_same_params_have_one_hash_in_any_json_form(self, api: Api, simulator: Simulator) -> None:
        whole = params("naïve")
        turned = dict(reversed(whole.items()))
        api.created({"custom_id": "a", "params": whole})
        api.created({"custom_id": "b", "params": turned})
        (times,) = simulator.books()["billed"].values()
        assert times == 2

    def test_without_detail_they_leave_requests_out(self, api: Api, simulator: Simulator) -> None:
        api.created(*requests(3))
        books = simulator.books(detail=False)
        assert "requests" not in books["batches"][0]
        assert "billed" not in books
        assert books["billed_requests"] == 3
