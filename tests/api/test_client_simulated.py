"""Both clients against the simulator, over real sockets: each operation, each fault, and the books afterwards."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

import pytest
from clients import KEY, FakeClock, RecordedSleep, SyncClient, sync_only, with_clients

from airflow_claude_batch import exceptions
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.api.listing import newer_edge, older_edge
from airflow_claude_batch.api.wire import decode_error, decode_result_line
from airflow_claude_batch.api.workload_identity import WorkloadIdentity
from airflow_claude_batch.simulator import Fault, ManualClock, Simulator
from airflow_claude_batch.simulator.endpoints.credentials import FederationRule

START = datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC)
JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln"


def request(custom_id, content="hello", **params):
    message = {"role": "user", "content": content}
    return {
        "custom_id": custom_id,
        "params": {"model": "claude-haiku-5-5", "max_tokens": 64, "messages": [message]} | params,
    }


def text_of(row):
    """The text of a succeeded row's message."""
    return "".join(block.get("text", "") for block in json.loads(bytes(row.result.message))["content"])


def body(*requests):
    return json.dumps({"requests": requests or [request("a"), request("b")]}).encode()


class World:
    """A simulator with a server, and clients that talk to it."""

    def __init__(self, client_class, **options):
        self.client_class = client_class
        self.clock = ManualClock(START)
        self.simulator = Simulator(clock=self.clock, batch_seconds=60, **options)
        self.pauses = RecordedSleep()
        self.server = None
        self.opened = []

    def client(self, clock=None, **settings):
        settings = {"credentials": ApiKey(KEY), "base_url": self.server.url, "read_timeout": 5.0} | settings
        options = {"clock": clock} if clock else {}
        client = self.client_class(ClientConfig(**settings), sleep=self.pauses, rng=lambda: 0.0, **options)
        client.__enter__()
        self.opened.append(client)
        return client

    def create(self, **settings):
        """Make a batch as another process would: with a client of its own."""
        config = ClientConfig(**({"credentials": ApiKey(KEY), "base_url": self.server.url} | settings))
        with SyncClient(config) as client:
            return client.create_batch(body())

    def result_types(self, batch_id):
        config = ClientConfig(credentials=ApiKey(KEY), base_url=self.server.url)
        with SyncClient(config) as client, client.stream_results(batch_id) as lines:
            return {decode_result_line(line).result.type for line in lines}

    @property
    def batches(self):
        return self.simulator.books()["batches"]

    def ended(self, client, *requests):
        batch = client.create_batch(body(*requests))
        self.simulator.advance(60)
        return batch


@pytest.fixture
def world_of(client_class):
    """Makes a world with these options of the simulator."""
    worlds = []

    def make(**options):
        world = World(client_class, **options)
        world.server = world.simulator.serve().start()
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        for client in world.opened:
            client.__exit__(None, None, None)
        world.server.stop()


@pytest.fixture
def world(world_of):
    return world_of()


@sync_only
def test_a_batch_lives_from_create_to_delete(world):
    client = world.client()
    created = client.create_batch(body())

    assert created.processing_status == "in_progress"
    assert created.request_counts.total == created.request_counts.processing == 2
    assert created.created_at == START
    assert created.server_time == START.replace(microsecond=0)
    with pytest.raises(exceptions.NotFoundError, match="no available results"), client.stream_results(created.id):
        pytest.fail("it has not ended")
    with pytest.raises(exceptions.BadRequestError, match="cannot be deleted"):
        client.delete_batch(created.id)

    world.simulator.advance(60)
    ended = client.retrieve_batch(created.id)
    assert ended.ended
    assert (ended.request_counts.succeeded, ended.request_counts.processing) == (2, 0)
    assert (ended.server_time - ended.created_at).total_seconds() == pytest.approx(60, abs=1)
    with client.stream_results(created.id) as lines:
        rows = [decode_result_line(line) for line in lines]
    assert {row.custom_id for row in rows} == {"a", "b"}
    assert all(text_of(row) for row in rows)

    assert client.delete_batch(created.id) == created.id
    with pytest.raises(exceptions.NotFoundError, match="not found"):
        client.retrieve_batch(created.id)


def test_canceled_batch_is_canceling_at_once(world):
    client = world.client()
    canceled = client.cancel_batch(world.create().id)

    assert canceled.processing_status == "canceling"
    assert canceled.cancel_initiated_at == START
    assert world.result_types(canceled.id) == {"canceled"}
    with pytest.raises(exceptions.BadRequestError):
        client.cancel_batch(canceled.id)


