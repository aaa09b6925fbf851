"""Anthropic's own SDK must understand every response of the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from simulated import MODEL, jwt, request, requests

from airflow_claude_batch.simulator import Fault, ManualClock, Simulator

# Not installed beside every Airflow that the tests run on.
anthropic = pytest.importorskip("anthropic")
credentials_of_sdk = pytest.importorskip("anthropic.lib.credentials")


@pytest.fixture
def sdk(simulator: Simulator) -> Iterator[anthropic.Anthropic]:
    with (
        simulator.serve() as server,
        anthropic.Anthropic(api_key="sk-test", base_url=server.url, max_retries=0) as client,
    ):
        yield client


@pytest.fixture
def simulator(clock: ManualClock) -> Simulator:
    return Simulator(clock=clock, batch_seconds=60)


def test_the_sdk_knows_no_other_type_of_iteration_than_those_that_are_billed() -> None:
    """Another one makes the cost of an answer unknown until ``batch.money.iterations`` reads it."""
    item = pytest.importorskip("anthropic.types.beta.beta_iterations_usage").BetaIterationsUsageItem
    variants = get_args(get_args(item)[0])

    types = {get_args(variant.model_fields["type"].annotation)[0] for variant in variants}

    assert types == {"message", "fallback_message", "compaction", "advisor_message"}


def test_a_batch_behaves_as_the_sdk_expects(sdk: anthropic.Anthropic, clock: ManualClock) -> None:
    batches = sdk.messages.batches
    created = batches.create(requests=requests(3))
    assert created.processing_status == "in_progress"
    assert created.created_at == datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
    assert created.expires_at - created.created_at == timedelta(hours=24)
    assert created.request_counts.processing == 3
    assert created.results_url is None

    clock.advance(60)
    ended = batches.retrieve(created.id)
    assert ended.processing_status == "ended"
    assert ended.ended_at == created.created_at + timedelta(seconds=60)
    assert ended.request_counts.succeeded == 3

    rows = list(batches.results(created.id))
    assert {row.custom_id for row in rows} == {"r0", "r1", "r2"}
    for row in rows:
        assert row.result.type == "succeeded"
        assert row.result.message.model == MODEL
        assert row.result.message.stop_reason == "end_turn"
        assert row.result.message.usage.service_tier == "batch"
        assert row.result.message.content[0].type == "text"

    deleted = batches.delete(created.id)
    assert (deleted.id, deleted.type) == (created.id, "message_batch_deleted")
    with pytest.raises(anthropic.NotFoundError):
        batches.retrieve(created.id)


def test_pages_run_in_both_directions(sdk: anthropic.Anthropic) -> None:
    ids = [sdk.messages.batches.create(requests=requests(1)).id for _ in range(7)]
    newest_first = ids[::-1]
    assert [batch.id for batch in sdk.messages.batches.list(limit=2)] == newest_first
    assert [batch.id for batch in sdk.messages.batches.list(limit=3, after_id=ids[5])] == newest_first[2:]
    page = sdk.messages.batches.list(limit=2, before_id=ids[1])
    assert [batch.id for batch in page.data] == [ids[3], ids[2]]
    assert page.has_more is True
    assert {batch.id for batch in page} == set(ids[2:])


def test_a_canceled_batch_ends_with_canceled_rows(sdk: anthropic.Anthropic) -> None:
    created = sdk.messages.batches.create(requests=requests(2))
    canceling = sdk.messages.batches.cancel(created.id)
    assert canceling.processing_status == "canceling"
    assert canceling.cancel_initiated_at is not None
    assert sdk.messages.batches.retrieve(created.id).request_counts.canceled == 2
    assert [row.result.type for row in sdk.messages.batches.results(created.id)] == ["canceled", "canceled"]


def test_an_errored_row_is_read_two_levels_down(sdk: anthropic.Anthropic, clock: ManualClock) -> None:
    wrong = {"custom_id": "wrong", "params": {"model": "claude-nope", "max_tokens": 1, "messages": []}}
    created = sdk.messages.batches.create(requests=[wrong])  # type: ignore[list-item]  # wrong on purpose
    clock.advance(60)
    (row,) = sdk.messages.batches.results(created.id)
    assert row.result.type == "errored"
    assert row.result.error.error.type == "not_found_error"
    assert row.result.error.error.message == "model: claude-nope"
    assert row.result.error.request_id is None


def test_canned_blocks_are_filled_in_as_the_sdk_needs_them(
    sdk: anthropic.Anthropic, simulator: Simulator, clock: ManualClock
) -> None:
    blocks = [
        {"type": "thinking", "thinking": "Hm."},
        {"type": "redacted_thinking"},
        {"type": "text", "text": "Let me look."},
        {"type": "server_tool_use", "name": "web_search", "input": {"query": "x"}},
        {"type": "tool_use", "name": "look", "input": {"where": "here"}},
    ]
    simulator.add_answers({"message": blocks})
    created = sdk.messages.batches.create(requests=requests(1))
    clock.advance(60)
    (row,) = sdk.messages.batches.results(created.id)
    assert row.result.type == "succeeded"
    message = anthropic.types.Message.model_validate(row.result.message.model_dump(exclude_unset=True))
    assert [block.type for block in message.content] == [block["type"] for block in blocks]
    assert message.stop_reason == "tool_use"
    assert message.usage.output_tokens_details is not None
    assert message.usage.output_tokens_details.thinking_tokens == 1


def test_tokens_are_counted(sdk: anthropic.Anthropic) -> None:
    counted = sdk.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "x" * 40}])
    assert counted.input_tokens == 10


def test_models_are_listed_and_retrieved(sdk: anthropic.Anthropic) -> None:
    listed = list(sdk.models.list(limit=5))
    assert len(listed) > 5
    assert {model.lifecycle for model in listed} == {"active", "deprecated"}
    resolved = sdk.models.retrieve("claude-haiku-4-5")
    assert resolved.id == "claude-haiku-4-5-20251001"
    assert resolved.max_tokens == 64_000
    assert resolved.capabilities is not None
    assert resolved.capabilities.batch.supported
    retired = list(sdk.models.list(lifecycle=["retired"]))
    assert retired
    assert all(model.lifecycle == "retired" and model.retires_at for model in retired)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
        (403, anthropic.PermissionDeniedError, "permission_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (409, anthropic.ConflictError, "conflict_error"),
        (413, anthropic.APIStatusError, "request_too_large"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (504, anthropic.InternalServerError, "timeout_error"),
        (529, anthropic.InternalServerError, "overloaded_error"),
    ],
)
def test_an_error_becomes_the_sdks_class(
    sdk: anthropic.Anthropic,
    simulator: Simulator,
    status: int,
    error: type[anthropic.APIStatusError],
    kind: str,
) -> None:
    simulator.inject(Fault(do="status", status=status))
    with pytest.raises(error) as raised:
        sdk.messages.batches.list()
    assert raised.value.status_code == status
    assert raised.value.type == kind
    assert raised.value.request_id
    assert raised.value.request_id.startswith("req_")


def test_an_error_code_is_read(sdk: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.inject(Fault(do="status", status=429, code="enforced_spend_limit_reached"))
    with pytest.raises(anthropic.RateLimitError) as raised:
        sdk.messages.batches.create(requests=requests(1))
    assert raised.value.error_code == "enforced_spend_limit_reached"


def test_a_wrong_key_is_an_authentication_error(simulator: Simulator) -> None:
    with (
        simulator.serve() as server,
        anthropic.Anthropic(api_key="wrong", base_url=server.url, max_retries=0) as client,
        pytest.raises(anthropic.AuthenticationError),
    ):
        client.messages.batches.list()


def test_a_dropped_connection_is_a_connection_error(sdk: anthropic.Anthropic, simulator: Simulator) -> None:
    simulator.inject(Fault(on="create", do="drop_after_accept"))
    with pytest.raises(anthropic.APIConnectionError):
        sdk.messages.batches.create(requests=requests(1))
    assert len(simulator.books()["batches"]) == 1


def test_the_sdks_own_retry_pays_twice(simulator: Simulator) -> None:
    simulator.inject(Fault(on="create", do="drop_after_accept"))
    with (
        simulator.serve() as server,
        anthropic.Anthropic(api_key="sk-test", base_url=server.url, max_retries=1) as client,
    ):
        client.messages.batches.create(requests=requests(1))
    assert len(simulator.books()["batches"]) == 2


class TestFederation:
    def credentials(self, assertion: str, rule: str = "fdrl_1") -> Any:
        return credentials_of_sdk.WorkloadIdentityCredentials(
            identity_token_provider=lambda: assertion,
            federation_rule_id=rule,
            organization_id="3f0c2c1e-0000-4000-8000-000000000000",
        )

    def test_it_exchanges_once_and_calls(self, clock: ManualClock) -> None:
        simulator = Simulator()
        with simulator.serve() as server:
            credentials = self.credentials(jwt(sub="airflow"))
            with anthropic.Anthropic(credentials=credentials, base_url=server.url, max_retries=0) as client:
                client.messages.batches.create(requests=[request()])  # type: ignore[list-item]  # a plain dict
                client.messages.batches.list()
            credentials.close()
        assert simulator.calls()["token"] == 1
        assert simulator.calls()["create"] == 1

    def test_it_understands_an_error(self) -> None:
        with Simulator().serve() as server:
            credentials = self.credentials("not-a-jwt")
            with (
                anthropic.Anthropic(credentials=credentials, base_url=server.url, max_retries=0) as client,
                pytest.raises(credentials_of_sdk.WorkloadIdentityError) as raised,
            ):
                client.messages.batches.list()
            credentials.close()
        assert raised.value.status_code == 401
        assert raised.value.request_id
