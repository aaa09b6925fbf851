"""How one request of a batch ends."""

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
class ParsedResult:
    """The ending of one request.

    :param kind: ``succeeded``, ``errored``, ``expired`` or ``canceled``.
    :param stop_reason: of a succeeded one, if it is to be other than what the answer gives.
    :param category: of a refusal, ``cyber`` and so on, or None.
    :param running: whether an errored one failed while it ran (such rows carry a ``workerreq_`` id).
    """

    kind: str
    stop_reason: str | None = None
    category: str | None = None
    error_type: str | None = None
    message: str = ""
    running: bool = False

    @classmethod
    def parse(cls, script: str) -> ParsedResult:
        """Read "succeeded", "expired", "canceled", a stop reason, "refusal:cyber" or "errored:<type>[:<message>]"."""
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
        raise ValueError(f"not an outcome: {script!r}")

    def error_result(self) -> dict[str, Any]:
        """The ``result`` of an errored row: the real error sits two levels down."""
        error = {
            "details": {"error_visibility": "user_facing"},
            "type": self.error_type,
            "message": self.message,
        }
        request_id = "workerreq_011CSimulated" if self.running else None
        return {"type": "errored", "error": {"type": "error", "error": error, "request_id": request_id}}


_MESSAGES = {True: "Internal server error", False: "scripted"}

SUCCEEDED = ParsedResult("succeeded")
EXPIRED = ParsedResult("expired")
CANCELED = ParsedResult("canceled")
INTERNAL_ERROR = ParsedResult.parse("errored:api_error")


def invalid(message: str) -> ParsedResult:
    """The ending of a request whose params are wrong."""
    return ParsedResult("errored", error_type="invalid_request_error", message=message)


def unknown_model(name: object) -> ParsedResult:
    """The ending of a request whose model does not exist or is retired."""
    return ParsedResult("errored", error_type="not_found_error", message=f"model: {name}")
