"""Every fault, over sockets and in process. What only a socket can show is in the server tests."""

from __future__ import annotations

import json
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest
from simulated import Api, Connect, error_of, request, requests

from airflow_claude_batch.simulator import Fault, ManualClock, Simulator

pytestmark = pytest.mark.usefixtures("transport")


def batches(simulator: Simulator) -> int:
    return len(simulator.books(detail=False)["batches"])


class TestDrops:
    @pytest.mark.parametrize(
        ("fault", "created"),
        [("drop_before_accept", 0), ("drop_after_accept", 1)],
    )
    @pytest.mark.parametrize(
        ("reset", "error"),
        [(False, httpx.RemoteProtocolError), (True, httpx.ReadError)],
        ids=["close", "reset"],
    )
    def test_after_a_lost_response_the_batch_may_or_may_not_exist(
        self, api: Api, simulator: Simulator, fault: Any, created: int, reset: bool, error: type[Exception]
    ) -> None:
        simulator.inject(Fault(on="create", do=fault, reset=reset))
        with pytest.raises(error):
            api.create(request())
        assert batches(simulator) == created
        assert simulator.calls()["create"] == 1
        assert api.create(request()).status_code == 200

    @pytest.mark.parametrize("operation", ["retrieve", "list", "cancel", "delete", "results"])
    def test_any_operation_can_lose_its_response(self, api: Api, simulator: Simulator, operation: Any) -> None:
        batch = api.created()
        simulator.inject(Fault(on=operation, do="drop_before_accept"))
        with pytest.raises(httpx.TransportError):
            api.list() if operation == "list" else getattr(api, operation)(batch)
        assert api.retrieve(batch).status_code == 200


class TestStatus:
    @pytest.mark.parametrize(
        ("fields", "headers", "code"),
        [
            ({"retry_after": 7}, {"retry-after": "7"}, None),
            ({"retry_after_ms": 1500}, {"retry-after-ms": "1500"}, None),
            ({"retry_after": "Sun, 22 Nov 2026 09:00:30 GMT"}, {"retry-after": "Sun, 22 Nov 2026 09:00:30 GMT"}, None),
            ({}, {}, None),
            ({"code": "enforced_spend_limit_reached"}, {}, "enforced_spend_limit_reached"),
            ({"code": "ramp_limit_exceeded", "retry_after": 3}, {"retry-after": "3"}, "ramp_limit_exceeded"),
        ],
    )
    def test_a_429_has_all_variants(
        self, api: Api, simulator: Simulator, fields: dict[str, Any], headers: dict[str, str], code: str | None
    ) -> None:
        simulator.inject(Fault(on="create", do="status", status=429, **fields))
        response = api.create(request())
        assert error_of(response)[:2] == (429, "rate_limit_error")
        assert {name: value for name, value in response.headers.items() if "retry-after" in name} == headers
        assert response.json()["error"].get("details", {}).get("error_code") == code
        assert batches(simulator) == 0

    @pytest.mark.parametrize(
        ("status", "kind"),
        [(408, "timeout_error"), (500, "api_error"), (504, "timeout_error"), (529, "overloaded_error")],
    )
    def test_other_statuses_have_their_type(self, api: Api, simulator: Simulator, status: int, kind: str) -> None:
        simulator.inject(Fault(do="status", status=status))
        assert error_of(api.list())[:2] == (status, kind)

    def test_type_and_message_can_be_given(self, api: Api, simulator: Simulator) -> None:
        simulator.inject(Fault(do="status", status=400, type="billing_error", message="You have reached your limits."))
        assert error_of(api.list()) == (400, "billing_error", "You have reached your limits.")

    def test_a_status_after_acceptance_hides_a_batch(self, api: Api, simulator: Simulator) -> None:
        simulator.inject(Fault(on="create", do="status_after_accept", status=504))
        assert api.create(request()).status_code == 504
        assert batches(simulator) == 1


