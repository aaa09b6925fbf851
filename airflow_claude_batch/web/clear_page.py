"""Ask before a task instance is cleared. The page's script then calls Airflow's own REST API, as the UI does.

So Airflow itself checks the user's rights, clears as its UI does, and writes its audit log.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from airflow_claude_batch._airflow.compat import timezone
from airflow_claude_batch._airflow.states import standing_of
from airflow_claude_batch._airflow.submissions import FoundSubmission
from airflow_claude_batch.web.links import submission_href
from airflow_claude_batch.web.task_query import ChangeableSubmission
from airflow_claude_batch.web.templating import render_page

router = APIRouter()


@router.get("/clear", response_class=HTMLResponse)
def ask_before_clearing(found: ChangeableSubmission) -> str:
    """Return the question, and what a clear does with the batches and with the answers that there are."""
    return render_page(
        "clear.html.j2",
        key=found.key,
        standing=standing_of(found.snapshot, found.manifest, found.state, timezone.utcnow()),
        address=f"../api/v2/dags/{quote(found.key.dag_id, safe='')}/clearTaskInstances",
        body=json.dumps(clear_body(found)),
        back=submission_href(found.key),
    )


def clear_body(found: FoundSubmission) -> dict[str, Any]:
    """Return the body of the REST API's call that clears a task instance and the tasks after it."""
    key = found.key
    task: Any = key.task_id if key.map_index < 0 else [key.task_id, key.map_index]
    chosen = {"task_instance_ids": [found.task_instance_id]} if key.region else {"task_ids": [task]}
    return {
        "dry_run": False,
        "dag_run_id": key.run_id,
        **chosen,
        "only_failed": False,
        "include_downstream": True,
        "reset_dag_runs": True,
    }
