"""Render ``map_index_template`` early: Airflow renders it after the task, and fails a task whose label has an error."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_claude_batch.exceptions import InputError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.compat import Context

log = logging.getLogger(__name__)


def check_label(context: Context) -> None:
    """Check that the label can be rendered, before anything is sent.

    :raises InputError: it cannot.
    """
    if (error := _error_of_label(context)) is not None:
        context["map_index_template"] = None  # Airflow would render it once more, and show that error instead
        raise InputError(
            "map_index_template cannot be rendered.",
            f"{type(error).__name__}: {error!s:.200}",
            "Nothing was sent: Airflow would fail the task for it after it has paid.",
            "Use templated arguments, such as {{ task.messages|length }} or {{ task.model }}.",
        )


@contextlib.contextmanager
def without_broken_label(context: Context) -> Iterator[None]:
    """Leave the label out if it cannot be rendered at the end: what was paid for, or the task's own error, counts."""
    try:
        yield
    finally:
        _drop_broken_label(context)


def _drop_broken_label(context: Context) -> None:
    if (error := _error_of_label(context)) is not None:
        log.warning(
            "map_index_template cannot be rendered, so the task has no label. %s: %.200s", type(error).__name__, error
        )
        context["map_index_template"] = None


def _error_of_label(context: Context) -> Exception | None:
    template, task = context.get("map_index_template"), context["ti"].task
    if template is None or getattr(task, "_post_execute_hook", None) is not None:  # it may set what the label shows
        return None
    try:
        task.get_template_env().from_string(template).render(context)
    except Exception as error:  # a template may raise anything
        return error
    return None
