"""Read what the report is about: every manifest below a folder, and some of the rows without an answer."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec

from airflow_claude_batch._airflow.results_folder import object_path
from airflow_claude_batch.batch.land.manifest import MANIFEST_FILE, Manifest
from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.exceptions import ClaudeBatchError
from airflow_claude_batch.rows import read_rows

log = logging.getLogger(__name__)

#: How many rows without an answer the report lists for each submission.
MAX_LISTED_FAILURES: Final = 20


@dataclass(slots=True)
class Spending:
    """Rows, tokens and cost of one model, summed over manifests.

    :param usd: None if the model's price is unknown.
    """

    rows: int = 0
    input_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    usd: Decimal | None = Decimal(0)

    def add(self, part: Mapping[str, Any]) -> None:
        """Add one entry of a manifest's ``by_model``."""
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

    @classmethod
    def of(cls, row: Row) -> FailedRow:
        error = row.error or {}
        reason = ": ".join(str(part) for part in (error.get("type"), error.get("message")) if part)
        return cls(str(row.key), row.status, reason)


@dataclass(slots=True)
class SubmissionSummary:
    """One submission: its manifest, and the first of its rows without an answer.

    :param name: its folder, relative to the folder of the report.
    """

    name: str
    manifest: Manifest
    failures: list[FailedRow] = field(default_factory=list)

    @property
    def usd(self) -> Decimal:
        """The known part of the bill."""
        parts = (part["usd"] for part in self.manifest.by_model.values())
        return sum((Decimal(usd) for usd in parts if usd is not None), Decimal(0))

    @property
    def is_cost_known(self) -> bool:
        """Return whether ``usd`` is the whole bill."""
        return all(part["usd"] is not None for part in self.manifest.by_model.values())

    @property
    def unknown_answers(self) -> int:
        """The number of answers whose cost is unknown because of their usage."""
        count = (self.manifest.cost or {}).get("unknown_answers")
        return count if isinstance(count, int) else 0

    @property
    def unpriced_models(self) -> list[str]:
        """The models whose price is unknown."""
        models = [model for model, part in self.manifest.by_model.items() if part["usd"] is None]
        if not self.unknown_answers:
            return models
        listed = (self.manifest.cost or {}).get("unpriced_models") or ()
        return [model for model in models if model in listed]

    @property
    def estimated_usd(self) -> Decimal | None:
        usd = (self.manifest.cost or {}).get("estimated_usd")
        return None if usd is None else Decimal(usd)

    @property
    def in_progress(self) -> int:
        """The number of requests that may still be answered."""
        return 0 if self.manifest.status == "ended" else self.manifest.counts.get("missing", 0)

    @property
    def succeeded(self) -> int:
        return self.manifest.counts.get("succeeded", 0)

    @property
    def failed(self) -> int:
        """The number of rows without an answer. Rows are missing only after the end."""
        return sum(self.manifest.counts.values()) - self.succeeded - self.in_progress

    @property
    def day(self) -> str:
        """The day of submission in UTC, ISO 8601, or ``unknown``."""
        created_at = self.manifest.created_at
        return created_at.date().isoformat() if created_at else "unknown"

    @property
    def turnaround(self) -> timedelta | None:
        """The time from the submission to its end; None before."""
        created_at, ended_at = self.manifest.created_at, self.manifest.ended_at
        return ended_at - created_at if created_at and ended_at else None

    @property
    def sort_key(self) -> tuple[bool, datetime | None, str]:
        return self.manifest.created_at is None, self.manifest.created_at, self.name


def gather(root: str) -> list[SubmissionSummary]:
    """Return every submission below a folder, the oldest first.

    Manifests and rows that cannot be read are named in the log and left out.

    :param root: a results folder, or one submission's folder; a path or a URI.
    :raises ConfigurationError: when no installed provider serves the URI.

    Example: ``render(gather("s3://aws_default@bucket/claude-batch"), root="…", now=datetime.now(UTC))``
    """
    found = []
    for name, manifest in _read_manifests(root):
        submission = SubmissionSummary(name, manifest)
        try:
            _add_failures(submission)
        except (ClaudeBatchError, OSError) as error:
            log.warning("The report shows %s without its failed rows, because they cannot be read: %s", name, error)
        found.append(submission)
    return sorted(found, key=lambda submission: submission.sort_key)


def _read_manifests(root: str) -> Iterator[tuple[str, Manifest]]:
    path = object_path(root)
    base = path.path.rstrip("/")
    for file_path in sorted(path.fs.find(base)):
        folder, _, file_name = file_path.rpartition("/")
        if file_name != MANIFEST_FILE:
            continue
        try:
            with path.fs.open(file_path, "rb") as file:
                manifest = msgspec.json.decode(file.read(), type=Manifest)
        except (msgspec.MsgspecError, OSError) as error:
            log.warning("The report leaves out %s, because it cannot be read: %s", file_path, error)
            continue
        yield _relative_name(folder, base), manifest


def _relative_name(folder: str, base: str) -> str:
    """Return a folder's name below the base. Some file systems list paths without the leading slash."""
    below = folder.removeprefix(base.lstrip("/")).removeprefix(base).strip("/")
    return below or base.rpartition("/")[2]


def _add_failures(submission: SubmissionSummary) -> None:
    if submission.manifest.results_path is None or not submission.failed:
        return
    wanted = min(MAX_LISTED_FAILURES, submission.failed)
    for row in read_rows(submission.manifest.results_path):
        if row.status != "succeeded":
            submission.failures.append(FailedRow.of(row))
        if len(submission.failures) == wanted:
            return
