"""Cancel the message batches of a submission: ask first and say what is billed, then cancel and say what came of it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import HTMLResponse

from airflow_claude_batch._airflow.api_server import write_audit_log
from airflow_claude_batch._airflow.compat import timezone
from airflow_claude_batch._airflow.servers import create_session
from airflow_claude_batch._airflow.states import is_open
from airflow_claude_batch._airflow.submissions import FoundSubmission, dags_of_batch
from airflow_claude_batch.api.client import ClaudeClient
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.limits import is_batch_id
from airflow_claude_batch.api.time_limit import time_limit
from airflow_claude_batch.batch.cancel import Canceling, try_to_cancel
from airflow_claude_batch.batch.land.snapshot import MAX_LISTED_PARTS, Snapshot, SnapshotPart
from airflow_claude_batch.exceptions import APIError, ClaudeBatchError
from airflow_claude_batch.hooks import ClaudeHook
from airflow_claude_batch.web.access import Access, UserAccess
from airflow_claude_batch.web.cross_site import refuse_cross_site
from airflow_claude_batch.web.links import submission_href, task_href
from airflow_claude_batch.web.task_query import ChangeableSubmission
from airflow_claude_batch.web.templating import render_page

log = logging.getLogger(__name__)

router = APIRouter()

#: The name of the entry in Airflow's audit log.
EVENT: Final = "cancel_message_batches"
#: The browser waits for the answer, and proxies give up after a minute.
MOST_SECONDS: Final = 30.0
#: 200 ids need about 10 kB.
MOST_FORM_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the request to cancel a batch.

    :param error: the first line of the error, empty if there was none.
    """

    batch_id: str
    result: Canceling
    error: str = ""


def open_parts(snapshot: Snapshot | None, now: datetime) -> list[SnapshotPart]:
    """Return the message batches of a submission that may still run and whose ids are known."""
    return [part for part in _named_parts(snapshot) if is_open(part, now)]


@router.get("/cancel", response_class=HTMLResponse)
def ask_before_canceling(found: ChangeableSubmission, batch_id: Annotated[list[str] | None, Query()] = None) -> str:
    """Return the question, with the batches that would be canceled."""
    parts = open_parts(found.snapshot, timezone.utcnow())
    chosen = [part for part in parts if part.batch_id in batch_id] if batch_id else parts
    requests = [part.requests for part in chosen]
    return render_page(
        "cancel.html.j2",
        key=found.key,
        parts=chosen,
        requests=None if None in requests else sum(filter(None, requests)),
        task_state=found.state,
        back=submission_href(found.key),
        task=task_href(found.key),
    )


async def chosen_batches(request: Request) -> list[str]:
    """Return the batches that the form names."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_FORM_BYTES:
            raise HTTPException(413, "Nothing was canceled: the form is too large.")
    ids = parse_qs(body.decode("ascii", errors="replace")).get("batch_id", [])
    if not ids:
        raise HTTPException(400, "Nothing was canceled: the form names no message batch.")
    return list(dict.fromkeys(ids))


@router.post("/cancel", response_class=HTMLResponse, dependencies=[Depends(refuse_cross_site)])
def cancel(
    found: ChangeableSubmission, access: UserAccess, batch_ids: Annotated[list[str], Depends(chosen_batches)]
) -> str:
    """Cancel the batches that the form names, and return what came of it."""
    snapshot = _snapshot_that_names(batch_ids, found)
    _check_changeable(access, batch_ids)
    try:
        config = ClaudeHook(snapshot.conn_id).get_config()
    except ClaudeBatchError as error:
        raise HTTPException(409, f"Nothing was canceled. {error}") from error
    extra = {"batch_ids": batch_ids, "conn_id": snapshot.conn_id}
    write_audit_log(EVENT, found.key, user_name=access.user_name, extra=extra)
    outcomes = list(cancel_all(config, batch_ids))
    log.info("%s canceled message batches of %s: %s", access.user_name, found.key, outcomes)
    return render_page("canceled.html.j2", key=found.key, outcomes=outcomes, back=submission_href(found.key))


def cancel_all(config: ClientConfig, batch_ids: Collection[str]) -> Iterator[Outcome]:
    """Cancel batches one after the other, within the time that a browser waits."""
    with time_limit(MOST_SECONDS), ClaudeClient(config) as client:
        for batch_id in batch_ids:
            result, error = try_to_cancel(client, batch_id)
            yield Outcome(batch_id, result, _first_line(error))


def _snapshot_that_names(batch_ids: Collection[str], found: FoundSubmission) -> Snapshot:
    """Return the submission's snapshot, if it names these batches.

    :raises HTTPException: it does not.
    """
    named = {part.batch_id for part in _named_parts(found.snapshot)}
    unknown = [batch_id for batch_id in batch_ids if batch_id not in named]
    if found.snapshot is None or unknown:
        names = ", ".join(unknown[:3])[:200]
        raise HTTPException(409, f"Nothing was canceled: no message batch of this task instance is {names}.")
    return found.snapshot


def _named_parts(snapshot: Snapshot | None) -> list[SnapshotPart]:
    """Return the message batches with valid ids. A snapshot is an XCom, which users with that right can change."""
    parts = snapshot.parts[:MAX_LISTED_PARTS] if snapshot is not None else []
    return [part for part in parts if part.batch_id is not None and is_batch_id(part.batch_id)]


def _check_changeable(access: Access, batch_ids: Collection[str]) -> None:
    """Check that the user may edit every DAG that uses the batches.

    A user with the right to write XComs could put a batch of another DAG into a snapshot. A sensor of another DAG may
    wait for the batch, too.

    :raises HTTPException: the user may not.
    """
    with create_session() as session:
        dag_ids = set().union(*(dags_of_batch(session, batch_id) for batch_id in batch_ids))
    if any(not access.may_change(dag_id) for dag_id in dag_ids):
        raise HTTPException(403, "Nothing was canceled: a message batch is also used by a DAG that you may not edit.")


def _first_line(error: APIError | None) -> str:
    return "" if error is None else str(error).partition("\n")[0]
