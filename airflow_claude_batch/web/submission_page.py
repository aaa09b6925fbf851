"""The page of one submission: where it stands, its bill, and its rows to those who may read them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import HTMLResponse

from airflow_claude_batch._airflow import settings
from airflow_claude_batch._airflow.servers import create_session
from airflow_claude_batch._airflow.submissions import (
    FoundSubmission,
    find_beside,
    find_submission,
    read_output,
)
from airflow_claude_batch._airflow.task_rows import TaskKey
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.snapshot import SnapshotState
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import ClaudeBatchError
from airflow_claude_batch.web import links
from airflow_claude_batch.web.access import Access, UserAccess
from airflow_claude_batch.web.row_source import RowSource, open_rows
from airflow_claude_batch.web.rows_view import listed_files, row_at_position, row_with_key, rows_from, rows_of
from airflow_claude_batch.web.submission_view import SubmissionView, view_of
from airflow_claude_batch.web.task_query import NamedTask
from airflow_claude_batch.web.templating import render_page

log = logging.getLogger(__name__)
router = APIRouter()

#: Where the documentation of message batches says that they are seen. There is no documented address of a single one.
CONSOLE_URL: Final = "https://platform.claude.com/settings/workspaces/default/batches"
_LIVE_SECONDS: Final = 5
_FIRST_ROWS: Final = 10
_Position = Annotated[int, Query(ge=0, lt=2**62)]
_Key = Annotated[str | None, Query(max_length=1_000)]


@router.get("/submission", response_class=HTMLResponse)
def show_submission(task: NamedTask, access: UserAccess) -> str:
    """Return the page of the submission of a task instance."""
    return page_of(*_find(task, access), access)


def page_of(found: FoundSubmission, beside: Sequence[FoundSubmission], access: Access) -> str:
    """Render the page of a submission.

    :param beside: the other tasks of its run that work on the same submission.
    """
    source = _rows_of(found, access)
    view = _view(found, beside, source)
    return render_page(
        "submission.html.j2",
        view=view,
        beside=beside,
        rows=rows_of(source, failed=view.values.failed if view.values.counts else None, most=_FIRST_ROWS),
        files=listed_files(source),
        live_seconds=_LIVE_SECONDS if view.standing.is_live else 0,
        may_read_rows=not source.is_refused,
        may_change=access.may_change(found.key.dag_id),
        cancelable=sum(part.is_open and bool(part.batch_id) for part in view.parts),
        links=links,
        console_url=CONSOLE_URL,
    )


@router.get("/rows", response_class=HTMLResponse)
def show_rows(
    task: NamedTask,
    access: UserAccess,
    key: _Key = None,
    failed: bool = False,
    at: Annotated[int | None, Query(ge=0, lt=2**62)] = None,
    start: _Position = 0,
    request_start: _Position = 0,
) -> str:
    """Return rows: those from a position on, the one at a position, or the one with a key, beside its request.

    :param start: where the list or the search goes on.
    :param request_start: where the search for the request goes on.
    """
    found, _ = _find(task, access)
    if not access.may_read_rows(task.dag_id):
        raise HTTPException(403, "You may not read the XComs of this DAG, and so not its prompts and answers.")
    return rows_page_of(found, access, key=key or "", failed=failed, at=at, start=start, request_start=request_start)


def rows_page_of(
    found: FoundSubmission,
    access: Access,
    *,
    key: str = "",
    failed: bool = False,
    at: int | None = None,
    start: int = 0,
    request_start: int = 0,
) -> str:
    """Render rows. The user must have the right to read them."""
    source = _rows_of(found, access)
    shown = rows = None
    if at is not None:
        shown = row_at_position(source, at, request_start)
    elif key:
        shown = row_with_key(source, key, start, request_start)
    else:
        rows = rows_from(source, start, failed=failed)
    return render_page(
        "rows.html.j2",
        task=found.key,
        source=source,
        shown=shown,
        rows=rows,
        key=key,
        failed=failed,
        links=links,
    )


def _find(key: TaskKey, access: Access) -> tuple[FoundSubmission, Sequence[FoundSubmission]]:
    """Return the submission of a task instance, and the other tasks of its run that work on the same one."""
    if not access.may_read_dag(key.dag_id):
        raise HTTPException(403, "You may not read this DAG.")
    with create_session() as session:
        found = find_submission(session, key)
        beside = find_beside(session, found) if found is not None else []
    if found is None:
        raise HTTPException(404, "This task instance has no submission.")
    return found, beside


def _rows_of(found: FoundSubmission, access: Access) -> RowSource:
    def output() -> Manifest | None:
        with create_session() as session:
            return read_output(session, found.key)

    return open_rows(found, access.may_read_rows, output)


def _view(found: FoundSubmission, beside: Sequence[FoundSubmission], source: RowSource) -> SubmissionView:
    landed = source.landed.statuses if source.landed is not None else b""
    return view_of(found, datetime.now(UTC), landed=landed, prices=_prices(), collected=_collected(found, beside))


def _collected(found: FoundSubmission, beside: Sequence[FoundSubmission]) -> FoundSubmission | None:
    """Return the sensor's part of a submission that it has collected for another task."""
    if found.snapshot is None or found.snapshot.state is not SnapshotState.SENT:
        return None
    ended = (other for other in beside if other.snapshot and other.snapshot.state is SnapshotState.ENDED)
    return next((other for other in ended if other.snapshot and other.snapshot.place == found.snapshot.place), None)


def _prices() -> PriceTable | None:
    try:
        return settings.price_table()
    except ClaudeBatchError as error:
        log.debug("The cost of each kind of token is not shown. %s", error)
        return None
