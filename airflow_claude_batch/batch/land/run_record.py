"""Make the record of a run from the manifest of its submission, for the history of its task.

What was estimated stands in the manifest, so no request is read again. Only what was sent now counts: answers that were
there before the estimate are left out, and so are those that are reused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec

from airflow_claude_batch.api.wire import Timestamp
from airflow_claude_batch.batch.land.bill import bill_by_model
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.money.model_names import may_be_alias
from airflow_claude_batch.batch.money.run_history import MOST_SECONDS, MOST_TOKENS, ModelRun, Run

#: Field of an estimate: each model's counts, usage and cost before it, as in ``Manifest.by_model``.
BEFORE: Final = "before"


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate's requests to one model: sums over all of them. ``id`` is left out if it is the model's name."""

    requests: int
    max_tokens: int
    input_tokens: int
    cached_tokens: int = 0
    id: str = ""

    def __add__(self, other: _Asked) -> _Asked:
        return _Asked(
            requests=self.requests + other.requests,
            max_tokens=self.max_tokens + other.max_tokens,
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
        )


class _Usage(msgspec.Struct):
    input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int = 0


class _ModelPart(msgspec.Struct):
    """One model in ``Manifest.by_model``."""

    counts: dict[str, int] = {}
    usage: _Usage = msgspec.field(default_factory=_Usage)
    usd: Decimal | None = Decimal(0)


class _Estimate(msgspec.Struct):
    models: dict[str, _Asked]
    before: dict[str, _ModelPart] = {}


class _Answered(NamedTuple):
    """What the answers of one model used: their number, and their tokens."""

    requests: int
    input_tokens: int
    cached_tokens: int
    cache_read_tokens: int
    output_tokens: int

    @classmethod
    def of(cls, part: _ModelPart) -> _Answered:
        usage, counts = part.usage, part.counts
        cached = usage.cache_creation_input_tokens + usage.cache_read_input_tokens
        return cls(
            counts.get("succeeded", 0) + counts.get("invalid_output", 0),
            usage.input_tokens + cached,
            cached,
            usage.cache_read_input_tokens,
            usage.output_tokens,
        )


def answered_before(landing: Landing) -> dict[str, Any]:
    """Return what was answered before an estimate, to be noted in it. Empty in a first run."""
    before = bill_by_model(landing, complete=False)
    return {BEFORE: before} if before else {}


def run_of(manifest: Manifest) -> Run | None:
    """Return the record of a submission that has ended. None if nothing was answered, or its estimate says too little.

    Example::

        if (run := run_of(manifest)) is not None:
            add_to_history(folder, run=run)
    """
    if manifest.status != "ended" or manifest.created_at is None or not manifest.estimate:
        return None
    try:
        estimate = msgspec.convert(manifest.estimate, _Estimate)
        answered = msgspec.convert(manifest.by_model, dict[str, _ModelPart])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):  # an estimate of an earlier or a later release
        return None
    models = _model_runs(_by_id(estimate.models), answered, estimate.before)
    if manifest.direct:  # other prices, and a time that the task's timeout has cut
        models = {id_: msgspec.structs.replace(model, usd=None) for id_, model in models.items()}
    if not models:
        return None
    is_cut = bool(manifest.direct) or _was_asked_after(manifest.created_at, manifest)
    seconds = 0.0 if is_cut else _seconds(manifest)
    return Run(
        submission_id=manifest.submission_id,
        began_at=manifest.created_at,
        seconds=seconds if 0 < seconds <= MOST_SECONDS else None,
        models=models,
    )


def _seconds(manifest: Manifest) -> float:
    times = (manifest.created_at, manifest.ended_at)
    return (times[1] - times[0]).total_seconds() if times[0] and times[1] else 0.0


def _was_asked_after(created_at: datetime, manifest: Manifest) -> bool:
    """Tell whether a person was asked after a sample was sent. How long that took says nothing of the next run."""
    try:
        approved_at = msgspec.convert((manifest.approval or {}).get("at"), Timestamp | None)
    except msgspec.ValidationError:
        return False
    return approved_at is not None and approved_at > created_at


def _by_id(models: Mapping[str, _Asked]) -> dict[str, _Asked]:
    """Sum up by the models' ids: two names may stand for one model."""
    found: dict[str, _Asked] = {}
    for name, asked in models.items():
        id_ = asked.id or name
        found[id_] = found[id_] + asked if id_ in found else asked
    return found


def _model_runs(
    asked: Mapping[str, _Asked], answered: Mapping[str, _ModelPart], before: Mapping[str, _ModelPart]
) -> dict[str, ModelRun]:
    found: dict[str, ModelRun] = {}
    for id_, sums in asked.items():
        model = _model_that_answered(id_, answered)
        if model is None:
            continue
        part, earlier = answered[model], before.get(model, _ModelPart())
        new = _Answered(*map(int.__sub__, _Answered.of(part), _Answered.of(earlier)))
        usd = None if part.usd is None or earlier.usd is None else part.usd - earlier.usd
        if (run := _model_run(sums, new, usd)) is not None:
            found[id_] = run
    return found


def _model_that_answered(asked: str, answered: Iterable[str]) -> str | None:
    """Return the model that answers for the one that was asked: itself, or the one that its alias stands for."""
    names = list(answered)
    if asked in names:
        return asked
    return next((name for name in names if may_be_alias(asked, [name])), None)


def _model_run(asked: _Asked, answered: _Answered, usd: Decimal | None) -> ModelRun | None:
    """Note what the answers used. Where some are missing, what was estimated of all requests is scaled."""
    requests = min(answered.requests, asked.requests)
    if requests <= 0 or not 0 <= min(answered) <= max(*answered, *_sums(asked)) <= MOST_TOKENS:
        return None

    def scaled(estimated: int) -> int:
        return estimated * requests // asked.requests

    return ModelRun(
        requests=requests,
        max_tokens=scaled(asked.max_tokens),
        output_tokens=answered.output_tokens,
        input_tokens=answered.input_tokens,
        estimated_input_tokens=scaled(asked.input_tokens),
        cached_tokens=answered.cached_tokens,
        cache_read_tokens=answered.cache_read_tokens,
        estimated_cached_tokens=scaled(asked.cached_tokens),
        usd=usd,
    )


def _sums(asked: _Asked) -> tuple[Any, ...]:
    return asked.max_tokens, asked.input_tokens, asked.cached_tokens
