"""The filters of the overview, as its address has them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

from airflow_claude_batch._airflow.states import State
from airflow_claude_batch.web.links import overview_href
from airflow_claude_batch.web.overview_lines import Line


@dataclass(frozen=True, slots=True)
class Filters:
    """What the overview shows. None is everything.

    :param day: of the last change, UTC.
    :param before: only submissions that have changed last before this time, for the next page.
    :param ignored: the names of filters whose value could not be read: the page says so.
    """

    dag_id: str | None = None
    state: State | None = None
    model: str | None = None
    day: date | None = None
    before: datetime | None = None
    ignored: tuple[str, ...] = ()

    @classmethod
    def read(
        cls, *, dag_id: str | None, state: str | None, model: str | None, day: str | None, before: str | None
    ) -> Filters:
        """Read the query of an address. A value that cannot be one is left out and noted: people edit addresses."""
        known = State(state) if state in set(State) else None
        on, earlier_than = _day(day), _time(before)
        read = (("state", state, known), ("day", day, on), ("before", before, earlier_than))
        ignored = tuple(name for name, text, value in read if text and value is None)
        return cls(dag_id or None, known, model or None, on, earlier_than, ignored)

    def match(self, line: Line) -> bool:
        """Return True if a line has the state and the model. The rest is matched in the database."""
        return self.match_model(line) and self.state in (None, line.state)

    def match_model(self, line: Line) -> bool:
        return self.model is None or self.model in line.models

    def href(self, **changes: object) -> str:
        """Return the address of the overview with some filters changed. Others than ``before`` start at the newest.

        >>> Filters(dag_id="label").href(state=State.FAILED)
        './?dag_id=label&state=failed'
        """
        values = {name: getattr(self, name) for name in ("dag_id", "state", "model", "day")} | changes
        return overview_href({name: _text(value) for name, value in values.items()})

    @property
    def is_empty(self) -> bool:
        """Return True if nothing is filtered out. The page does not count."""
        return not (self.dag_id or self.state or self.model or self.day)


def _text(value: object) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, date) else str(value)


def _day(text: str | None) -> date | None:
    try:
        day = date.fromisoformat(text or "")
    except ValueError:
        return None
    return day if 2000 <= day.year < 3000 else None


def _time(text: str | None) -> datetime | None:
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    if not 2000 <= time.year < 3000:
        return None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
