"""The button *Claude batch* of a task instance in Airflow's UI. It leads to the page of the task's submission."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow_claude_batch._airflow.compat import BaseOperatorLink, loop_region

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.compat import TaskInstanceKey


class ClaudeBatchLink(BaseOperatorLink):
    """Link to the page of a task instance's submission.

    Airflow takes the link from an XCom. The worker writes it when a task's process ends, and this package when the
    process begins to work, so that the button is there while the task runs.
    """

    name = "Claude batch"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the address of the page."""
        return submission_address(ti_key, operator)


def submission_address(ti: TaskInstanceKey, operator: Any = None) -> str:
    """Return the address of a submission's page. It is relative to the root of Airflow's UI.

    So it holds below any path: the worker need not know ``[api] base_url``.

    :param operator: the task. It tells whether the task instance is in a loop, whose iterations have the same names.

    Example: ``claude-batch/submission?dag_id=label&run_id=manual__2026-11-22T09%3A00%3A00%2B00%3A00&task_id=ask``
    """
    names = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id}
    if (place := loop_region(operator, ti)) is not None:
        names["map_index"], names["region"] = str(place.number), place.region
    elif ti.map_index is not None and ti.map_index >= 0:
        names["map_index"] = str(ti.map_index)
    return f"claude-batch/submission?{urlencode(names)}"
