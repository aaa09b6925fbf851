"""Report metrics to Airflow's own Stats (StatsD, OpenTelemetry).

===============================  =======  ================================================================
name                             kind     meaning
===============================  =======  ================================================================
``claude_batch.submissions``     counter  manifests returned; tag ``status``
``claude_batch.requests``        counter  requests sent, by ``model``
``claude_batch.rows``            counter  rows landed, by ``outcome`` (succeeded, errored, …) and ``model``
``claude_batch.answers``         counter  answers, by ``stop_reason`` (end_turn, max_tokens, refusal, …)
``claude_batch.tokens``          counter  billed tokens, by ``kind`` (input, output, …) and ``model``
``claude_batch.cost_microusd``   counter  millionths of a US dollar billed, by ``model``
``claude_batch.reused_answers``  counter  reused answers of earlier submissions, by ``model``
``claude_batch.direct_answers``  counter  answers of the Messages API, at full price
``claude_batch.direct_microusd`` counter  millionths of a US dollar billed for these; part of ``cost_microusd``
``claude_batch.queue_time``      timer    of a batch, from its creation at the API to its end
``claude_batch.turnaround``      timer    of a submission, from its first create to its last batch's end
``claude_batch.poll_errors``     counter  failed polls of batches, by ``error`` (RateLimitError, …)
``claude_batch.recoveries``      counter  by ``how``: adopted (a create's response was lost, its batch was
                                          found), sent_again (lost, and the API had not accepted it),
                                          taken_over (a later try continued with what an earlier one sent)
===============================  =======  ================================================================

Polls are counted in the process that waits: the triggerer, or a worker. The kinds ``ephemeral_5m_input`` and
``ephemeral_1h_input`` are parts of ``cache_creation_input``. StatsD itself drops tags. They need ``[metrics]
statsd_influxdb_enabled``, ``statsd_datadog_enabled`` or OpenTelemetry. No tag holds an id, so their number is bounded.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_claude_batch._airflow.compat import Stats

if TYPE_CHECKING:
    from airflow_claude_batch.batch.land.manifest import Manifest
    from airflow_claude_batch.batch.observer import Recovery

log = logging.getLogger(__name__)


class StatsObserver:
    """Observer that reports to Airflow's Stats."""

    def batch_created(self, requests: Mapping[str, int]) -> None:
        """Count the requests of a new message batch."""
        for model, count in requests.items():
            _count("requests", count, model=model)

    def recovered(self, how: Recovery) -> None:
        """Count a submission that continued without paying twice."""
        _count("recoveries", 1, how=how)

    def batch_ended(self, time: timedelta) -> None:
        """Record how long the API had a batch that was landed."""
        _time("queue_time", time)

    def poll_failed(self, error: Exception) -> None:
        """Count a failed poll."""
        _count("poll_errors", 1, error=type(error).__name__)


def count_submission(manifest: Manifest, *, is_old: bool = False) -> None:
    """Count a submission whose manifest is returned; its rows, tokens and cost once it has ended.

    :param is_old: an earlier attempt has counted these.
    """
    _count("submissions", 1, status=manifest.status)
    if manifest.status != "ended" or is_old:
        return
    for reason, count in manifest.stop_reasons.items():
        _count("answers", count, stop_reason=reason)
    for model, part in manifest.by_model.items():
        _count_model(model, part)
        if reused := part.get("reused"):
            _count("reused_answers", reused, model=model)
    if direct := manifest.direct:
        _count("direct_answers", direct["answers"])
        if direct["usd"] is not None:
            _count("direct_microusd", round(Decimal(direct["usd"]) * 1_000_000))
    if manifest.created_at and manifest.ended_at:
        _time("turnaround", manifest.ended_at - manifest.created_at)


def _count_model(model: str, part: Mapping[str, Any]) -> None:
    for outcome, count in part["counts"].items():
        _count("rows", count, outcome=outcome, model=model)
    for name, count in part["usage"].items():
        if count and name.endswith("_tokens"):
            _count("tokens", count, kind=name.removesuffix("_tokens"), model=model)
    if part["usd"] is not None:
        _count("cost_microusd", round(Decimal(part["usd"]) * 1_000_000), model=model)


def _count(name: str, count: int, **tags: str) -> None:
    try:
        Stats.incr(f"claude_batch.{name}", count, tags=tags)
    except Exception:  # any backend may raise anything, and metrics must never fail a task
        log.debug("Could not count the metric %s.", name, exc_info=True)


def _time(name: str, time: timedelta) -> None:
    try:
        Stats.timing(f"claude_batch.{name}", time)
    except Exception:
        log.debug("Could not record the timer %s.", name, exc_info=True)
