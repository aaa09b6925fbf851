"""What a deployment can watch, through Airflow's own Stats (StatsD, OpenTelemetry).

===============================  =======  ================================================================
name                             kind     what
===============================  =======  ================================================================
``claude_batch.submissions``     counter  manifests handed out; tag ``status``
``claude_batch.requests``        counter  requests sent, by ``model``
``claude_batch.rows``            counter  rows landed, by ``outcome`` (succeeded, errored, …) and ``model``
``claude_batch.answers``         counter  answers, by ``stop_reason`` (end_turn, max_tokens, refusal, …)
``claude_batch.tokens``          counter  billed tokens, by ``kind`` (input, output, …) and ``model``
``claude_batch.cost_microusd``   counter  millionths of a US dollar billed, by ``model``
``claude_batch.queue_time``      timer    how long the API had a batch: from its creation to its end
``claude_batch.turnaround``      timer    of a submission, from its first create to its last batch's end
``claude_batch.poll_errors``     counter  failed looks at batches, by ``error`` (RateLimitError, …)
``claude_batch.recoveries``      counter  by ``how``: adopted (a create's answer was lost, its batch found),
                                          sent_again (lost, and it had not arrived), taken_over (a later try
                                          went on with what an earlier one had sent)
===============================  =======  ================================================================

Polls are counted where the wait is: in the triggerer, or in a worker. The kinds ``ephemeral_5m_input`` and
``ephemeral_1h_input`` are parts of ``cache_creation_input``. StatsD as such knows no tags and drops them: they need
``[metrics] statsd_influxdb_enabled``, ``statsd_datadog_enabled`` or OpenTelemetry. No tag holds an id: their number
would be without bounds.
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
    """Tells Airflow's Stats what happens on the way."""

    def batch_created(self, requests: Mapping[str, int]) -> None:
        """A message batch was created."""
        for model, count in requests.items():
            _count("requests", count, model=model)

    def recovered(self, how: Recovery) -> None:
        """Nothing was paid for twice."""
        _count("recoveries", 1, how=how)

    def batch_ended(self, time: timedelta) -> None:
        """A message batch was landed."""
        _time("queue_time", time)

    def poll_failed(self, error: Exception) -> None:
        """A look at message batches failed."""
        _count("poll_errors", 1, error=type(error).__name__)


def report(manifest: Manifest) -> None:
    """Count a submission that is handed on, or has ended."""
    _count("submissions", 1, status=manifest.status)
    if manifest.status != "ended":
        return
    for reason, count in manifest.stop_reasons.items():
        _count("answers", count, stop_reason=reason)
    for model, part in manifest.by_model.items():
        _report_model(model, part)
    if manifest.created_at and manifest.ended_at:
        _time("turnaround", manifest.ended_at - manifest.created_at)


def _report_model(model: str, part: Mapping[str, Any]) -> None:
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
    except Exception:  # whatever the back end may raise: metrics are never a reason to fail
        log.debug("The metric %s could not be counted", name, exc_info=True)


def _time(name: str, time: timedelta) -> None:
    try:
        Stats.timing(f"claude_batch.{name}", time)
    except Exception:
        log.debug("The metric %s could not be timed", name, exc_info=True)
