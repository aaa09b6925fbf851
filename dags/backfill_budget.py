"""Backfill a month within a budget of each day: a day that finds no room waits until the budget frees up.

Set the budget for the whole deployment, in airflow.cfg::

    [claude_batch]
    results_path = s3://aws_default@my-bucket/claude-batch
    max_cost_per_day = 20

A submission without room in it fails before anything is sent, and Airflow's retries ask again: every hour, for up to
three days. So the month takes as many days as the budget needs, and nobody has to start it again. The DAG catches up
its month by itself. For other days: ``airflow backfill create --dag-id backfill_budget --from-date … --to-date …``
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, task

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows


@task
def read_reviews(ds: str | None = None) -> list[dict[str, Any]]:
    """Read the reviews of the run's day. Yours may come from a query with ``WHERE day = :ds``."""
    texts = ("Came quickly.", "The lid does not close.", "Better than the old one, but the cable is short.")
    return [{"key": f"{ds}/{number}", "prompt": text} for number, text in enumerate(texts, 1)]


@task
def publish(manifest: dict[str, Any]) -> int:
    """Publish the summaries of the day. Returns how many there are."""
    return sum(row.status == "succeeded" for row in read_rows(manifest))


with DAG(
    "backfill_budget",
    schedule="@daily",
    start_date=datetime(2026, 10, 1, tzinfo=UTC),
    end_date=datetime(2026, 10, 31, tzinfo=UTC),
    catchup=True,
    max_active_runs=4,  # more would only wait for the same budget
    tags=["claude"],
):
    summarize = SendMessageBatchOperator(
        task_id="summarize",
        messages=read_reviews(),
        model="claude-haiku-5-5",
        max_tokens=1024,
        system="Say in five words what the customer thinks.",
        max_cost=1,  # a day that alone could cost more fails for good
        wait_for_completion=True,
        deferrable=True,
        retries=72,
        retry_delay=timedelta(hours=1),
    )
    publish(summarize.output)
