"""Read what the report is about: every manifest below a folder, and some of the rows without an answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any, Final

from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.exceptions import ClaudeBatchError
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.web.manifests import Problem, check_is_file, find_manifests, in_words

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
        return max(ended_at - created_at, timedelta(0)) if created_at and ended_at else None

    @property
    def sort_key(self) -> tuple[bool, datetime | None, str]:
        return self.manifest.created_at is None, self.manifest.created_at, self.name


@dataclass(frozen=True, slots=True)
class Gathered:
    """What stands below a folder.

    :param submissions: the oldest first.
    :param problems: manifests and rows that cannot be read.
    """

    submissions: Sequence[SubmissionSummary]
    problems: Sequence[Problem]


def gather(root: str) -> list[SubmissionSummary]:
    """Return every submission below a folder, the oldest first. See :func:`gather_all`, which also returns problems.

    Example: ``render(gather("s3://aws_default@bucket/claude-batch"), root="…", now=datetime.now(UTC))``
    """
    return list(gather_all(root).submissions)


def gather_all(root: str) -> Gathered:
    """Return every submission below a folder, and what cannot be read there. The latter is named in the log, too.

    :param root: a results folder, or one submission's folder; a path or a URI.
    :raises ConfigurationError: when no installed provider serves the URI.
    :raises OSError: when the folder cannot be listed.
    """
    submissions, problems = [], []
    for found in find_manifests(root):
        if isinstance(found, Problem):
            problems.append(found)
            continue
        submission = SubmissionSummary(found.name, found.manifest)
        submissions.append(submission)
        try:
            submission.failures += _failed_rows(submission, found.folder)
        except (ClaudeBatchError, OSError, ValueError, ImportError) as error:
            problems.append(Problem(found.name, f"Its rows without an answer cannot be read: {in_words(error)}"))
    for problem in problems:
        # A name that is no text cannot be written to a log as it is.
        name, reason = (text.encode(errors="backslashreplace").decode() for text in (problem.name, problem.reason))
        log.warning("The report is incomplete at %s. %s", name, reason)
    return Gathered(sorted(submissions, key=lambda submission: submission.sort_key), problems)


def _failed_rows(submission: SubmissionSummary, folder: str) -> list[FailedRow]:
    """Read the first rows without an answer from the file beside the manifest, wherever the folder was when written."""
    if submission.manifest.results_path is None or not submission.failed:
        return []
    uri = f"{folder.rstrip('/')}/{submission.manifest.results_path.rpartition('/')[2]}"
    check_is_file(uri)
    failed = (FailedRow.of(row) for row in read_rows(uri) if row.status != "succeeded")
    return list(islice(failed, min(MAX_LISTED_FAILURES, submission.failed)))