@sync_only
def test_errored_row_has_its_error(world):
    client = world.client()
    batch = world.ended(client, request("bad", max_tokens=0))
    with client.stream_results(batch.id) as lines:
        (row,) = map(decode_result_line, lines)

    assert row.result.type == "errored"
    assert decode_error(row.result.error).type == "invalid_request_error"


def listed(client, *, before_id=None, after_id=None, limit):
    """The ids of every page of a listing, in the direction that its first cursor takes."""
    page = client.list_batches(before_id=before_id, after_id=after_id, limit=limit)
    ids = [batch.id for batch in page.data]
    while page.has_more and page.data:
        cursor = {"before_id": newer_edge(page)} if before_id else {"after_id": older_edge(page)}
        page = client.list_batches(**cursor, limit=limit)
        ids += [batch.id for batch in page.data]
    return ids


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_batches_are_listed_in_both_directions(world, limit):
    client = world.client()
    ids = [world.create().id for _ in range(5)]
    oldest, *newer = ids

    assert listed(client, limit=limit) == ids[::-1]
    assert listed(client, after_id=ids[2], limit=limit) == [ids[1], oldest]
    assert set(listed(client, before_id=oldest, limit=limit)) == set(newer)
    assert listed(client, before_id=ids[-1], limit=limit) == []
    assert client.list_batches(limit=1).data[0].id == ids[-1]
    assert client.list_batches(limit=1).server_time == START.replace(microsecond=0)


@sync_only
def test_tokens_are_counted_and_models_known(world):
    client = world.client()

    assert client.count_tokens(request("a")["params"]) >= 1
    assert client.retrieve_model("claude-haiku-5-5").batch_supported is True
    assert "claude-haiku-5-5" in {model.id for model in client.list_models()}
    assert {model.lifecycle for model in client.list_models(lifecycle=["retired"])} == {"retired"}
    with pytest.raises(exceptions.NotFoundError):
        client.retrieve_model("claude-of-tomorrow")


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21"])
def test_both_headers_and_both_versions_are_understood(world, header, version):
    settings = {"credentials": ApiKey(KEY, header), "api_version": version}
    created = world.create(**settings)

    assert world.client(**settings).retrieve_batch(created.id).processing_status == "in_progress"


@sync_only
def test_no_log_of_any_level_holds_the_key_or_the_prompts(world, caplog):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "httpx")  # Airflow's logging, if an earlier test has set it up, silences it
    client = world.client(extra_headers={"x-gateway": "gateway-secret"})
    batch = world.ended(client, request("a", "my secret prompt"))
    read(client, batch)

    assert "httpx" in {record.name for record in caplog.records}
    for secret in (KEY, "gateway-secret", "my secret prompt", "Simulated answer"):
        assert secret not in caplog.text


CREATE = pytest.param(lambda client: client.create_batch(body()), id="create")
LIST = pytest.param(lambda client: client.list_batches(), id="list")


@with_clients("call", both=[LIST], sync=[CREATE])
def test_wrong_key_is_an_authentication_error(world_of, call):
    world = world_of(keys={"sk-right": "wrkspc_1"})

    with pytest.raises(exceptions.AuthenticationError, match="Check the API key") as caught:
        call(world.client())
    assert caught.value.request_id.startswith("req_")
    assert caught.value.may_have_been_accepted is False
    assert KEY not in str(caught.value)


def test_a_key_of_several_workspaces_acts_in_the_one_named(world_of):
    world = world_of(keys={KEY: ["wrkspc_1", "wrkspc_2"]})
    batch = world.create(workspace_id="wrkspc_2")

    assert world.batches[0]["workspace"] == "wrkspc_2"
    with pytest.raises(exceptions.NotFoundError, match="belongs to the batch's workspace"):
        world.client(workspace_id="wrkspc_1").retrieve_batch(batch.id)


