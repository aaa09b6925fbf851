"""The process that serves the overview in Airflow's UI from a database with many submissions, and measures itself.

``python -m benchmarks.overview_role SUBMISSIONS OTHER_XCOMS`` prints the CPU seconds of each page as JSON. It needs
``AIRFLOW_HOME`` and the folder ``tests`` in ``PYTHONPATH``, whose rows it inserts.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import UTC, datetime, timedelta

PAGES = 6
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


class Everybody:
    """A user who may read the DAGs with submissions."""

    def __init__(self, dag_ids: set[str]) -> None:
        self._dag_ids = dag_ids

    def readable_dag_ids(self) -> set[str]:
        return self._dag_ids

    def may_read_rows(self, dag_id: str) -> bool:
        return dag_id in self._dag_ids


def main(submissions: int, others: int) -> dict[str, object]:
    """Insert the rows, and ask for the page several times."""
    from airflow.utils.db import initdb

    initdb()
    from fastapi.testclient import TestClient
    from submission_examples import example_rows
    from submission_rows import TaskRow, insert_rows

    from airflow_claude_batch._airflow.servers import create_session
    from airflow_claude_batch.web.access import access_of_request
    from airflow_claude_batch.web.app import create_app

    rows = example_rows(submissions, NOW, seconds_apart=600)
    with create_session() as session:
        insert_rows(session, rows)
        insert_rows(
            session,
            [
                TaskRow(
                    f"other_{number % 200}",
                    f"run_{number // 5}",
                    f"task_{number % 5}",
                    "success",
                    NOW - timedelta(seconds=number),
                    {"return_value": {"rows": number}},
                    operator="PythonOperator",
                )
                for number in range(others)
            ],
        )
    app = create_app()
    app.dependency_overrides[access_of_request] = lambda: Everybody({row.dag_id for row in rows})
    client, seconds, text = TestClient(app), [], ""
    for _ in range(PAGES):
        begun = time.process_time()
        response = client.get("/")
        seconds.append(time.process_time() - begun)
        text = response.text
        assert response.status_code == 200, text
    return {"seconds": seconds, "lines": text.count('class="name"'), "bytes": len(text.encode())}


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    print(json.dumps(main(*map(int, sys.argv[1:]))))
