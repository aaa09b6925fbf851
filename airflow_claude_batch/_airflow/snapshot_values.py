"""Read the figures of a snapshot or a manifest for people: amounts, counts, models, durations.

Users with the right to write XComs can store any value there. These functions leave out values that are not valid, and
raise for none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any, Final, NamedTuple

from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.snapshot import Snapshot
from airflow_claude_batch.batch.money.amounts import NOTHING, Amount

#: What is above is no count of requests.
MAX_COUNT: Final = 2**32
#: How many models of one submission are shown.
MAX_MODELS: Final = 20
MAX_MODEL_LENGTH: Final = 200
#: The longest duration that is plausible: a month.
MAX_SECONDS: Final = 31 * 24 * 3600.0
#: Digits as ``exact_usd`` writes them.
_USD: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,40})?", re.ASCII)


class EstimatedCost(NamedTuple):
    """What a submission was estimated to cost, in US dollars."""

    lower: Decimal
    expected: Decimal
    upper: Decimal


class Durations(NamedTuple):
    """How long earlier batches or runs took."""

    shortest: timedelta
    longest: timedelta
    runs: int


@dataclass(frozen=True, slots=True)
class ModelValues:
    """The rows of one model, what they cost, and their tokens.

    :param requests: rows, or while the submission runs, requests.
    :param cost: None while nothing is billed.
    """

    name: str
    requests: int
    cost: Amount | None


@dataclass(frozen=True, slots=True)
class Values:
    """The figures of one submission.

    :param counts: rows by status. Empty until the submission has ended.
    :param cost: None until something is billed.
    :param usual: how long earlier batches of the task took, or else its earlier runs.
    :param reused: the number of rows with a reused answer.
    :param direct: the number of answers of the Messages API, and ``direct_usd`` what they cost, None if not known.
    """

    request_count: int
    counts: Mapping[str, int]
    models: tuple[ModelValues, ...]
    estimate: EstimatedCost | None
    cost: Amount | None
    usual: Durations | None
    reused: int
    created_at: datetime | None
    ended_at: datetime | None
    direct: int = 0
    direct_usd: Decimal | None = None

    @property
    def failed(self) -> int:
        """The number of rows without a valid answer."""
        return sum(self.counts.values()) - self.counts.get("succeeded", 0)

    def completed_by(self, other: Values) -> Values:
        """Fill what is not known with the figures of another task instance of the same submission."""
        return replace(
            self,
            models=self.models or other.models,
            estimate=self.estimate or other.estimate,
            usual=self.usual or other.usual,
            created_at=self.created_at or other.created_at,
        )


def values_of(snapshot: Snapshot | None, manifest: Manifest | None) -> Values:
    """Read the figures of a snapshot, or without one those of a manifest.

    Example::

        values = values_of(found.snapshot, found.manifest)
        values.cost  # Amount(usd=Decimal('0.0021'), is_complete=True)
    """
    source = snapshot if snapshot is not None else manifest
    if source is None:
        return Values(0, {}, (), None, None, None, 0, None, None)
    has_ended = _has_ended(source)
    billed = _models_with_rows(source.by_model)
    reused = count_of(_mapping(source.reused or None).get("requests"))
    direct = _mapping(source.direct or None)
    return Values(
        request_count=source.request_count,
        counts=_counts(source.counts) if has_ended else {},
        models=billed or _models_of_estimate(source.estimate),
        estimate=estimated_cost(source.estimate),
        cost=_cost(billed, source.cost, has_ended=has_ended),
        usual=_usual(getattr(source, "usual", None)) or _expected_duration(source.estimate),
        reused=reused or 0,
        created_at=plausible_time(source.created_at) or _first_batch(source),
        ended_at=plausible_time(source.ended_at),
        direct=count_of(direct.get("answers")) or 0,
        direct_usd=usd_of(direct.get("usd")),
    )


def usd_of(value: Any) -> Decimal | None:
    """Read an amount as the manifest has it, such as ``"0.0021"``."""
    return Decimal(value) if isinstance(value, str) and _USD.fullmatch(value) else None


def count_of(value: Any) -> int | None:
    """Read a number of requests, rows or batches."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_COUNT else None