def test_html_comes_from_a_proxy_without_a_request_id(api: Api, simulator: Simulator) -> None:
    simulator.inject(Fault(on="create", do="html"))
    response = api.create(request())
    assert response.status_code == 502
    assert response.headers["content-type"] == "text/html"
    assert "request-id" not in response.headers
    assert batches(simulator) == 0


def test_malformed_json_hides_a_batch(api: Api, simulator: Simulator) -> None:
    simulator.inject(Fault(on="create", do="malformed"))
    response = api.create(request())
    assert response.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        response.json()
    assert batches(simulator) == 1


def test_a_slow_response_causes_the_clients_timeout(simulator: Simulator, connect: Connect) -> None:
    api = connect(simulator, timeout=0.1)
    simulator.inject(Fault(on="create", do="slow", seconds=5))
    with pytest.raises(httpx.ReadTimeout):
        api.create(request())
    assert batches(simulator) == 1


def test_a_slow_response_in_time_is_received(api: Api, simulator: Simulator) -> None:
    simulator.inject(Fault(do="slow", seconds=0.05))
    response = api.list()
    assert response.status_code == 200


def test_latency_delays_every_response(clock: ManualClock, connect: Connect) -> None:
    api = connect(Simulator(clock=clock, latency_seconds=5), timeout=0.1)
    with pytest.raises(httpx.ReadTimeout):
        api.list()


def test_a_404_may_be_temporary(api: Api, simulator: Simulator) -> None:
    batch = api.created()
    simulator.inject(Fault(on="retrieve", do="not_found_blip"))
    text = f"Message Batch {batch} not found."
    assert error_of(api.retrieve(batch)) == (404, "not_found_error", text)
    assert api.retrieve(batch).status_code == 200


class TestResults:
    @pytest.fixture
    def batch(self, api: Api) -> str:
        return api.created(*requests(10))

    def read(self, api: Api, batch: str) -> tuple[bytes, bool]:
        """Return the received part of the results, and whether the connection broke."""
        received = b""
        try:
            with api.client.stream("GET", f"/v1/messages/batches/{batch}/results") as response:
                for piece in response.iter_bytes():
                    received += piece
        except httpx.TransportError:
            return received, True
        return received, False

    def test_a_cut_in_a_line_breaks_the_connection(self, api: Api, simulator: Simulator, batch: str) -> None:
        simulator.inject(Fault(on="results", do="cut", at="mid_line"))
        received, broken = self.read(api, batch)
        *lines, partial = received.split(b"\n")
        assert broken
        assert len([json.loads(line) for line in lines]) == 5
        with pytest.raises(json.JSONDecodeError):
            json.loads(partial)

    def test_a_cut_at_a_line_end_looks_complete(self, api: Api, simulator: Simulator, batch: str) -> None:
        simulator.inject(Fault(on="results", do="cut", at="line_end"))
        received, broken = self.read(api, batch)
        assert not broken
        assert received.endswith(b"\n")
        assert len([json.loads(line) for line in received.splitlines()]) == 5

    @pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
    def test_a_cut_at_a_byte_breaks_the_connection(
        self, api: Api, simulator: Simulator, batch: str, reset: bool
    ) -> None:
        simulator.inject(Fault(on="results", do="cut", at=100, reset=reset))
        received, broken = self.read(api, batch)
        assert broken
        assert len(received) == 100 or (reset and len(received) <= 100)

    def test_a_restarted_download_is_complete(self, api: Api, simulator: Simulator, batch: str) -> None:
        simulator.inject(Fault(on="results", do="cut"))
        assert self.read(api, batch)[1]
        assert len(api.rows(batch)) == 10

    def test_a_row_may_come_twice(self, api: Api, simulator: Simulator, batch: str) -> None:
        simulator.inject(Fault(on="results", do="duplicate_row"))
        ids = [row["custom_id"] for row in api.rows(batch)]
        assert (len(ids), len(set(ids))) == (11, 10)

    def test_a_row_may_have_an_unknown_custom_id(self, api: Api, simulator: Simulator, batch: str) -> None:
        simulator.inject(Fault(on="results", do="unknown_row"))
        ids = {row["custom_id"] for row in api.rows(batch)}
        assert len(ids) == 11
        assert len([custom_id for custom_id in ids if custom_id.startswith("unknown-")]) == 1

    def test_stranger_row_is_the_old_name_of_unknown_row(self) -> None:
        assert Fault(on="results", do="stranger_row").do == "unknown_row"

    def test_a_row_may_be_missing(self, api: Api, simulator: Simulator, batch: str) -> None:
        simulator.inject(Fault(on="results", do="missing_row"))
        assert len(api.rows(batch)) == 9

    def test_there_may_be_no_content_type(self, api: Api, simulator: Simulator, batch: str) -> None:
        simulator.inject(Fault(on="results", do="no_content_type"))
        assert "content-type" not in api.results(batch).headers

    def test_there_may_be_no_trailing_newline(self, api: Api, simulator: Simulator, batch: str) -> None:
        simulator.inject(Fault(on="results", do="no_trailing_newline"))
        content = api.results(batch).content
        assert not content.endswith(b"\n")
        assert len(content.split(b"\n")) == 10

    def test_the_stream_may_be_gzipped(self, api: Api, simulator: Simulator, batch: str) -> None:
        simulator.inject(Fault(on="results", do="gzip"))
        response = api.results(batch)
        assert response.headers["content-encoding"] == "gzip"
        assert response.content.count(b"\n") == 10

    def test_a_gzipped_stream_may_be_cut(self, api: Api, simulator: Simulator, batch: str) -> None:
        simulator.inject(Fault(do="gzip"), Fault(do="cut"))
        received, broken = self.read(api, batch)
        assert broken
        assert 0 < received.count(b"\n") < 10

    def test_several_faults_combine(self, api: Api, simulator: Simulator, batch: str) -> None:
        simulator.inject(Fault(do="duplicate_row"), Fault(do="unknown_row"), Fault(do="no_content_type"))
        assert "content-type" not in (response := api.results(batch)).headers
        assert response.content.count(b"\n") == 12


