"""The examples that read and write tables, as DAGs of the shared Airflow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from airflow_stack import ROOT, Simulators

#: Each example, and its task that waits.
EXAMPLES = {"table_to_table": "label", "parquet_to_parquet": "judge", "files_to_table": "read"}
CONNECTION = "tables"
_SCHEDULE, _ARGUMENTS, _FOLDER = 'schedule="@daily"', 'default_args={"retries": 2}', "tempfile.gettempdir()"


def sources(folder: str) -> dict[str, Callable[[Simulators], str]]:
    """Return the source of each example, without its schedule and with a connection and a folder of its own."""
    return {dag_id: partial(_source, dag_id, folder) for dag_id in EXAMPLES}


def _source(dag_id: str, folder: str, _simulators: Simulators) -> str:
    text = (ROOT / "dags" / f"{dag_id}.py").read_text()
    arguments = _ARGUMENTS.replace("}", f', "claude_conn_id": {CONNECTION!r}}}')
    for old, new in ((_SCHEDULE, "schedule=None"), (_ARGUMENTS, arguments)):
        assert text.count(old) == 1
        text = text.replace(old, new)
    # Other tests run the same examples at the same time.
    return text.replace(f"{{{_FOLDER}}}", folder)
