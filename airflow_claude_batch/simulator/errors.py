"""The API's ways of saying no, in its own shapes (error envelope: API reference, "Errors")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_claude_batch.simulator.exchange import Answer, json_answer

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
    """The ``error.type`` that belongs to a status."""
    return TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")


class Refusal(Exception):  # noqa: N818  (an answer of the API, not a failure of the simulator)
    """The API refuses a call.

    :param status: the HTTP status; it decides ``error.type`` unless ``kind`` is given.
    :param code: ``error.details.error_code``, which few refusals have.
    :param headers: further headers, such as ``retry-after``.
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

    def answer(self, request_id: str) -> Answer:
        """The envelope, with the headers that tell a client whether to try again."""
        error: dict[str, Any] = {"type": self.kind, "message": self.message}
        if self.code is not None:
            error["details"] = {"error_code": self.code}
        headers = {"request-id": request_id}
        if self.status in (400, 404):
            headers["x-should-retry"] = "false"
        return json_answer(
            {"type": "error", "error": error, "request_id": request_id},
            status=self.status,
            headers={**headers, **self.headers},
        )


def edge_too_large() -> Answer:
    """The 413 of the edge: another shape, without top-level ``type`` and ``request_id``."""
    error = {"type": "request_too_large", "message": "Request exceeds the maximum size"}
    return json_answer({"error": error}, status=413, headers={"connection": "close"})
