"""Scripted faults: what goes wrong, on which call, how often."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from typing import Literal, get_args

import msgspec

from airflow_claude_batch.simulator.exchange import Request

OPERATIONS = (
    "create",
    "retrieve",
    "list",
    "cancel",
    "delete",
    "results",
    "count_tokens",
    "models",
    "token",
)

Operation = Literal[
    "create", "retrieve", "list", "cancel", "delete", "results", "count_tokens", "models", "token", "any"
]
Kind = Literal[
    "drop_before_accept",
    "drop_after_accept",
    "status",
    "status_after_accept",
    "html",
    "malformed",
    "not_found_blip",
    "slow",
    "cut",
    "duplicate_row",
    "stranger_row",
    "missing_row",
    "no_content_type",
    "no_trailing_newline",
    "gzip",
    "listing_lag",
]

# The kinds that decide the whole answer: one call suffers one of them. The others add up.
DECISIVE = frozenset(
    {
        "drop_before_accept",
        "drop_after_accept",
        "status",
        "status_after_accept",
        "html",
        "malformed",
        "not_found_blip",
    }
)
_ONLY_ON: dict[str, tuple[str, ...]] = {
    "not_found_blip": ("retrieve", "cancel", "delete", "results"),
    "listing_lag": ("create",),
    **dict.fromkeys(
        (
            "cut",
            "duplicate_row",
            "stranger_row",
            "missing_row",
            "no_content_type",
            "no_trailing_newline",
            "gzip",
        ),
        ("results",),
    ),
}


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that will go wrong.

    :param do: what; see the README for each kind.
    :param on: the operation it happens to; "any": every operation that ``do`` makes sense for.
    :param times: how many calls it strikes; None: every one until `clear_faults`.
    :param skip: how many matching calls it lets pass first.
    :param match: only calls whose ``METHOD /path?query`` or body contains this text.
    :param status: for ``status`` and ``status_after_accept``: the HTTP status (default 529).
    :param type: the ``error.type``; default: the one that belongs to the status.
    :param message: the ``error.message``.
    :param code: ``error.details.error_code``.
    :param retry_after: the header, in seconds or as an HTTP date; None: no header.
    :param retry_after_ms: the header, in milliseconds.
    :param seconds: for ``slow``: real seconds before the answer, which the call has earned by then; for
        ``listing_lag``: seconds on the simulator's clock until the new batch is listed.
    :param calls: for ``listing_lag``: list calls that do not show the new batch.
    :param at: for ``cut``: "mid_line", "line_end" (a clean end as far as HTTP can tell) or a byte count.
    :param reset: for the drops and ``cut``: a TCP reset instead of an ordinary close.
    """

    do: Kind
    on: Operation = "any"
    times: int | None = 1
    skip: int = 0
    match: str | None = None
    status: int = 529
    type: str | None = None
    message: str | None = None
    code: str | None = None
    retry_after: float | str | None = None
    retry_after_ms: int | None = None
    seconds: float | None = None
    calls: int | None = None
    at: Literal["mid_line", "line_end"] | int = "mid_line"
    reset: bool = False

    def __post_init__(self) -> None:
        # msgspec checks types when decoding only; a script misspelled in Python must not pass silently.
        if self.do not in get_args(Kind):
            raise ValueError(f"unknown fault {self.do!r}; there are: {', '.join(get_args(Kind))}")
        if self.on not in get_args(Operation):
            raise ValueError(f"unknown operation {self.on!r}; there are: {', '.join(get_args(Operation))}")
        if self.on != "any" and self.on not in _ONLY_ON.get(self.do, OPERATIONS):
            raise ValueError(f"{self.do!r} can only happen on {', '.join(_ONLY_ON[self.do])}, not on {self.on!r}")
        if self.do == "slow" and self.seconds is None:
            raise ValueError("'slow' needs seconds=")
        if self.do == "listing_lag" and (self.seconds is None) == (self.calls is None):
            raise ValueError("'listing_lag' needs either seconds= or calls=")

    def strikes(self, operation: str) -> bool:
        return operation in _ONLY_ON.get(self.do, OPERATIONS) and self.on in ("any", operation)

    @property
    def group(self) -> str:
        """Of the faults of one group, one call suffers at most one."""
        return "decisive" if self.do in DECISIVE else self.do


class FaultScript:
    """The faults still to come, in the order in which they were injected."""

    def __init__(self) -> None:
        self._pending: list[_Pending] = []
        self._lock = threading.Lock()

    def inject(self, faults: Iterable[Fault]) -> None:
        with self._lock:
            self._pending.extend(_Pending(fault) for fault in faults)

    def clear(self) -> None:
        with self._lock:
            self._pending.clear()

    def take(self, operation: str, request: Request) -> dict[str, Fault]:
        """What strikes this call, by group. Each fault returned has been counted."""
        taken: dict[str, Fault] = {}
        with self._lock:
            for pending in self._pending:
                fault = pending.fault
                if fault.group in taken or not fault.strikes(operation) or not _matches(fault, request):
                    continue
                if pending.count():
                    taken[fault.group] = fault
            self._pending = [pending for pending in self._pending if not pending.spent]
        return taken


class _Pending:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._skip = fault.skip
        self._left = fault.times

    @property
    def spent(self) -> bool:
        return self._left is not None and self._left <= 0

    def count(self) -> bool:
        if self._skip > 0:
            self._skip -= 1
            return False
        if self._left is not None:
            self._left -= 1
        return True


def _matches(fault: Fault, request: Request) -> bool:
    if fault.match is None:
        return True
    query = "&".join(f"{name}={value}" for name, value in request.query)
    line = f"{request.method} {request.path}?{query}"
    if fault.match in line:
        return True
    return request.body is not None and re.search(re.escape(fault.match.encode()), request.body) is not None