# Each create that fails: how often it was sent, what it left behind, and whether we know.
@sync_only
@pytest.mark.parametrize(
    ("fault", "error", "sent", "made"),
    [
        pytest.param(
            Fault(do="drop_after_accept", on="create"),
            exceptions.APIConnectionError,
            1,
            1,
            id="answer lost after acceptance",
        ),
        pytest.param(
            Fault(do="drop_after_accept", on="create", reset=True),
            exceptions.APIConnectionError,
            1,
            1,
            id="reset after acceptance",
        ),
        pytest.param(
            Fault(do="drop_before_accept", on="create"),
            exceptions.APIConnectionError,
            1,
            0,
            id="dropped before acceptance",
        ),
        pytest.param(
            Fault(do="status_after_accept", on="create", status=504),
            exceptions.ServerError,
            1,
            1,
            id="504 after acceptance",
        ),
        pytest.param(Fault(do="status", on="create", status=500), exceptions.ServerError, 1, 0, id="500"),
        pytest.param(Fault(do="status", on="create", status=408), exceptions.ServerError, 1, 0, id="408"),
        pytest.param(Fault(do="html", on="create"), exceptions.ServerError, 1, 0, id="a proxy's 502"),
        pytest.param(Fault(do="malformed", on="create"), exceptions.MalformedResponseError, 1, None, id="malformed"),
        pytest.param(Fault(do="slow", on="create", seconds=30), exceptions.APIConnectionError, 1, 1, id="too slow"),
    ],
)
def test_a_create_that_may_have_been_accepted_is_sent_once_and_says_so(world, fault, error, sent, made):
    client = world.client(read_timeout=0.4)
    world.simulator.inject(fault)

    with pytest.raises(error, match="look for it before sending again") as caught:
        client.create_batch(body())
    assert caught.value.may_have_been_accepted is True
    assert world.simulator.calls()["create"] == sent
    assert made is None or len(world.batches) == made
    # And looking shows what became of it.
    assert len(client.list_batches().data) == len(world.batches)


@sync_only
@pytest.mark.parametrize(
    ("fault", "pauses"),
    [
        pytest.param(Fault(do="status", on="create", status=529), [0.5], id="overloaded"),
        pytest.param(Fault(do="status", on="create", status=429, retry_after=7), [7.5], id="429"),
        pytest.param(Fault(do="status", on="create", status=429, retry_after_ms=200), [0.22], id="429 in milliseconds"),
        pytest.param(
            Fault(do="status", on="create", status=429, code="ramp_limit_exceeded", retry_after=1), [1.1], id="ramp"
        ),
        pytest.param(Fault(do="status", on="create", status=400, code="request_body_timeout"), [0.5], id="slow upload"),
    ],
)
def test_a_create_that_was_surely_refused_is_sent_again(world, fault, pauses):
    world.simulator.inject(fault)
    batch = world.client().create_batch(body())

    assert world.simulator.calls()["create"] == 2
    assert [entry["id"] for entry in world.batches] == [batch.id]
    assert world.pauses == [pytest.approx(pause) for pause in pauses]


@sync_only
@pytest.mark.parametrize(
    "fault",
    [
        Fault(do="status", on="create", status=429, code="enforced_spend_limit_reached", times=None),
        Fault(do="status", on="create", status=402, times=None),
        Fault(
            do="status",
            on="create",
            status=400,
            message="You have reached your specified API usage limits.",
            times=None,
        ),
    ],
    ids=["spend limit of the tier", "402", "own limit, named in the message"],
)
def test_spend_limit_is_not_retried(world, fault):
    world.simulator.inject(fault)

    with pytest.raises(exceptions.BillingError, match="No retry will help") as caught:
        world.client().create_batch(body())
    assert world.simulator.calls()["create"] == 1
    assert caught.value.may_have_been_accepted is False


@sync_only
def test_create_while_connections_are_refused_has_created_nothing(world):
    client = world.client(max_retries=2)
    world.simulator.outage("refuse")

    with pytest.raises(exceptions.APIConnectionError, match="Nothing was created") as caught:
        client.create_batch(body())
    assert caught.value.may_have_been_accepted is False
    assert len(world.pauses) == 2
    assert world.batches == []


def test_reading_is_retried_through_several_failures(world):
    client = world.client(max_retries=5)
    batch = world.create()
    world.simulator.inject(
        Fault(do="drop_before_accept", on="retrieve"),
        Fault(do="status", on="retrieve", status=503),
        Fault(do="html", on="retrieve"),
        Fault(do="malformed", on="retrieve"),
        Fault(do="status", on="retrieve", status=529),
    )

    assert client.retrieve_batch(batch.id).id == batch.id
    assert world.pauses == [0.5, 1.0, 2.0, 4.0, 8.0]


def test_cancel_whose_response_was_lost_is_sent_again(world_of):
    world = world_of(cancel_seconds=30)
    client = world.client()
    batch = world.create()
    world.simulator.inject(Fault(do="drop_after_accept", on="cancel"))

    assert client.cancel_batch(batch.id).processing_status == "canceling"
    assert world.simulator.calls()["cancel"] == 2


@sync_only
def test_delete_whose_response_was_lost_is_not_found(world):
    client = world.client()
    batch = world.ended(client)
    world.simulator.inject(Fault(do="drop_after_accept", on="delete"))

    with pytest.raises(exceptions.NotFoundError):
        client.delete_batch(batch.id)
    assert world.batches[0]["deleted"]


