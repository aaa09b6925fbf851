"""Read a scripted outcome, and build the result that the simulated API gives for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

STOP_REASONS = frozenset(
    {
        "end_turn",
        "max_tokens",
        "stop_sequence",
        "tool_use",
        "pause_turn",
        "refusal",
        "model_context_window_exceeded",
    }
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one request.

    :param kind: ``succeeded``, ``errored``, ``expired`` or ``canceled``.
    :param stop_reason: for ``succeeded``: replaces the stop reason of the answer.
    :param category: for a refusal: ``cyber`` and so on, or None.
    :param running: for ``errored``: whether it failed while it ran. Such rows contain a ``workerreq_`` id.
    """

    kind: str
    stop_reason: str | None = None
    category: str | None = None
    error_type: str | None = None
    message: str = ""
    running: bool = False

    @classmethod
    def parse(cls, script: str) -> Outcome:
        """Read "succeeded", "expired", "canceled", a stop reason, "refusal:cyber" or "errored:<type>[:<message>]".

        :raises ValueError: when the text is none of these.
        """
        kind, _, rest = script.partition(":")
        if kind == "errored":
            error_type, _, message = rest.partition(":")
            error_type = error_type or "api_error"
            running = error_type not in ("invalid_request_error", "not_found_error")
            return cls(kind, error_type=error_type, message=message or _MESSAGES[running], running=running)
        if kind == "refusal":
            return cls("succeeded", stop_reason=kind, category=rest or None)
        if kind in STOP_REASONS and not rest:
            return cls("succeeded", stop_reason=kind)
        if kind in ("succeeded", "expired", "canceled") and not rest:
            return cls(kind)
        raise ValueError(
            f"The outcome function returned {script!r}, which is not an outcome.\n"
            'Return "succeeded", "expired", "canceled", "errored:<type>", "refusal" or a stop reason.'
        )

    def error_result(self) -> dict[str, Any]:
        """Build the ``result`` of an errored row. The actual error is two levels down."""
        error = {
            "details": {"error_visibility": "user_facing"},
            "type": self.error_type,
            "message": self.message,
        }
        request_id = "workerreq_011CSimulated" if self.running else None
        return {"type": "errored", "error": {"type": "error", "error": error, "request_id": request_id}}


_MESSAGES = {True: "Internal server error", False: "scripted"}

SUCCEEDED = Outcome("succeeded")
EXPIRED = Outcome("expired")
CANCELED = Outcome("canceled")
INTERNAL_ERROR = Outcome.parse("errored:api_error")


def invalid(message: str) -> Outcome:
    """Build the outcome of a request with invalid params."""
    return Outcome("errored", error_type="invalid_request_error", message=message)


def unknown_model(name: object) -> Outcome:
    """Build the outcome of a request whose model does not exist or is retired."""
    return Outcome("errored", error_type="not_found_error", message=f"model: {name}")
