"""Add the pages *Claude batches* to Airflow's UI.

Airflow loads this module in each of its processes, in workers too. So the pages are imported only when Airflow reads
``fastapi_apps``, which the api-server does.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from airflow.plugins_manager import AirflowPlugin

log = logging.getLogger(__name__)

#: Where the pages are, below the address of Airflow's UI.
URL_PREFIX: Final = "/claude-batch"


class ClaudeBatchPlugin(AirflowPlugin):
    """Serve the pages at ``/claude-batch``. Airflow 3.1 and newer also list them in the menu *Browse*."""

    name = "claude_batch"
    external_views = [  # noqa: RUF012  Airflow's own class has lists
        {
            "name": "Claude batches",
            # Relative, because Airflow may be served below a path.
            "href": f"{URL_PREFIX.lstrip('/')}/",
            "url_route": "claude-batches",
            "destination": "nav",
            "category": "browse",
        }
    ]

    @property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]  # a list in Airflow, which only reads it
        try:
            from airflow_claude_batch.web.app import create_app

            app = create_app()
        except Exception:  # an error here would stop the api-server
            log.exception("The pages of Claude batches cannot be shown in Airflow's UI.")
            return []
        return [{"app": app, "url_prefix": URL_PREFIX, "name": "Claude batches"}]
