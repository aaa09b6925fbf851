"""Control endpoints under ``/_simulator/``: what `Simulator` offers in Python, for tests in other processes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

import msgspec

from airflow_claude_batch.simulator.clock import Clock, timestamp
from airflow_claude_batch.simulator.faults import Fault
from airflow_claude_batch.simulator.http.errors import APIError
from airflow_claude_batch.simulator.http.exchange import Request, Response, json_response
from airflow_claude_batch.simulator.messages.canned_answers import CannedAnswer, Unmatched
from airflow_claude_batch.simulator.messages.canned_lines import read_answers

_T = TypeVar("_T")

PREFIX = "/_simulator/"
_BATCH_PATH = re.compile(r"POST batches/([^/]+)/(end|expire)")


class Controllable(Protocol):
    """The methods of `Simulator` that the control endpoints call."""

    @property
    def clock(self) -> Clock: ...
    def inject(self, *faults: Fault) -> None: ...
    def clear_faults(self) -> None: ...
    def add_canned_answers(self, answers: Sequence[CannedAnswer], *, unmatched: Unmatched | None = None) -> None: ...
    def clear_answers(self) -> None: ...
    def answers(self) -> list[dict[str, Any]]: ...
    def outage(self, kind: str, *, seconds: float | None = None) -> None: ...
    def end_outage(self) -> None: ...
    def pace(self, batch_seconds: float) -> None: ...
    def advance(self, seconds: float) -> datetime: ...
    def end(self, batch_id: str, *, succeeded_share: float = 1.0) -> dict[str, Any]: ...
    def expire(self, batch_id: str, *, succeeded_share: float = 0.0) -> dict[str, Any]: ...
    def requests(self) -> list[dict[str, Any]]: ...
    def calls(self) -> dict[str, int]: ...
    def books(self, *, detail: bool = True) -> dict[str, Any]: ...


class _Advance(msgspec.Struct, forbid_unknown_fields=True):
    advance: float


class _Pace(msgspec.Struct, forbid_unknown_fields=True):
    batch_seconds: float


class _Outage(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    seconds: float | None = None


class _Share(msgspec.Struct, forbid_unknown_fields=True):
    succeeded_share: float | None = None


class Control:
    """Responds to calls of the control endpoints. They need no credential."""

    def __init__(self, simulator: Controllable) -> None:
        self._simulator = simulator

    def handle(self, request: Request) -> Response:
        """Perform the action and respond with its result. Errors are ``{"error": …}`` with status 400, 404 or 409."""
        action = f"{request.method} {request.path.removeprefix(PREFIX)}"
        try:
            return json_response(self._perform(action, request))
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            return json_response({"error": str(error)}, status=400)
        except RuntimeError as error:
            return json_response({"error": str(error)}, status=409)
        except APIError as error:
            return json_response({"error": error.message}, status=error.status)

    def _perform(self, action: str, request: Request) -> Any:
        simulator = self._simulator
        match action:
            case "GET books":
                return simulator.books(detail=request.query_value("detail") != "false")
            case "GET requests":
                return simulator.requests()
            case "GET requests-log":
                return simulator.calls()
            case "GET clock":
                return {"now": timestamp(simulator.clock.now())}
            case "POST clock":
                return {"now": timestamp(simulator.advance(_read(request, _Advance).advance))}
            case "POST pace":
                batch_seconds = _read(request, _Pace).batch_seconds
                simulator.pace(batch_seconds)
                return {"batch_seconds": batch_seconds}
            case "POST faults":
                faults = _read_faults(request)
                simulator.inject(*faults)
                return {"injected": len(faults)}
            case "DELETE faults":
                simulator.clear_faults()
                return {"injected": 0}
            case "GET answers":
                return simulator.answers()
            case "POST answers":
                return self._add_answers(request)
            case "DELETE answers":
                simulator.clear_answers()
                return {"added": 0}
            case "POST outage":
                return self._begin_outage(_read(request, _Outage))
            case "DELETE outage":
                simulator.end_outage()
                return {"outage": None}
        return self._end_batch(action, request)

    def _add_answers(self, request: Request) -> dict[str, Any]:
        unmatched: Any = request.query_value("unmatched")
        if request.body is None:
            raise ValueError("The canned answers are too large.\nSend them in several calls. They are added in order.")
        answers = read_answers(bytes(request.body), source="body")
        self._simulator.add_canned_answers(answers, unmatched=unmatched)
        return {"added": len(answers)}

    def _begin_outage(self, outage: _Outage) -> dict[str, Any]:
        if outage.kind == "refuse" and outage.seconds is None:
            raise ValueError(
                "The outage 'refuse' needs seconds.\n"
                "While it lasts, the simulator accepts no connection, so no DELETE could end it.\n"
                'Send {"kind": "refuse", "seconds": 5}, for example.'
            )
        self._simulator.outage(outage.kind, seconds=outage.seconds)
        return {"outage": outage.kind, "seconds": outage.seconds}

    def _end_batch(self, action: str, request: Request) -> dict[str, Any]:
        found = _BATCH_PATH.fullmatch(action)
        if found is None:
            raise APIError(404, f"There is no control endpoint {action!r}. The simulator's README lists them.")
        end = {"end": self._simulator.end, "expire": self._simulator.expire}[found[2]]
        share = _read(request, _Share).succeeded_share if request.body else None
        return end(found[1]) if share is None else end(found[1], succeeded_share=share)


def _read(request: Request, kind: type[_T]) -> _T:
    return msgspec.json.decode(request.body or b"", type=kind)


def _read_faults(request: Request) -> list[Fault]:
    decoded = msgspec.json.decode(request.body or b"", type=Fault | list[Fault])
    return decoded if isinstance(decoded, list) else [decoded]
