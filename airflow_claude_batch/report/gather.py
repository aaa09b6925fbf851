"""What the page is made of: every manifest under a folder, and what its rows add up to."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import msgspec

from airflow_claude_batch._compat import ObjectStoragePath
from airflow_claude_batch.batch import manifest as manifests
from airflow_claude_batch.batch.manifest import Manifest
from airflow_claude_batch.exceptions import ClaudeBatchError
from airflow_claude_batch.rows import read_rows

log = logging.getLogger(__name__)

#: Of each submission, how many rows without an answer the page lists.
FAILURES_KEPT: Final = 20


@dataclass(slots=True)
class Spending:
    """What some answers used and cost. ``usd`` leaves out models whose price is not known."""

    answers: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    usd: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Failure:
    """A row without an answer."""

    key: str
    status: str
    reason: str


@dataclass(slots=True)
class Submission:
    """One manifest, and its rows added up. ``name`` is its folder below the root."""

    name: str
    manifest: Manifest
    models: dict[str, Spending] = field(default_factory=dict)
    stop_reasons: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    @property
    def usd(self) -> Decimal:
        return sum((spending.usd for spending in self.models.values()), Decimal(0))

    @property
    def day(self) -> str:
        at = self.manifest.created_at
        return at.date().isoformat() if at else "unknown"

    @property
    def turnaround(self) -> timedelta | None:
        begun, ended = self.manifest.created_at, self.manifest.ended_at
        return ended - begun if begun and ended else None

    @property
    def sort_key(self) -> tuple[bool, datetime | None, str]:
        return self.manifest.created_at is None, self.manifest.created_at, self.name


def gather(root: str) -> list[Submission]:
    """Every submission under a folder, oldest first.

    One that cannot be read is named in the log and left out: the others are worth their page.
    """
    found = []
    for name, manifest in _manifests(root):
        submission = Submission(name, manifest)
        try:
            _add_rows(submission)
        except (ClaudeBatchError, OSError) as error:
            log.warning("%s is shown without its rows: %s", name, error)
        found.append(submission)
    return sorted(found, key=lambda submission: submission.sort_key)


def _manifests(root: str) -> Iterator[tuple[str, Manifest]]:
    path = ObjectStoragePath(root)
    base = path.path.rstrip("/")
    for place in sorted(path.fs.find(base)):
        folder, _, name = place.rpartition("/")
        if name != manifests.FILE:
            continue
        try:
            with path.fs.open(place, "rb") as file:
                manifest = msgspec.json.decode(file.read(), type=Manifest)
        except (msgspec.MsgspecError, OSError) as error:
            log.warning("%s is left out: %s", place, error)
            continue
        yield folder.removeprefix(base.lstrip("/")).removeprefix(base).strip("/") or ".", manifest


def _add_rows(submission: Submission) -> None:
    if submission.manifest.results_path is None:
        return
    for row in read_rows(submission.manifest.results_path):
        if row.model and row.usage:
            spending = submission.models.setdefault(row.model, Spending())
            spending.answers += 1
            spending.input_tokens += row.usage.get("input_tokens") or 0
            spending.output_tokens += row.usage.get("output_tokens") or 0
            spending.cached_tokens += row.usage.get("cache_read_input_tokens") or 0
            spending.usd += Decimal(row.cost_usd or 0)
            submission.stop_reasons[row.stop_reason or "none"] += 1
        if row.status != "succeeded" and len(submission.failures) < FAILURES_KEPT:
            error = row.error or {}
            reason = ": ".join(str(part) for part in (error.get("type"), error.get("message")) if part)
            submission.failures.append(Failure(str(row.key), row.status, reason))
