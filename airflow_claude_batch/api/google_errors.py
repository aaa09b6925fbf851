"""Errors of Google Cloud's gateway: what Google says before a call reaches the API, and what to do then.

They do not have the API's form, so they prove nothing about a create call, and only their words are used here. All
of Google's APIs have this form: https://google.aip.dev/193.
"""

from __future__ import annotations

from typing import Final

import msgspec

from airflow_claude_batch.api.http import HTTPRequest, HTTPResponse
from airflow_claude_batch.api.wire import ErrorEnvelope, ErrorObject

_DISABLED: Final = ("has not been used in project", "it is disabled", "SERVICE_DISABLED")
_ENABLE: Final = (
    "Enable the API in the project, and subscribe to Claude in Google Cloud's Marketplace. What was enabled just now "
    "may take minutes."
)
_PLACE: Final = "Check project_id, location and workspace_id of the connection."


class _Status(msgspec.Struct, frozen=True):
    message: str
    status: str


class _Response(msgspec.Struct, frozen=True):
    error: _Status


def google_error(response: HTTPResponse) -> ErrorEnvelope | None:
    """Read an error of Google's. None if it has another form, such as the API's own."""
    try:
        error = msgspec.json.decode(response.body, type=_Response).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return ErrorEnvelope(ErrorObject(error.status, error.message))


def google_remedy(request: HTTPRequest, response: HTTPResponse, envelope: ErrorEnvelope) -> str | None:
    """Say what to do after an error of Google's gateway. None if the API itself answered, or nothing is known."""
    if google_error(response) is None:
        return None
    if any(words in (envelope.message or "") for words in _DISABLED):
        return _ENABLE
    return {403: request.credential_remedy, 404: _PLACE}.get(response.status_code)
