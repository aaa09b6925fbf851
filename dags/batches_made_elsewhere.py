"""Land the answers of message batches that others make: another service, a script, or a person in the Claude Console.

The DAG runs when such batches end. Batches that this package has sent are left out. Several events may run it once, so
it takes all of them. To land batches by hand, trigger the DAG with their ids.
"""

from collections import Counter
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, Param, task

from airflow_claude_batch.events import MessageBatchEndedTrigger
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor

ended = Asset(
    "batches_made_elsewhere",
    watchers=[AssetWatcher(name="ended", trigger=MessageBatchEndedTrigger("claude_default"))],
)


@task.short_circuit
def batch_ids(params: dict[str, Any], triggering_asset_events: Any) -> list[str]:
    """Return the ids of the batches that have ended. Without any, the rest is skipped."""
    events = [event for events in triggering_asset_events.values() for event in events]
    payloads = [event.extra.get("payload") or {} for event in events]  # an event made by hand has none
    ended = [batch["batch_id"] for payload in payloads for batch in payload.get("batches", [])]
    return sorted({*params["batch_ids"], *ended})


@task
def count_outcomes(manifest: dict[str, Any]) -> dict[str, int]:
    """Count the rows by how they ended. ``row.key`` is the custom_id that the other service gave."""
    return Counter(row.status for row in read_rows(manifest))


with DAG(
    "batches_made_elsewhere",
    schedule=[ended],
    params={"batch_ids": Param([], type="array", items={"type": "string"})},
    tags=["claude"],
    default_args={"retries": 2},
):
    land = MessageBatchSensor(
        task_id="land",
        batch=batch_ids(),
        allow_failed=1.0,  # what failed elsewhere is counted, and fails no task here
        deferrable=True,
    )
    count_outcomes(land.output)
