"""The example ``batches_made_elsewhere`` as a DAG of the shared Airflow."""

from __future__ import annotations

from airflow_stack import ROOT, Simulators

DAG_ID = CONNECTION = "batches_made_elsewhere"


def source(_simulators: Simulators) -> str:
    """Return the text of the example, paused, with a connection of its own."""
    text = (ROOT / "dags" / f"{DAG_ID}.py").read_text()
    for old, new in (
        ('"claude_default"', repr(CONNECTION)),
        ('task_id="land"', f'task_id="land", claude_conn_id={CONNECTION!r}'),
        ('tags=["claude"]', "is_paused_upon_creation=True"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text
