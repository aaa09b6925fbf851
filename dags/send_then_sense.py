"""Two tasks: one sends, another waits. For runs where something else happens between the two.

The batch works on the translations while ``reserve_pages`` does its own part. The operator returns as soon as
everything is sent; its manifest names the message batches, and the sensor waits for them.
"""

from typing import Any

from airflow.sdk import DAG, task

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor

SENTENCE = "The library opens at nine, and closes when the last reader has gone home."


@task
def build_messages() -> list[dict[str, Any]]:
    """One request per language; each element may override what the operator says for all."""
    return [
        {"key": "de", "prompt": f"Into German: {SENTENCE}"},
        {"key": "fr", "prompt": f"Into French: {SENTENCE}", "max_tokens": 2048},
        {"key": "ja", "prompt": f"Into Japanese: {SENTENCE}", "system": "Translate. Polite form."},
    ]


@task
def reserve_pages(manifest: dict[str, Any]) -> int:
    """Runs while Claude works: nobody waits for the answers here."""
    return int(manifest["request_count"])


@task
def publish(manifest: dict[str, Any], pages: int) -> dict[str, str]:
    """The answers come in the order of the messages, each with its key."""
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
