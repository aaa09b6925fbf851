"""What is said about errors of Google's gateway."""

from __future__ import annotations

import json

import pytest

from airflow_claude_batch.api.evidence import Effect
from airflow_claude_batch.api.http import HTTPRequest, HTTPResponse
from airflow_claude_batch.api.responses import error_response_failure
from airflow_claude_batch.exceptions import APIStatusError


def failure(status: int, body: object, *, platform: str = "google") -> APIStatusError:
    request = HTTPRequest(
        action="create a message batch",
        effect=Effect.NOT_IDEMPOTENT,
        method="POST",
        url="https://claude.googleapis.com/v1/projects/p/locations/global/workspaces/w/invoke/v1/messages/batches",
        headers={"authorization": "Bearer ya29.secret-token"},
        read_timeout=1,
        write_timeout=1,
        credential_remedy="Check the account.",
        not_found_remedy="Check the base URL.",
        max_response_bytes=1000,
        platform=platform,
    )
    error = error_response_failure(request, HTTPResponse(status, {}, json.dumps(body).encode())).error
    assert isinstance(error, APIStatusError)
    return error


def of_google(code: int, status: str, message: str) -> dict[str, object]:
    return {"error": {"code": code, "message": message, "status": status, "details": []}}


@pytest.mark.parametrize(
    ("status", "name", "message", "remedy"),
    [
        (401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", "Check the account."),
        (403, "PERMISSION_DENIED", "Permission denied on resource project p.", "Check the account."),
        (403, "PERMISSION_DENIED", "The API has not been used in project 1 before.", "Enable the API in the project"),
        (404, "NOT_FOUND", "Workspace not found.", "Check project_id, location and workspace_id"),
    ],
    ids=["token", "permission", "disabled", "place"],
)
def test_error_of_google_is_shown_with_its_remedy(status: int, name: str, message: str, remedy: str) -> None:
    error = failure(status, of_google(status, name, message))

    assert f"claude.googleapis.com responded with {status} {name}." in str(error)
    assert f"Message: {message}" in str(error)
    assert remedy in str(error)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_error_of_google_proves_nothing_about_a_create_call(status: int) -> None:
    error = failure(status, of_google(status, "SOMETHING", "no"))

    assert error.may_have_been_accepted
    assert error.error_type is None


def test_error_of_the_api_is_read_as_anywhere() -> None:
    body = {"type": "error", "error": {"type": "permission_error", "message": "no"}, "request_id": "req_1"}

    assert str(failure(403, body)) == str(failure(403, body, platform="anthropic"))
    assert not failure(403, body).may_have_been_accepted


def test_token_that_is_repeated_in_an_error_is_masked() -> None:
    error = failure(401, of_google(401, "UNAUTHENTICATED", "bad token ya29.secret-token"))

    assert "secret-token" not in str(error)
