"""The example ``changing_table`` as a DAG of the shared Airflow."""

from __future__ import annotations

import os

from airflow_stack import ROOT, Simulators

DAG_ID = CONNECTION = "changing_table"
#: How many days it catches up. Each takes some seconds.
DAYS = int(os.environ.get("CHANGING_DAYS", "5"))
PRODUCTS = 20


def source(folder: str, _simulators: Simulators) -> str:
    """Return the text of the example, paused, with more days, and with a connection and a folder of its own."""
    text = (ROOT / "dags" / f"{DAG_ID}.py").read_text()
    for old, new in (
        ("2026, 1, 5", f"2026, 1, {DAYS}"),
        ('tags=["claude"]', "is_paused_upon_creation=True"),
        ('{"retries": 2}', f'{{"retries": 2, "claude_conn_id": {CONNECTION!r}}}'),
        ("{tempfile.gettempdir()}", folder),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text
