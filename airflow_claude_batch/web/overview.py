"""The overview: the submissions of the DAGs that the user may read, the newest first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from airflow_claude_batch._airflow.compat import timezone
from airflow_claude_batch._airflow.servers import Session, create_session
from airflow_claude_batch._airflow.states import State
from airflow_claude_batch._airflow.submissions import FoundSubmission, find_dag_ids, find_in_runs, find_submissions
from airflow_claude_batch.web.access import Access, UserAccess
from airflow_claude_batch.web.overview_charts import ModelBar, day_chart, model_bars
from airflow_claude_batch.web.overview_filters import Filters
from airflow_claude_batch.web.overview_lines import Line, is_half, lines_of
from airflow_claude_batch.web.overview_totals import Totals, totals_of
from airflow_claude_batch.web.plots import ColumnChart
from airflow_claude_batch.web.templating import render_page

router = APIRouter()

#: How many task instances are read for a page and its totals, and how many submissions a page lists.
MAX_READ: Final = 1000
MAX_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class Overview:
    """What the page shows.

    :param lines: the submissions of this page.
    :param matching: how many submissions match the filters, of those that were read.
    :param states: how many submissions there are in each state, whichever state is asked for.
    :param models: the models that can be filtered by.
    :param shows_errors: the DAGs whose errors the user may read, as they read their XComs.
    :param older: the time before which the next page begins. None if this is the last one.
    :param is_part: there are more submissions than are summed up.
    """

    filters: Filters
    dag_ids: Sequence[str]
    models: Sequence[str]
    lines: Sequence[Line]
    matching: int
    states: dict[State, int]
    totals: Totals
    shows_errors: Collection[str]
    older: datetime | None
    is_part: bool
    read: int = MAX_READ

    @property
    def is_live(self) -> bool:
        return any(line.standing.is_live for line in self.lines)

    @property
    def day_chart(self) -> ColumnChart:
        return day_chart(self.totals)

    @property
    def model_bars(self) -> list[ModelBar]:
        return model_bars(self.totals)


@router.get("/", response_class=HTMLResponse)
def show_overview(
    access: UserAccess,
    dag_id: str | None = None,
    state: str | None = None,
    model: str | None = None,
    day: str | None = None,
    before: str | None = None,
) -> str:
    """Return the page with all submissions."""
    filters = Filters.read(dag_id=dag_id, state=state, model=model, day=day, before=before)
    with create_session() as session:
        overview = read_overview(session, access, filters, timezone.utcnow())
    return render_page("overview.html.j2", overview=overview, State=State)


def read_overview(session: Session, access: Access, filters: Filters, now: datetime) -> Overview:
    """Read the submissions that the user may see, in a few queries whatever their number."""
    readable = access.readable_dag_ids()
    known = sorted(find_dag_ids(session) & readable)
    dag_ids = known if filters.dag_id is None else [filters.dag_id] if filters.dag_id in readable else []
    if not dag_ids:
        return overview_of([], filters, dag_ids=known)
    found = find_submissions(session, dag_ids=dag_ids, day=filters.day, before=filters.before, limit=MAX_READ)
    is_part = len(found) >= MAX_READ
    found = _without_last_time(found) if is_part else found
    lines = _whole_lines(session, found, filters, now)
    oldest = found[-1].pushed_at if is_part else None
    overview = overview_of(lines, filters, dag_ids=known, oldest=oldest)
    failed = {line.key.dag_id for line in overview.lines if line.failure}
    return replace(overview, shows_errors=frozenset(dag_id for dag_id in failed if access.may_read_rows(dag_id)))


def overview_of(
    lines: Sequence[Line], filters: Filters, *, dag_ids: Sequence[str], oldest: datetime | None = None
) -> Overview:
    """Return what the page shows of the submissions that were read.

    :param oldest: the time of the last one that was read, if there are more.
    """
    of_model = [line for line in lines if filters.match_model(line)]
    matching = [line for line in of_model if filters.match(line)]
    shown = _first_page(matching)
    return Overview(
        filters=filters,
        dag_ids=dag_ids,
        models=sorted({model for line in lines for model in line.models}),
        lines=shown,
        matching=len(matching),
        states={state: sum(line.state is state for line in of_model) for state in State},
        totals=totals_of(matching),
        shows_errors=frozenset(),
        older=shown[-1].changed_at if len(matching) > len(shown) else oldest,
        is_part=oldest is not None,
    )


def _without_last_time(found: list[FoundSubmission]) -> list[FoundSubmission]:
    """Leave what has the last one's time to the next page: there may be more of the same time."""
    return [each for each in found if each.pushed_at > found[-1].pushed_at] or found


def _first_page(lines: Sequence[Line]) -> Sequence[Line]:
    """Return the first lines, and what has the same time as the last one: the next page begins before that time."""
    if len(lines) <= MAX_SHOWN:
        return lines
    last = lines[MAX_SHOWN - 1].changed_at
    return [line for number, line in enumerate(lines) if number < MAX_SHOWN or line.changed_at == last]


def _whole_lines(session: Session, found: Sequence[FoundSubmission], filters: Filters, now: datetime) -> list[Line]:
    """Return the lines of a page. A submission is on the page where it has changed last.

    On a later page, or that of a day, the operator's task may be found without the sensor's, which has changed since,
    and the sensor's without the operator's.
    """
    lines = lines_of(found, now)
    halves = {(line.key.dag_id, line.key.run_id) for line in lines if is_half(line)}
    if not halves or not (filters.day or filters.before):
        return lines
    keys = {each.key for each in found}
    others = [each for each in find_in_runs(session, sorted(halves)) if each.key not in keys]
    oldest = min(each.pushed_at for each in found)
    return [line for line in lines_of([*found, *others], now) if _is_in(line, oldest, filters)]


def _is_in(line: Line, oldest: datetime, filters: Filters) -> bool:
    at = line.changed_at
    if at < oldest or (filters.before is not None and at >= filters.before):
        return False
    return filters.day is None or at.astimezone(UTC).date() == filters.day