def test_outage_raises_an_error(world):
    client = world.client(max_retries=0, read_timeout=0.3)
    batch = world.create()
    found = []
    for kind in ("hang", "html", "status:503", "refuse"):
        world.simulator.outage(kind)
        with pytest.raises(exceptions.APIError) as caught:
            client.retrieve_batch(batch.id)
        found.append(type(caught.value))
        world.simulator.end_outage()

    assert found == [
        exceptions.APIConnectionError,
        exceptions.ServerError,
        exceptions.ServerError,
        exceptions.APIConnectionError,
    ]


def read(client, batch):
    with client.stream_results(batch.id) as lines:
        return [decode_result_line(line).custom_id for line in lines]


TRICKY = [request(f"r{number}", f"line\u2028one\u2029two\x85three é 𝄞 {number}") for number in range(40)]


@sync_only
@pytest.mark.parametrize(
    "fault",
    [None, Fault(do="gzip"), Fault(do="no_content_type"), Fault(do="no_trailing_newline")],
    ids=lambda fault: fault and fault.do,
)
def test_results_with_any_characters_are_read_whole(world_of, fault):
    world = world_of(answer=lambda params, position: params["messages"][0]["content"])
    client = world.client()
    batch = world.ended(client, *TRICKY)
    if fault:
        world.simulator.inject(fault)
    with client.stream_results(batch.id) as lines:
        rows = {row.custom_id: text_of(row) for row in map(decode_result_line, lines)}

    assert rows == {each["custom_id"]: each["params"]["messages"][0]["content"] for each in TRICKY}


@sync_only
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_results_that_are_cut_in_a_line_raise_and_can_be_read_again(world, reset):
    client = world.client()
    batch = world.ended(client, *TRICKY)
    world.simulator.inject(Fault(do="cut", at="mid_line", reset=reset))

    with pytest.raises(exceptions.APIConnectionError, match=f"read the results of {batch.id}"):
        read(client, batch)
    assert sorted(read(client, batch)) == sorted(each["custom_id"] for each in TRICKY)


@sync_only
def test_results_that_end_too_early_but_cleanly_are_short(world):
    client = world.client()
    batch = world.ended(client, *TRICKY)
    world.simulator.inject(Fault(do="cut", at="line_end"))

    assert len(read(client, batch)) < client.retrieve_batch(batch.id).request_counts.total


def identity(world, **fields):
    return WorkloadIdentity(
        **{
            "federation_rule_id": "fdrl_1",
            "organization_id": "org",
            "identity_token": JWT,
            "base_url": world.server.url,
        }
        | fields
    )


def test_a_workload_identity_exchanges_once_and_again_when_its_token_is_old(world_of):
    world = world_of(federation={"fdrl_1": FederationRule(token_seconds=600)})
    hands = FakeClock()
    client = world.client(credentials=identity(world), clock=hands)
    for _ in range(3):
        client.list_batches()
    assert world.simulator.calls()["token"] == 1

    hands.now += 481
    world.simulator.advance(481)
    client.list_batches()
    assert world.simulator.calls()["token"] == 2


@sync_only
def test_token_that_expired_early_is_renewed_after_a_401(world_of):
    world = world_of(federation={"fdrl_1": FederationRule(token_seconds=600)})
    client = world.client(credentials=identity(world), clock=FakeClock())
    client.list_models()
    world.simulator.advance(700)
    batch = client.create_batch(body())

    assert [entry["id"] for entry in world.batches] == [batch.id]
    assert world.simulator.calls()["token"] == 2
    assert world.simulator.calls()["create"] == 2
    assert world.pauses == []


@with_clients("call", both=[LIST], sync=[CREATE])
def test_an_identity_that_the_rules_do_not_know_is_refused(world_of, call):
    world = world_of(federation={"fdrl_other": FederationRule()})

    with pytest.raises(exceptions.AuthenticationError, match="Check the workload identity") as caught:
        call(world.client(credentials=identity(world)))
    assert JWT not in str(caught.value)
    assert world.batches == []


@with_clients(
    "call,made",
    both=[pytest.param(*LIST.values, 0, id="list")],
    sync=[pytest.param(*CREATE.values, 1, id="create")],
)
def test_failed_exchange_is_retried(world, call, made):
    world.simulator.inject(Fault(do="status", on="token", status=503), Fault(do="drop_before_accept", on="token"))
    client = world.client(credentials=identity(world))

    call(client)
    assert len(world.batches) == made
    assert world.simulator.calls()["token"] == 3


@sync_only
def test_a_token_without_the_scope_is_a_403(world_of):
    world = world_of(federation={"fdrl_1": FederationRule(scope="workspace:read")})

    with pytest.raises(exceptions.PermissionDeniedError, match="permissions"):
        world.client(credentials=identity(world)).create_batch(body())
