"""Send one message batch per input, with a task that is mapped over the output of an upstream task.

Each mapped task has its own batch, retries, log and results, so that one bad input does not delay the others.
"""

from typing import Any

from airflow.sdk import DAG, task

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows


@task
def find_chapters() -> list[list[dict[str, Any]]]:
    """Build a list of messages per chapter. Yours may come from files in a bucket."""
    chapters = {
        "tides": ["Why are there two tides a day?", "What is a spring tide?"],
        "winds": ["Why does wind blow?", "What is a trade wind?", "What makes a storm turn?"],
        "clouds": ["Why do clouds float?"],
    }
    return [
        [{"key": f"{chapter}/{number}", "prompt": question} for number, question in enumerate(questions, 1)]
        for chapter, questions in chapters.items()
    ]


@task
def bind(manifests: list[dict[str, Any]]) -> list[str]:
    """Collect the answers of all chapters, in order."""
    return [f"{row.key}: {row.text}" for manifest in manifests for row in read_rows(manifest)]


with DAG("mapped", schedule="@monthly", tags=["claude"]):
    chapters = SendMessageBatchOperator.partial(
        task_id="ask",
        model="claude-sonnet-5-5",
        max_tokens=1024,
        system="Answer for a curious twelve-year-old, in three sentences.",
        wait_for_completion=True,
        deferrable=True,
    ).expand(messages=find_chapters())
    bind(chapters.output)
