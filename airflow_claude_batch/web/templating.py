"""The templates of the pages, and their filters for numbers, money and times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from airflow_claude_batch._airflow.snapshot_values import plausible_time, usd_of
from airflow_claude_batch.batch.money.amounts import Amount, rounded_usd
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.web.links import submission_href, task_href

#: Statuses of rows that the style sheet has a color for.
_OUTCOMES: Final = frozenset({"succeeded", "invalid_output", "errored", "expired", "canceled", "missing"})
_CENT: Final = Decimal("0.01")


@cache
def environment() -> Environment:
    """Return the environment of all templates: with autoescape, and an error for each name that is missing."""
    made = Environment(
        loader=PackageLoader("airflow_claude_batch.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["static"] = "static/"  # relative, because Airflow may be served below a path
    made.globals["static_version"] = _static_version()
    made.globals["known_outcomes"] = _OUTCOMES
    made.globals["range_in_words"] = range_in_words
    made.filters.update(number=_number, usd=usd_in_words, amount=amount_in_words, duration=duration_in_words)
    made.filters.update(span=span_in_words, utc=utc_in_words, bytes=bytes_in_words, dollars=_dollars)
    made.filters.update(cost=cost_in_words, quantity=quantity, submission_href=submission_href, task_href=task_href)
    return made


def render_page(template: str, **values: Any) -> str:
    """Render a page for a browser.

    Texts of XComs may have surrogates, which no encoding of a response has. They become question marks.
    """
    html = environment().get_template(template).render(**values)
    return html.encode(errors="replace").decode()


def _static_version() -> str:
    """Return a text that changes with the style sheet and the script."""
    sources = (files("airflow_claude_batch.web") / "templates" / name for name in ("base.css", "page.css", "page.js"))
    return sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]


def _number(value: int) -> str:
    return f"{value:,}"


def usd_in_words(value: Decimal | None) -> str:
    """Return an amount such as ``$0.0041``."""
    return "unknown" if value is None else f"${rounded_usd(value)}"


def amount_in_words(value: Amount) -> str:
    """Return a sum such as ``$1.25``, or ``≥ $1.25`` if it is a lower bound."""
    return ("" if value.is_complete else "≥ ") + usd_in_words(value.usd)


def cost_in_words(value: Amount | None) -> str:
    """Return a bill. Empty if there is none yet, and ``unknown`` if no part of it is known."""
    if value is None:
        return ""
    return amount_in_words(value) if value.usd or value.is_complete else "unknown"


def duration_in_words(value: timedelta | None) -> str:
    """Return a duration such as ``0:12:30``."""
    return "not ended" if value is None else str(timedelta(seconds=round(value.total_seconds())))


def span_in_words(value: timedelta | None) -> str:
    """Return a duration for a narrow column: ``45 s``, ``12 min``, ``3 h 20 min``, ``2 d 5 h``. Empty for None."""
    if value is None:
        return ""
    seconds = max(round(value.total_seconds()), 0)
    if seconds < 60:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def utc_in_words(value: datetime | None) -> str:
    """Return a time such as ``2026-11-30 09:05 UTC``. Empty for None, and for what is no time of a submission."""
    time = plausible_time(value)
    return "" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def bytes_in_words(value: int) -> str:
    """Return a size such as ``2.1 GB``."""
    size, unit = float(value), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"


def _dollars(value: str | None) -> str:
    """Return a row's cost, which may be a tiny part of a cent. Empty for None and for what is no amount."""
    usd = usd_of(value)
    if usd is None:
        return ""
    return (
        usd_in_words(usd)
        if not usd or usd >= _CENT
        else f"${float(usd):.2g}"
        if usd >= Decimal("0.0001")
        else f"${usd:.7f}"
    )


def range_in_words(shortest: timedelta, longest: timedelta) -> str:
    """Return two durations: ``12 to 40 min``, ``45 min to 2 h``."""
    least, most = span_in_words(shortest), span_in_words(longest)
    if least == most:
        return most
    (number, _, unit), (_, _, other) = least.partition(" "), most.partition(" ")
    return f"{number if unit == other else least} to {most}"
