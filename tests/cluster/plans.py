"""The planned disruptions of the short and the full run, and the network faults among them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Plan:
    """How often each disruption happens within ``seconds``.

    :param events: disruptions by name: those of ``FAULTS``, and those of `cluster.disruptions.Disruptions`.
    :param first: disruptions in the first tenth of the time, because recovery from them takes minutes.
    """

    seconds: float
    events: dict[str, int]
    first: dict[str, int] = field(default_factory=dict)
    outage_seconds: float = 75.0


SHORT = Plan(
    seconds=110,
    first={"drop create before": 1, "crash workers in create": 1},
    events={
        "kill worker": 2,
        "freeze worker": 1,
        "kill triggerer": 2,
        "kill scheduler": 1,
        "kill api-server": 1,
        "freeze triggerer": 1,
        "drop create after": 2,
        "error create after": 1,
        "gateway's page after create": 1,
        "refuse create": 1,
        "drop calls": 3,
        "cut results": 2,
        "529 outage": 2,
        "clear deferred": 2,
        "clear succeeded": 1,
        "fail by hand": 1,
    },
    outage_seconds=20,
)

FULL = Plan(
    seconds=400,
    first={"drop create before": 3, "crash workers in create": 2},
    events={
        "kill worker": 7,
        "kill worker's parent": 3,
        "freeze worker": 2,
        "kill triggerer": 6,
        "freeze triggerer": 3,
        "kill scheduler": 4,
        "kill dag-processor": 1,
        "kill api-server": 4,
        "crash workers in create": 2,
        "drop create before": 3,
        "drop create after": 8,
        "error create after": 4,
        "gateway's page after create": 3,
        "refuse create after": 2,
        "listing not found for a moment": 2,
        "refuse create": 6,
        "drop calls": 12,
        "cut results": 8,
        "corrupt responses": 4,
        "batch not found for a moment": 4,
        "529 outage": 6,
        "hanging outage": 2,
        "clear deferred": 6,
        "clear succeeded": 6,
        "fail by hand": 3,
    },
)

FAULTS: dict[str, list[dict[str, Any]]] = {
    "drop create before": [{"do": "drop_before_accept", "on": "create"}],
    "drop create after": [{"do": "drop_after_accept", "on": "create", "reset": True}],
    "error create after": [{"do": "status_after_accept", "on": "create", "status": 500}],
    "gateway's page after create": [{"do": "page", "on": "create", "status": 403, "accepted": True}],
    "refuse create after": [{"do": "status_after_accept", "on": "create", "status": 529}],
    "listing not found for a moment": [{"do": "status", "on": "list", "status": 404, "times": 2}],
    "refuse create": [{"do": "status", "on": "create", "status": 529, "times": 4}],
    "drop calls": [
        {"do": "drop_before_accept", "on": operation, "times": 3, "reset": reset}
        for operation, reset in (("retrieve", True), ("list", False), ("results", True))
    ],
    "cut results": [{"do": "cut", "on": "results", "times": 2}, {"do": "cut", "on": "results", "at": "line_end"}],
    "corrupt responses": [
        {"do": "html", "on": "retrieve", "times": 3},
        {"do": "malformed", "on": "list", "times": 2},
        {"do": "status", "on": "retrieve", "status": 429, "retry_after": 3, "times": 2},
    ],
    "batch not found for a moment": [{"do": "not_found_blip", "on": "retrieve", "times": 2}],
}
