"""Anthropic's own SDK must understand the answers to direct requests, their errors and their headers."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from simulated import fixed_clock, params

from airflow_claude_batch.simulator import Fault, MessageRates, Simulator

# Not installed beside every Airflow that the tests run on.
anthropic = pytest.importorskip("anthropic")


@pytest.fixture
def sdk():
    """Makes the SDK's client of a simulator."""
    with ExitStack() as stack:

        def connect(simulator):
            url = stack.enter_context(simulator.serve()).url
            return stack.enter_context(anthropic.Anthropic(api_key="sk-test", base_url=url, max_retries=0))

        yield connect


def test_the_vendors_client_understands_an_answer(sdk):
    simulator = Simulator()
    message = sdk(simulator).messages.create(**params())
    assert message.content[0].text == "Simulated answer to “hello”"
    assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "end_turn")
    assert message.usage.service_tier == "standard"
    assert message.usage.input_tokens == 2


def test_the_vendors_client_reads_the_raw_headers(sdk):
    response = sdk(
        Simulator(clock=fixed_clock(), message_rates=MessageRates(requests=50))
    ).messages.with_raw_response.create(**params())
    assert response.headers["anthropic-ratelimit-requests-limit"] == "50"
    assert response.headers["anthropic-ratelimit-requests-remaining"] == "49"
    assert response.headers["anthropic-ratelimit-requests-reset"] == "2026-11-22T09:00:01Z"
    assert response.headers["anthropic-ratelimit-input-tokens-remaining"] == "9999998"
    assert response.parse().model == "claude-haiku-5-5"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"max_tokens": 0}, anthropic.BadRequestError, "max_tokens: must be greater"),
        ({"model": "claude-none"}, anthropic.NotFoundError, "model: claude-none"),
        ({"stream": True}, anthropic.BadRequestError, "stream"),
    ],
)
def test_invalid_params_get_at_once_the_error_of_a_batchs_row(sdk, change, error, message):
    simulator = Simulator()
    with pytest.raises(error, match=message):
        sdk(simulator).post("/v1/messages", body=params(**change), cast_to=object)
    assert simulator.books()["direct"]["billed_requests"] == 0


def test_the_answer_is_that_of_a_batch_with_the_same_params(sdk):
    simulator = Simulator(answers={"prompt": "hello", "text": "canned"})
    client = sdk(simulator)
    batch = client.messages.batches.create(requests=[{"custom_id": "a", "params": params()}])
    row = next(iter(client.messages.batches.results(batch.id)))
    direct = client.messages.create(**params())
    assert row.result.message.content == direct.content
    assert direct.content[0].text == "canned"


def test_an_outcome_function_counts_batches_and_direct_requests_as_attempts(sdk):
    simulator = Simulator(outcome=lambda _, __, attempt: "errored:api_error" if attempt < 3 else None)
    client = sdk(simulator)
    client.messages.batches.create(requests=[{"custom_id": "a", "params": params()}])
    with pytest.raises(anthropic.InternalServerError):
        client.messages.create(**params())
    assert client.messages.create(**params()).type == "message"


def test_the_books_have_direct_requests_on_their_own(sdk):
    simulator = Simulator()
    client = sdk(simulator)
    client.messages.batches.create(requests=[{"custom_id": "a", "params": params()}])
    for prompt in ("hello", "hello", "other"):
        client.messages.create(**params(prompt))
    books = simulator.books()
    assert books["billed_requests"] == 1
    assert books["direct"]["billed_requests"] == 3
    [twice] = [digest for digest, times in books["direct"]["billed"].items() if times == 2]
    assert books["billed"] == {twice: 1}
    assert [request["prompt"] for request in books["direct"]["requests"]] == ["hello", "hello", "other"]
    assert books["calls"]["message"] == 3
    assert simulator.books(detail=False)["direct"] == {"billed_requests": 3}


@pytest.mark.parametrize(
    ("fault", "billed"),
    [
        (Fault(do="drop_before_accept", on="message"), 0),
        (Fault(do="drop_after_accept", on="message"), 1),
        (Fault(do="status", on="message", status=529), 0),
        (Fault(do="status_after_accept", on="message", status=504), 1),
        (Fault(do="html", on="message"), 0),
    ],
    ids=lambda value: getattr(value, "do", None),
)
def test_a_lost_response_is_billed_if_the_request_was_accepted(sdk, fault, billed):
    simulator = Simulator()
    simulator.inject(fault)
    with pytest.raises(anthropic.APIError):
        sdk(simulator).messages.create(**params())
    assert simulator.books()["direct"]["billed_requests"] == billed
