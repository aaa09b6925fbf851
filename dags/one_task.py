"""Send the messages, wait for the batch and read the answers in one task. A schema makes every answer an object.

The task is deferred while the batch runs, and then returns the manifest. After a retry, a clear or the crash of a
worker, it continues with the same batch.
"""

from collections import Counter
from typing import Any

from airflow.sdk import DAG, task

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows

TRIAGE = {
    "type": "object",
    "properties": {
        "topic": {"type": "string", "enum": ["billing", "delivery", "product", "other"]},
        "urgent": {"type": "boolean"},
    },
    "required": ["topic", "urgent"],
    "additionalProperties": False,
}


@task
def read_tickets() -> list[dict[str, Any]]:
    """Read the tickets. Yours may come from a query on your help desk."""
    tickets = {
        "T-1041": "I was charged twice for the same order, please refund one of them today.",
        "T-1042": "The parcel has been 'out for delivery' since Monday.",
        "T-1043": "Does the blue one come in a larger size?",
        "T-1044": "Could you send me the invoice of last month once more?",
    }
    return [{"key": number, "prompt": text} for number, text in tickets.items()]


@task
def count_topics(manifest: dict[str, Any]) -> dict[str, int]:
    """Count the tickets of each topic. ``row.output`` is the answer as an object that matches the schema."""
    return Counter(row.output["topic"] for row in read_rows(manifest) if row.output)


with DAG("one_task", schedule="@daily", tags=["claude"], default_args={"retries": 2}):
    triage = SendMessageBatchOperator(
        task_id="triage",
        messages=read_tickets(),
        model="claude-haiku-5-5",
        max_tokens=1024,
        system="Sort a customer's message for the help desk.",
        output_schema=TRIAGE,
        allow_failed=0.05,  # the task succeeds with up to 5 % of its requests failed
        max_cost=1,  # US dollars: nothing is sent if the messages could cost more
        wait_for_completion=True,
        deferrable=True,
    )
    count_topics(triage.output)
