"""Error responses in the API's own format (API reference, "Errors")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_claude_batch.simulator.http.exchange import Response, json_response

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_type(status: int) -> str:
    """Return the ``error.type`` that belongs to a status."""
    return TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")


def error_status(kind: str) -> int:
    """Return the status that belongs to an ``error.type``. Of a timeout, that is the server's."""
    return 504 if kind == "timeout_error" else next((status for status, name in TYPES.items() if name == kind), 500)


class APIError(Exception):
    """The API responds to a call with an error.

    :param status: the HTTP status. It decides ``error.type`` unless ``kind`` is given.
    :param code: ``error.details.error_code``, which few errors have.
    :param headers: more headers, such as ``retry-after``.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind or error_type(status)
        self.code = code
        self.headers = dict(headers or {})

    def response(self, request_id: str) -> Response:
        """Build the error response, with the headers that tell a client whether to retry."""
        error: dict[str, Any] = {"type": self.kind, "message": self.message}
        if self.code is not None:
            error["details"] = {"error_code": self.code}
        headers = {"request-id": request_id}
        if self.status in (400, 404):
            headers["x-should-retry"] = "false"
        return json_response(
            {"type": "error", "error": error, "request_id": request_id},
            status=self.status,
            headers={**headers, **self.headers},
        )


def proxy_too_large_response() -> Response:
    """Build the 413 of the API's proxy. It lacks the top-level ``type`` and ``request_id``."""
    error = {"type": "request_too_large", "message": "Request exceeds the maximum size"}
    return json_response({"error": error}, status=413, headers={"connection": "close"})
