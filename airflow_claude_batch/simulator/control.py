"""The control surface under ``/_simulator/``: the same levers as in Python, for tests in other processes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from airflow_claude_batch.simulator.clock import timestamp
from airflow_claude_batch.simulator.errors import Refusal
from airflow_claude_batch.simulator.exchange import Answer, Request, json_answer
from airflow_claude_batch.simulator.faults import Fault

if TYPE_CHECKING:
    from airflow_claude_batch.simulator.simulator import Simulator

_T = TypeVar("_T")

PREFIX = "/_simulator/"
_BATCH_PATH = re.compile(r"batches/([^/]+)/(end|expire)")


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
    """Answers the calls of the control surface. No credential is asked for."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def handle(self, request: Request) -> Answer:
        """Pull the lever and answer with what it did; errors are ``{"error": …}`` with 400, 404 or 409."""
        lever = f"{request.method} {request.path.removeprefix(PREFIX)}"
        try:
            return json_answer(self._pull(lever, request))
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            return json_answer({"error": str(error)}, status=400)
        except RuntimeError as error:
            return json_answer({"error": str(error)}, status=409)
        except Refusal as refusal:
            return json_answer({"error": refusal.message}, status=refusal.status)

    def _pull(self, lever: str, request: Request) -> Any:
        simulator = self._simulator
        match lever:
            case "GET books":
                return simulator.books(detail=request.query_value("detail") != "false")
            case "GET requests-log":
                return simulator.calls()
            case "GET clock":
                return {"now": timestamp(simulator.clock.now())}
            case "POST clock":
                return {"now": timestamp(simulator.advance(_read(request, _Advance).advance))}
            case "POST pace":
                pace = _read(request, _Pace).batch_seconds
                simulator.pace(pace)
                return {"batch_seconds": pace}
            case "POST faults":
                faults = _faults(request)
                simulator.inject(*faults)
                return {"injected": len(faults)}
            case "DELETE faults":
                simulator.clear_faults()
                return {"injected": 0}
            case "POST outage":
                return self._begin_outage(_read(request, _Outage))
            case "DELETE outage":
                simulator.end_outage()
                return {"outage": None}
        return self._end_batch(lever, request)

    def _begin_outage(self, wanted: _Outage) -> dict[str, Any]:
        if wanted.kind == "refuse" and wanted.seconds is None:
            raise ValueError("'refuse' needs seconds: while it lasts, nobody listens to a DELETE either")
        self._simulator.outage(wanted.kind, seconds=wanted.seconds)
        return {"outage": wanted.kind, "seconds": wanted.seconds}

    def _end_batch(self, lever: str, request: Request) -> dict[str, Any]:
        found = _BATCH_PATH.fullmatch(lever.removeprefix("POST "))
        if found is None or request.method != "POST":
            raise Refusal(404, "no such control; the simulator's README lists them")
        share = _read(request, _Share).succeeded_share if request.body else None
        lever_for = {"end": self._simulator.end, "expire": self._simulator.expire}
        pull = lever_for[found[2]]
        return pull(found[1]) if share is None else pull(found[1], succeeded_share=share)


def _read(request: Request, kind: type[_T]) -> _T:
    return msgspec.json.decode(request.body or b"", type=kind)


def _faults(request: Request) -> list[Fault]:
    found = msgspec.json.decode(request.body or b"", type=Fault | list[Fault])
    return found if isinstance(found, list) else [found]
