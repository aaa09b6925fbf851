"""Send the messages in one task and wait for the batch in another, so that other tasks can run in between.

``reserve_pages`` runs while the batch works on the translations. The operator returns as soon as everything is sent.
Its manifest contains the ids of the message batches, and the sensor waits for them.
"""

from typing import Any

from airflow.sdk import DAG, task

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor

SENTENCE = "The library opens at nine, and closes when the last reader has gone home."


@task
def build_messages() -> list[dict[str, Any]]:
    """Build one message per language. Each may override the operator's arguments for itself."""
    return [
        {"key": "de", "prompt": f"Into German: {SENTENCE}"},
        {"key": "fr", "prompt": f"Into French: {SENTENCE}", "max_tokens": 2048},
        {"key": "ja", "prompt": f"Into Japanese: {SENTENCE}", "system": "Translate. Polite form."},
    ]


@task
def reserve_pages(manifest: dict[str, Any]) -> int:
    """Reserve the pages. This task does not wait for the answers."""
    return int(manifest["request_count"])


@task
def publish(manifest: dict[str, Any], pages: int) -> dict[str, str]:
    """Publish the answers. They come in the order of the messages, each with its key."""
    translations = {row.key: row.text for row in read_rows(manifest)}
    if len(translations) != pages:
        raise ValueError(f"{pages} pages for {len(translations)} translations")
    return translations


with DAG("send_then_sense", schedule="@weekly", tags=["claude"]):
    send = SendMessageBatchOperator(
        task_id="send",
        messages=build_messages(),
        model="claude-sonnet-5-5",
        max_tokens=1024,
        system="Translate. Answer with the translation alone.",
    )
    wait = MessageBatchSensor(task_id="wait", batch=send.output, deferrable=True)
    publish(wait.output, reserve_pages(send.output))