def seconds_of(value: Any) -> timedelta | None:
    """Read a duration in seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return timedelta(seconds=value) if 0 < value <= MAX_SECONDS else None


def plausible_time(value: datetime | None) -> datetime | None:
    """Leave out a time at the ends of datetime's range, where arithmetic overflows."""
    return value if value is not None and 2000 <= value.year < 3000 else None


def estimated_cost(estimate: Any) -> EstimatedCost | None:
    """Read the estimate's cost. None if a price was not known."""
    usd = _mapping(_mapping(estimate).get("usd"))
    lower, expected, upper = (usd_of(usd.get(name)) for name in EstimatedCost._fields)
    if lower is None or expected is None or upper is None:
        return None
    return EstimatedCost(lower, expected, upper)


def _has_ended(source: Snapshot | Manifest) -> bool:
    return bool(source.counts) and (source.state if isinstance(source, Snapshot) else source.status) == "ended"


def _first_batch(source: Snapshot | Manifest) -> datetime | None:
    parts = source.parts if isinstance(source, Snapshot) else []
    return min((at for part in parts if (at := plausible_time(part.created_at)) is not None), default=None)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _counts(counts: Mapping[str, int]) -> dict[str, int]:
    shown = islice(counts.items(), MAX_MODELS)
    return {status[:MAX_MODEL_LENGTH]: number for status, count in shown if (number := count_of(count))}


def _models_with_rows(by_model: Mapping[str, Any]) -> tuple[ModelValues, ...]:
    found = []
    for name, part in islice(by_model.items(), MAX_MODELS):
        usd = usd_of(_mapping(part).get("usd"))
        rows = sum(_counts(_mapping(_mapping(part).get("counts"))).values())
        found.append(ModelValues(name[:MAX_MODEL_LENGTH], rows, Amount(usd or Decimal(0), usd is not None)))
    return tuple(found)


def _models_of_estimate(estimate: Any) -> tuple[ModelValues, ...]:
    models = _mapping(_mapping(estimate).get("models"))
    return tuple(
        ModelValues(str(name)[:MAX_MODEL_LENGTH], count_of(_mapping(part).get("requests")) or 0, None)
        for name, part in islice(models.items(), MAX_MODELS)
    )


def _cost(models: Iterable[ModelValues], cost: Any, *, has_ended: bool) -> Amount | None:
    """Return the bill. Where the whole is not known, the models with a price are summed up.

    Before the end, a bill is of the rows that have been landed, and None if it is zero.
    """
    whole = usd_of(_mapping(cost).get("usd"))
    is_complete = whole is not None and has_ended and not count_of(_mapping(cost).get("unknown_answers"))
    parts = [model.cost for model in models if model.cost is not None]
    usd = sum(parts, NOTHING).usd if whole is None else whole
    if not has_ended:
        return Amount(usd, False) if usd else None
    return Amount(usd, is_complete) if whole is not None or parts else None


def _usual(value: tuple[float, float, int] | None) -> Durations | None:
    if value is None:
        return None
    shortest, longest, count = seconds_of(value[0]), seconds_of(value[1]), count_of(value[2])
    if shortest is None or longest is None or not count or shortest > longest:
        return None
    return Durations(shortest, longest, count)


def _expected_duration(estimate: Any) -> Durations | None:
    expected = _mapping(_mapping(estimate).get("expected_seconds"))
    shortest, longest = seconds_of(expected.get("shortest")), seconds_of(expected.get("longest"))
    runs = count_of(expected.get("runs"))
    if shortest is None or longest is None or not runs or shortest > longest:
        return None
    return Durations(shortest, longest, runs)
