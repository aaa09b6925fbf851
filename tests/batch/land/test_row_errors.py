from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_claude_batch.api import wire
from airflow_claude_batch.batch.land.parse_result import parse_result
from airflow_claude_batch.batch.land.row_errors import is_permanent
from airflow_claude_batch.batch.land.rows import Status
from airflow_claude_batch.batch.money.pricing import PriceTable

REFUSED = "invalid_request_error"


@pytest.mark.parametrize(
    "message",
    [
        "The URL could not be reached",
        "The image URL returned HTTP 503",
        "Connection refused while fetching the document",
        "Fetching the PDF failed",
        "Could not load image from the provided URL",
        "Failed to access file",
        "Unable to resolve host files.example",
        "Too many requests to the URL of the image",
        "Service unavailable",
        "Please add funds to go on",
        "The file is not ready yet",
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade.",
        "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
        "This request would exceed your organization's monthly spend limit.",
        "Your organization has insufficient funds.",
        "You must add a payment method first.",
        "Unable to download the file. Please verify the URL and try again.",
        "Failed to download image from URL https://example.org/a.png",
        "messages.0.content.0.image.source: could not fetch the document",
        "Couldn't retrieve https://example.org/a.pdf: connection reset",
        "Downloading https://example.org/a.png failed with status 503",
        "Timed out while downloading the file",
        "The request for the image timed out.",
        "The URL https://example.org is currently unreachable",
        "Service temporarily unavailable",
        "Overloaded",
        "Internal server error",
        "This organization has been disabled.",
    ],
)
def test_words_of_what_passes_make_an_error_that_is_not_final(message: str) -> None:
    assert not is_permanent(REFUSED, message)
    assert not is_permanent(REFUSED, message.upper())


@pytest.mark.parametrize(
    "message",
    [
        "messages: Field required",
        "messages: at least one message is required",
        "model: claude-does-not-exist-9",
        '"`stream=True` is not supported in the Message Batches API"',
        "max_tokens: must be greater than or equal to 1",
        "max_tokens: 9999999 > 64000, which is the maximum allowed number of output tokens for claude-haiku-4-5",
        "tools.0.web_fetch_20250910._requestedType: Extra inputs are not permitted",
        "Tool 'x' not found in provided tools",
        "messages.0.content.0.image.source.base64.data: The file format is invalid or unsupported",
        "temperature: Extra inputs are not permitted",
        "timeout: Extra inputs are not permitted",
        "billing_policy: Extra inputs are not permitted",
        "prompt is too long: 250000 tokens > 200000 maximum",
        "file not found: file_011C",
        None,
        "",
    ],
)
def test_other_refusals_are_final(message: str | None) -> None:
    assert is_permanent(REFUSED, message)


@pytest.mark.parametrize("type_", ["api_error", "overloaded_error", "billing_error", "unknown", None])
def test_errors_of_other_types_are_never_final(type_: str | None) -> None:
    assert not is_permanent(type_, "messages: Field required")


TWICE = {"type": "error", "error": {"type": REFUSED, "message": "why"}, "request_id": "req_1"}


@pytest.mark.parametrize(
    ("error", "type_", "message", "status"),
    [
        pytest.param(TWICE, REFUSED, "why", Status.REFUSED, id="nested twice"),
        pytest.param({"type": REFUSED, "message": "why"}, REFUSED, "why", Status.REFUSED, id="nested once"),
        pytest.param({"type": "error", "error": TWICE}, REFUSED, "why", Status.REFUSED, id="nested three times"),
        pytest.param({"type": "error", "error": "why"}, "unknown", "why", Status.ERRORED, id="text inside"),
        pytest.param({"message": "why"}, "unknown", "why", Status.ERRORED, id="no type"),
        pytest.param("why", "unknown", "why", Status.ERRORED, id="text"),
        pytest.param(None, "errored", "without an error", Status.ERRORED, id="null"),
        pytest.param(["why"], "unknown", '["why"]', Status.ERRORED, id="list"),
        pytest.param({"code": 7, "detail": "why"}, "unknown", "why", Status.ERRORED, id="other names"),
        pytest.param({"error": {"type": 7, "message": "why"}}, "unknown", "why", Status.ERRORED, id="odd type"),
        pytest.param({"error": {"type": REFUSED, "message": ["why"]}}, REFUSED, "why", Status.REFUSED, id="odd words"),
    ],
)
def test_error_keeps_its_words_in_whatever_form_it_comes(error: Any, type_: str, message: str, status: Status) -> None:
    line = json.dumps({"custom_id": "c", "result": {"type": "errored", "error": error}}).encode()
    parsed = parse_result(wire.decode_result_line(line), "b", PriceTable.load())
    row = json.loads(b"{" + parsed.body)

    assert parsed.status is status
    assert row["error"]["type"] == type_
    assert message in row["error"]["message"]