class TestScript:
    def statuses(self, api: Api, count: int) -> list[int]:
        return [api.list().status_code for _ in range(count)]

    def test_times_says_how_often(self, api: Api, simulator: Simulator) -> None:
        simulator.inject(Fault(do="status", times=2))
        assert self.statuses(api, 3) == [529, 529, 200]

    def test_without_times_it_lasts_until_cleared(self, api: Api, simulator: Simulator) -> None:
        simulator.inject(Fault(do="status", times=None))
        assert self.statuses(api, 3) == [529] * 3
        simulator.clear_faults()
        assert self.statuses(api, 1) == [200]

    def test_skip_lets_calls_pass_first(self, api: Api, simulator: Simulator) -> None:
        simulator.inject(Fault(on="list", do="status", skip=2))
        api.retrieve("msgbatch_x")
        assert self.statuses(api, 4) == [200, 200, 529, 200]

    def test_faults_of_one_kind_come_one_after_the_other(self, api: Api, simulator: Simulator) -> None:
        simulator.inject(Fault(do="status", status=500), Fault(do="status", status=504), Fault(do="html"))
        assert self.statuses(api, 4) == [500, 504, 502, 200]

    def test_match_picks_calls_by_path_query_or_body(self, api: Api, simulator: Simulator) -> None:
        simulator.inject(Fault(do="status", match="limit=7"), Fault(on="create", do="status", match='"part-2-'))
        assert api.list(limit=6).status_code == 200
        assert api.list(limit=7).status_code == 529
        assert api.create(request("part-1-0")).status_code == 200
        assert api.create(request("part-2-0")).status_code == 529

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"do": "explode"}, "no fault 'explode'"),
            ({"do": "status", "on": "everything"}, "no operation 'everything'"),
            ({"do": "cut", "on": "create"}, "can only happen on results"),
            ({"do": "slow"}, "needs seconds"),
            ({"do": "listing_lag"}, "needs either seconds or calls"),
        ],
    )
    def test_an_impossible_fault_is_rejected(self, fields: Any, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            Fault(**fields)


class TestOutages:
    @pytest.mark.parametrize(("kind", "status"), [("status:503", 503), ("html", 502)])
    def test_every_operation_fails(self, api: Api, simulator: Simulator, kind: str, status: int) -> None:
        simulator.outage(kind)
        assert {api.list().status_code, api.create(request()).status_code} == {status}
        simulator.end_outage()
        assert api.list().status_code == 200
        assert batches(simulator) == 0

    def test_refused_connections(self, api: Api, simulator: Simulator) -> None:
        api.list()
        simulator.outage("refuse")
        with pytest.raises(httpx.ConnectError):
            api.list()
        simulator.end_outage()
        assert api.list().status_code == 200

    def test_hanging_connections(self, simulator: Simulator, connect: Connect) -> None:
        api = connect(simulator, timeout=0.1)
        simulator.outage("hang")
        with pytest.raises(httpx.ReadTimeout):
            api.list()
        simulator.end_outage()
        assert api.list().status_code == 200

    def test_an_outage_ends_after_its_seconds(self, api: Api, simulator: Simulator) -> None:
        simulator.outage("hang", seconds=0.1)
        with pytest.raises(httpx.RemoteProtocolError):
            api.list()
        assert api.list().status_code == 200

    def test_an_unknown_outage_is_refused(self, simulator: Simulator) -> None:
        with pytest.raises(ValueError, match="no outage 'status:200'"):
            simulator.outage("status:200")


@pytest.mark.parametrize("accepted", [False, True])
@pytest.mark.parametrize(("page", "begins"), [("html", "<html>"), ("empty", ""), ("json", '{"error"')])
def test_page_of_a_gateway_may_hide_a_batch(
    api: Api, simulator: Simulator, page: Any, begins: str, accepted: bool
) -> None:
    simulator.inject(Fault(on="create", do="page", status=451, page=page, accepted=accepted))
    response = api.create(request())

    assert response.status_code == 451
    assert response.text.startswith(begins)
    assert batches(simulator) == accepted


def test_wrong_batch_names_the_oldest_one(api: Api, simulator: Simulator) -> None:
    oldest = api.created()
    simulator.inject(Fault(on="create", do="wrong_batch"))

    assert api.create(request()).json()["id"] == oldest
    assert batches(simulator) == 2


def test_one_call_makes_two_batches(api: Api, simulator: Simulator) -> None:
    simulator.inject(Fault(on="create", do="create_twice"))
    answered = api.create(request()).json()["id"]

    assert api.list().json()["data"][0]["id"] == answered
    assert batches(simulator) == 2


def test_cached_listing_stays_as_it_was(api: Api, simulator: Simulator) -> None:
    simulator.inject(Fault(on="list", do="cached_listing", times=None))
    first = api.created()
    before = api.list().json()
    api.created()

    assert [batch["id"] for batch in before["data"]] == [first]
    assert api.list().json() == before
    simulator.clear_faults()
    assert len(api.list().json()["data"]) == 2


@pytest.mark.parametrize(("seconds", "hours"), [(None, None), (-18_000, -5), (18_000, 5)])
def test_date_header_is_missing_or_off(
    api: Api, simulator: Simulator, seconds: float | None, hours: int | None
) -> None:
    simulator.inject(Fault(on="list", do="odd_date", seconds=seconds))
    odd, right = api.list().headers.get("date"), parsedate_to_datetime(api.list().headers["date"])

    if hours is None:
        assert odd is None
    else:
        assert timedelta(hours=hours) - timedelta(minutes=1) < parsedate_to_datetime(odd) - right
        assert parsedate_to_datetime(odd) - right < timedelta(hours=hours) + timedelta(minutes=1)
