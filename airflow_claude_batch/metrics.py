"""What a deployment can watch, through Airflow's own Stats (StatsD, OpenTelemetry).

========================================  =======  =========================================================
name                                      kind     what
========================================  =======  =========================================================
``claude_batch.submissions``              counter  manifests handed out; tag ``status``
``claude_batch.rows``                     counter  rows by ``outcome`` (succeeded, errored, expired, …)
``claude_batch.tokens``                   counter  billed tokens by ``kind`` (input, output, cache_read, …)
``claude_batch.cost_microusd``            counter  millionths of a US dollar that were billed
``claude_batch.turnaround``               timer    from the first create to the last batch's end
========================================  =======  =========================================================

No tag holds an id: their number would be without bounds.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from airflow_claude_batch._compat import Stats

if TYPE_CHECKING:
    from airflow_claude_batch.batch.manifest import Manifest


def report(manifest: Manifest) -> None:
    """Count a submission that is handed on, or has ended. Metrics are never a reason to fail."""
    Stats.incr("claude_batch.submissions", tags={"status": manifest.status})
    if manifest.status != "ended":
        return
    for outcome, count in manifest.counts.items():
        if count:
            Stats.incr("claude_batch.rows", count, tags={"outcome": outcome})
    for name, count in (manifest.usage or {}).items():
        if count and name.endswith("_tokens"):
            Stats.incr("claude_batch.tokens", count, tags={"kind": name.removesuffix("_tokens")})
    if manifest.cost and manifest.cost["usd"] is not None:
        Stats.incr("claude_batch.cost_microusd", int(Decimal(manifest.cost["usd"]) * 1_000_000))
    if manifest.created_at and manifest.ended_at:
        Stats.timing("claude_batch.turnaround", manifest.ended_at - manifest.created_at)
