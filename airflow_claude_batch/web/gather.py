"""What the page is made of: every manifest under a folder, and rows without an answer."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec

from airflow_claude_batch._airflow.compat import ObjectStoragePath
from airflow_claude_batch.batch.land.manifest import MANIFEST_FILE, Manifest
from airflow_claude_batch.exceptions import ClaudeBatchError
from airflow_claude_batch.rows import read_rows

log = logging.getLogger(__name__)

#: Of each submission, how many rows without an answer the page lists.
FAILURES_KEPT: Final = 20


@dataclass(slots=True)
class Spending:
    """What one model's rows used and cost, as manifests say it. ``usd`` is None if the price is not known."""

    rows: int = 0
    input_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    usd: Decimal | None = Decimal(0)

    def add(self, part: Mapping[str, Any]) -> None:
        """Count a part of a manifest's ``by_model``."""
        usage = part["usage"]
        self.rows += sum(part["counts"].values())
        self.input_tokens += usage.get("input_tokens", 0)
        self.cache_write_tokens += usage.get("cache_creation_input_tokens", 0)
        self.cache_read_tokens += usage.get("cache_read_input_tokens", 0)
        self.output_tokens += usage.get("output_tokens", 0)
        self.usd = None if self.usd is None or part["usd"] is None else self.usd + Decimal(part["usd"])


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A row without an answer."""

    key: str
    status: str
    reason: str


@dataclass(slots=True)
class SubmissionSummary:
    """One manifest, and the first of its rows without an answer. ``name`` is its folder below the root."""

    name: str
    manifest: Manifest
    failures: list[FailedRow] = field(default_factory=list)

    @property
    def usd(self) -> Decimal:
        """What is known of the bill."""
        parts = (part["usd"] for part in self.manifest.by_model.values())
        return sum((Decimal(usd) for usd in parts if usd is not None), Decimal(0))

    @property
    def unpriced(self) -> list[str]:
        """The models of which the cost is not known."""
        return [model for model, part in self.manifest.by_model.items() if part["usd"] is None]

    @property
    def failed(self) -> int:
        """How many rows have no answer; nothing is missing before the end."""
        counts = self.manifest.counts
        waiting = 0 if self.manifest.status == "ended" else counts.get("missing", 0)
        return sum(counts.values()) - counts.get("succeeded", 0) - waiting

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


def gather(root: str) -> list[SubmissionSummary]:
    """Every submission under a folder, oldest first.

    One that cannot be read is named in the log and left out: the others are worth their page.
    """
    found = []
    for name, manifest in _manifests(root):
        submission = SubmissionSummary(name, manifest)
        try:
            _add_failures(submission)
        except (ClaudeBatchError, OSError) as error:
            log.warning("%s is shown without its failed rows: %s", name, error)
        found.append(submission)
    return sorted(found, key=lambda submission: submission.sort_key)


def _manifests(root: str) -> Iterator[tuple[str, Manifest]]:
    path = ObjectStoragePath(root)
    base = path.path.rstrip("/")
    for place in sorted(path.fs.find(base)):
        folder, _, name = place.rpartition("/")
        if name != MANIFEST_FILE:
            continue
        try:
            with path.fs.open(place, "rb") as file:
                manifest = msgspec.json.decode(file.read(), type=Manifest)
        except (msgspec.MsgspecError, OSError) as error:
            log.warning("%s is left out: %s", place, error)
            continue
        yield folder.removeprefix(base.lstrip("/")).removeprefix(base).strip("/") or base.rpartition("/")[2], manifest


def _add_failures(submission: SubmissionSummary) -> None:
    if submission.manifest.results_path is None or not submission.failed:
        return
    wanted = min(FAILURES_KEPT, submission.failed)
    for row in read_rows(submission.manifest.results_path):
        if row.status != "succeeded":
            error = row.error or {}
            reason = ": ".join(str(part) for part in (error.get("type"), error.get("message")) if part)
            submission.failures.append(FailedRow(str(row.key), row.status, reason))
        if len(submission.failures) == wanted:
            return
