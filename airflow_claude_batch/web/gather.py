"""Read what the report is about: every manifest below a folder, and some of the rows without an answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, Final
from urllib.parse import unquote

from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.place import Place, find_place
from airflow_claude_batch.web.failed_rows import FailedRow, read_failed_rows
from airflow_claude_batch.web.manifests import FoundManifest, Problem, find_manifests
from airflow_claude_batch.web.results_tree import ResultsTree, tree_at

log = logging.getLogger(__name__)

#: A submission's folder is ``<dag_id>/<run_id>/<task_id>`` below the results folder.
_DEPTH: Final = 3


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


@dataclass
class SubmissionSummary:
    """One submission: its manifest, and the first of its rows without an answer.

    :param name: its folder, relative to the folder of the report.
    :param place: the names of its task instance, None if the folder's names do not tell them.
    """

    name: str
    manifest: Manifest
    place: Place | None = None
    failures: Sequence[FailedRow] = ()

    @cached_property
    def usd(self) -> Decimal:
        """The known part of the bill."""
        parts = (part["usd"] for part in self.manifest.by_model.values())
        return sum((Decimal(usd) for usd in parts if usd is not None), Decimal(0))

    @cached_property
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
    def reused(self) -> int:
        """The number of rows with a reused answer."""
        return self.manifest.reused["requests"] if self.manifest.reused else 0

    @property
    def in_progress(self) -> int:
        """The number of requests that may still be answered."""
        return 0 if self.manifest.status == "ended" else self.manifest.counts.get("missing", 0)

    @property
    def succeeded(self) -> int:
        return self.manifest.counts.get("succeeded", 0)

    @cached_property
    def failed(self) -> int:
        """The number of rows without an answer. Rows are missing only after the end."""
        return sum(self.manifest.counts.values()) - self.succeeded - self.in_progress

    @cached_property
    def day(self) -> str:
        """The day of submission in UTC, ISO 8601, or ``unknown``."""
        created_at = self.manifest.created_at
        return created_at.date().isoformat() if created_at else "unknown"

    @cached_property
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
    tree = tree_at(root)
    submissions, problems = {}, []
    for found in find_manifests(tree):
        if isinstance(found, Problem):
            problems.append(found)
        else:
            submissions[found.name] = SubmissionSummary(found.name or tree.name, found.manifest, _place(found, tree))
    ordered = sorted(submissions.items(), key=lambda item: item[1].sort_key)
    newest_first = [(folder, each.manifest, each.failed) for folder, each in reversed(ordered) if each.failed]
    for folder, read in read_failed_rows(tree, newest_first):
        if isinstance(read, Problem):
            problems.append(read)
        else:
            submissions[folder].failures = read
    for problem in problems:
        # A name that is no text cannot be written to a log as it is.
        name, reason = (text.encode(errors="backslashreplace").decode() for text in (problem.name, problem.reason))
        log.warning("The report is incomplete at %s. %s", name, reason)
    return Gathered([submission for _, submission in ordered], problems)


def _place(found: FoundManifest, tree: ResultsTree) -> Place | None:
    """Return the names of a submission's task instance. Without its id, the folder's position tells them."""
    if located := find_place(tree.uri(found.name), found.manifest.submission_id):
        return located[1]
    names = [unquote(name) for name in found.name.split("/")]
    return Place(names[0], names[1], names[2]) if len(names) >= _DEPTH else None
