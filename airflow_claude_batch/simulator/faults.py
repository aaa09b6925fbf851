"""Injected faults: what goes wrong, on which call, and how often."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from typing import Literal, get_args

import msgspec

from airflow_claude_batch.simulator.http.exchange import Request

OPERATIONS = (
    "create",
    "retrieve",
    "list",
    "cancel",
    "delete",
    "results",
    "count_tokens",
    "message",
    "models",
    "token",
)

Operation = Literal[
    "create", "retrieve", "list", "cancel", "delete", "results", "count_tokens", "message", "models", "token", "any"
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
    "unknown_row",
    "missing_row",
    "few_rows",
    "changed_ids",
    "odd_row",
    "no_content_type",
    "no_trailing_newline",
    "gzip",
    "listing_lag",
    "page",
    "odd_counts",
    "odd_create",
    "wrong_batch",
    "create_twice",
    "cached_listing",
    "odd_date",
    "stranger_row",  # the old name of unknown_row
]

OddForm = Literal[
    "lone_surrogate",
    "nan",
    "huge_number",
    "not_utf8",
    "line_end_in_text",
    "deep",
    "no_custom_id",
    "no_result",
    "odd_usage",
    "cut_row",
    "error_object",
    "html",
    "errored_before",
]

# These replace the whole response, so one call gets at most one of them. The others combine.
REPLACES_RESPONSE = frozenset(
    {
        "drop_before_accept",
        "drop_after_accept",
        "status",
        "status_after_accept",
        "html",
        "malformed",
        "not_found_blip",
        "page",
        "wrong_batch",
    }
)
_ONLY_ON: dict[str, tuple[str, ...]] = {
    "not_found_blip": ("retrieve", "cancel", "delete", "results"),
    "listing_lag": ("create",),
    "odd_counts": ("retrieve", "list"),
    "odd_create": ("create",),
    "wrong_batch": ("create",),
    "create_twice": ("create",),
    "cached_listing": ("list",),
    **dict.fromkeys(
        (
            "cut",
            "duplicate_row",
            "unknown_row",
            "missing_row",
            "few_rows",
            "changed_ids",
            "odd_row",
            "no_content_type",
            "no_trailing_newline",
            "gzip",
        ),
        ("results",),
    ),
}


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that will go wrong.

    The response to the next create call is lost, although the batch was created::

        simulator.inject(Fault(do="drop_after_accept", on="create"))

    Every poll gets a 529 with ``retry-after``, until `Simulator.clear_faults`::

        simulator.inject(Fault(do="status", on="retrieve", status=529, retry_after=5, times=None))

    The first results download breaks off after 1,000 bytes, and the second returns one row twice::

        simulator.inject(Fault(do="cut", at=1_000), Fault(do="duplicate_row", skip=1))

    The results hold three rows only, as far as HTTP can tell a whole stream, whatever the counts say::

        simulator.inject(Fault(do="few_rows", on="results", rows=3, times=None))

    The answer to the batch's first request ends with half a surrogate pair, in every download::

        simulator.inject(Fault(do="odd_row", form="lone_surrogate", times=None))

    A gateway answers a call with a page of its own, with this status, and the API never sees the call::

        simulator.inject(Fault(do="page", on="results", status=200))

    It answers so although the API has accepted the call::

        simulator.inject(Fault(do="page", on="create", status=403, page="empty", accepted=True))

    A proxy sends a create call twice, and the response to both is lost::

        simulator.inject(Fault(do="create_twice", on="create"), Fault(do="drop_after_accept", on="create"))

    A gateway leaves out the ``Date`` header, or its clock is five hours slow::

        simulator.inject(Fault(do="odd_date", times=None), Fault(do="odd_date", seconds=-18_000, times=None))

    The batch seems to have other counts than it has::

        simulator.inject(Fault(do="odd_counts", on="retrieve", counts={"succeeded": 40}))

    :param do: what goes wrong:

        - ``drop_before_accept``, ``drop_after_accept``: the connection closes without a response, before or
          after the call took effect;
        - ``status``, ``status_after_accept``: an error response, instead of or after the effect;
        - ``html``: a proxy's 502 page, without effect;
        - ``malformed``: the call takes effect, and the response is 200 with broken JSON;
        - ``not_found_blip``: 404 for a batch that exists;
        - ``slow``: the call takes effect, and the response is delayed;
        - ``listing_lag``: the new batch is missing from the list at first;
        - ``cut``: the results end early;
        - ``duplicate_row``, ``missing_row``, ``unknown_row``: the results contain a row twice, lack a row, or
          contain a row with a custom_id that was never sent;
        - ``few_rows``: the results end after ``rows`` rows, complete as far as HTTP can tell;
        - ``changed_ids``: the results' custom_ids were changed by a gateway, see ``ids``;
        - ``odd_row``: the row of the batch's first request is not in the API's form, see ``form``;
        - ``page``: a page of a gateway with ``status``, see ``page``. Without ``accepted`` the call has no effect;
        - ``wrong_batch``: the call takes effect, and the response is the workspace's oldest batch;
        - ``create_twice``: the call makes two batches, and the response is the second;
        - ``cached_listing``: a list call gets the response of the first list call that this fault happened to;
        - ``odd_date``: the ``Date`` header is missing or wrong, see ``seconds``;
        - ``odd_counts``: the batch's ``request_counts`` are ``counts``;
        - ``odd_create``: so they are in the response to the create call;
        - ``no_content_type``, ``no_trailing_newline``, ``gzip``: unusual but valid forms of the results.

    :param on: the operation that it happens to. "any": every operation that ``do`` makes sense for.
    :param times: number of calls that it happens to. None: every call until `Simulator.clear_faults`.
    :param skip: number of matching calls that pass first.
    :param match: only calls whose ``METHOD /path?query`` or body contains this text.
    :param status: for ``status``, ``status_after_accept`` and ``page``: the HTTP status.
    :param type: the ``error.type``. Default: the type that belongs to the status.
    :param message: the ``error.message``.
    :param code: the ``error.details.error_code``.
    :param retry_after: the ``retry-after`` header, in seconds or as an HTTP date. None: no header.
    :param retry_after_ms: the ``retry-after-ms`` header, in milliseconds.
    :param seconds: for ``slow``: real seconds until the response. For ``listing_lag``: seconds on the simulator's
        clock until the new batch is listed. For ``odd_date``: seconds added to the header. None: no header.
    :param calls: for ``listing_lag``: number of list calls that do not show the new batch.
    :param at: for ``cut``: "mid_line", "line_end" (complete as far as HTTP can tell) or a number of bytes.
    :param page: for ``page``: "html", "empty" or "json", which is no error envelope of the API.
    :param accepted: for ``page``: the call takes effect first.
    :param rows: for ``few_rows``: number of rows that the results hold.
    :param ids: for ``changed_ids``: "lower" or "upper" case, "cut" to 20 characters, or
        "damaged": the last 10 are others.
    :param form: for ``odd_row``: "lone_surrogate", "nan", "huge_number", "not_utf8", "line_end_in_text", "deep",
        "no_custom_id", "no_result", "odd_usage", "cut_row", "error_object", "html", or "errored_before", which puts a
        row with an error before the row.
    :param counts: for ``odd_counts`` and ``odd_create``: the whole ``request_counts``. None: null.
    :param reset: for the drops and ``cut``: end with a TCP reset instead of an ordinary close.
    :raises ValueError: when the fault cannot happen as described.
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
    page: Literal["html", "empty", "json"] = "html"
    accepted: bool = False
    rows: int = 0
    ids: Literal["lower", "upper", "cut", "damaged"] = "lower"
    form: OddForm = "lone_surrogate"
    counts: dict[str, int | None] | None = None

    def __post_init__(self) -> None:
        # msgspec checks types only when it decodes. A misspelled fault in Python must not pass silently.
        if self.do not in get_args(Kind):
            raise ValueError(f"There is no fault {self.do!r}.\nChoose one of: {', '.join(get_args(Kind))}.")
        if self.on not in get_args(Operation):
            raise ValueError(f"There is no operation {self.on!r}.\nChoose one of: {', '.join(get_args(Operation))}.")
        if self.do == "stranger_row":
            msgspec.structs.force_setattr(self, "do", "unknown_row")
        if self.on != "any" and self.on not in _ONLY_ON.get(self.do, OPERATIONS):
            possible = ", ".join(_ONLY_ON[self.do])
            raise ValueError(f"The fault {self.do!r} can only happen on {possible}, not on {self.on!r}.")
        if self.do == "slow" and self.seconds is None:
            raise ValueError("The fault 'slow' needs seconds.\nSet seconds= to the delay of the response.")
        if self.do == "listing_lag" and (self.seconds is None) == (self.calls is None):
            raise ValueError(
                "The fault 'listing_lag' needs either seconds or calls.\n"
                "Set seconds= or calls= to how long the new batch stays unlisted."
            )

    def applies_to(self, operation: str) -> bool:
        return operation in _ONLY_ON.get(self.do, OPERATIONS) and self.on in ("any", operation)

    @property
    def group(self) -> str:
        """Name the group of faults of which one call gets at most one."""
        return "response" if self.do in REPLACES_RESPONSE else self.do


class FaultScript:
    """Faults that have not happened yet, in the order of their injection."""

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
        """Return the faults of this call by group, and count them as having happened."""
        taken: dict[str, Fault] = {}
        with self._lock:
            for pending in self._pending:
                fault = pending.fault
                if fault.group in taken or not fault.applies_to(operation) or not _matches(fault, request):
                    continue
                if pending.count():
                    taken[fault.group] = fault
            self._pending = [pending for pending in self._pending if not pending.exhausted]
        return taken


class _Pending:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._skip = fault.skip
        self._left = fault.times

    @property
    def exhausted(self) -> bool:
        return self._left is not None and self._left <= 0

    def count(self) -> bool:
        """Count a matching call. Returns whether the fault happens to it."""
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
    # A body may be a memory map, which has no `in` for bytes.
    return request.body is not None and re.search(re.escape(fault.match.encode()), request.body) is not None
