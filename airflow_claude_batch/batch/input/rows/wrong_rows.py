"""Explain what is given as ``rows`` and holds none: what it is, and what to give instead. Quotes no value."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterable, Mapping, MappingView, Set
from typing import Any, Final

from airflow_claude_batch.batch.input.containers import Refusal
from airflow_claude_batch.batch.input.foreign_types import (
    full_type_name,
    is_array,
    is_missing,
    is_task_output,
    is_undefined,
    recognise,
    rows_of_table,
)
from airflow_claude_batch.batch.quantity import with_article
from airflow_claude_batch.exceptions import NOTHING_SENT, InputError

_GIVE: Final = (
    'Give a list of mappings such as [{"id": 1, "text": "…"}], a pandas or polars frame, SqlRows(…) or FileRows(…).'
)
_LIKE_ROWS: Final = re.compile(r"\s*[\[{(]")
_MANIFEST: Final = frozenset({"submission_id", "batch_ids"})
_READ_THE_MANIFEST: Final = "Give the rows that it stands for: rows=[…] of read_rows(manifest), made in a task."
_PROMPTS: Final = "Give texts that are prompts as messages=[…], without rows and prompt. Give files as FileRows(path)."


def refuse_container(value: Any) -> Refusal | None:
    """Return why a value holds no rows, None if it may."""
    if value is None:
        return Refusal("None: the upstream task or template that gives it returned nothing", _GIVE)
    if is_undefined(value):
        return Refusal("not defined", "The template names something that does not exist. Check its spelling.")
    for refuse in (_refuse_text, _refuse_table, _refuse_mapping, _refuse_order, _refuse_other):
        if refusal := refuse(value):
            return refusal
    return None


def no_mapping_error(row: Any, number: int) -> InputError:
    """Build the error about a row that is no mapping.

    :param number: its place in the rows, from 0.
    """
    problem, remedy = _explain_row(row)
    return InputError(f"rows[{number}] is {problem}, not a mapping.", NOTHING_SENT, remedy)


def _refuse_text(value: Any) -> Refusal | None:
    if isinstance(value, bytes | bytearray | memoryview):
        return Refusal(f"of type {type(value).__name__}", _GIVE)
    if isinstance(value, os.PathLike) or (isinstance(value, str) and not _LIKE_ROWS.match(value)):
        return Refusal("a text or a path, not rows", f"Read files with rows=FileRows(path). {_PROMPTS}")
    if isinstance(value, str):
        return Refusal(
            "a text that looks like rows: a template gives text",
            "Give the output of the task itself: rows=task.output. Or set render_template_as_native_obj=True on the "
            "DAG.",
        )
    if hasattr(type(value), "readline") and hasattr(type(value), "read"):
        return Refusal("an open file", "Give its path: rows=FileRows(path).")
    return None


def _refuse_table(value: Any) -> Refusal | None:
    """Iterating other tables gives the names of their columns, or the columns themselves."""
    name = full_type_name(value)
    if (rows := rows_of_table(value)) is not None:
        if name == "polars.LazyFrame":
            return Refusal(f"of type {name}, which is not computed yet", "Compute it: rows=frame.collect().")
        return Refusal(f"of type {name}", f"Give its rows: rows={rows}.")
    if is_array(value):
        return Refusal(f"of type {name}: values without the names of columns", f"Give the whole table. {_GIVE}")
    return None


def _refuse_mapping(value: Any) -> Refusal | None:
    if not isinstance(value, Mapping):
        return None
    name = f"of type {full_type_name(value)}"
    if value.keys() >= _MANIFEST:
        return Refusal(f"{name}: the manifest of a submission", _READ_THE_MANIFEST)
    if value and all(isinstance(item, list | tuple) or is_array(item) for item in value.values()):
        return Refusal(
            f"{name}: lists by column",
            "Make rows of them: [dict(zip(columns, row)) for row in zip(*columns.values())], or a pandas frame.",
        )
    return Refusal(f"{name}: a single row, or rows by key", f"For one row: rows=[row]. {_GIVE}")


def _refuse_order(value: Any) -> Refusal | None:
    if not isinstance(value, Set) or isinstance(value, MappingView):
        return None
    return Refusal(
        f"{with_article(type(value).__name__)}, whose order changes from one try to the next", "Give a list."
    )


def _refuse_other(value: Any) -> Refusal | None:
    name = f"of type {full_type_name(value)}"
    if inspect.iscoroutine(value) or hasattr(type(value), "__aiter__"):
        if inspect.iscoroutine(value):
            value.close()  # without this Python warns that it was never awaited
        return Refusal(f"{name}: the function is async", "Write it with def instead of async def.")
    if is_task_output(value):
        return Refusal(f"{name}: the output of a task, not resolved", "Give it as rows=…, or let Airflow run the task.")
    if isinstance(value, type) or not isinstance(value, Iterable):
        foreign = recognise(value)
        return Refusal(name, f"{_GIVE} {foreign.remedy}" if foreign else _GIVE)
    if hasattr(type(value), "keys") or hasattr(value, "_fields") or hasattr(type(value), "model_dump"):
        return Refusal(f"{name}: one row, not a list of rows", "For one row: rows=[row].")
    return None


def _explain_row(row: Any) -> tuple[str, str]:
    if isinstance(row, str):
        return "a text", _PROMPTS
    if row is None or is_missing(row):
        return "a missing value", "Leave it out, or repair what made it."
    if isinstance(row, list | tuple):
        kind = type(row).__name__
        if row and isinstance(row[0], Mapping):
            return f"{with_article(kind)} of rows", "Give one list: [row for rows in lists for row in rows], in a task."
        return (
            with_article(kind),
            "Name its values: [dict(zip(columns, row)) for row in rows]. Or let the operator run the query: "
            "rows=SqlRows(conn_id, sql).",
        )
    if is_task_output(row):
        return "the output of a task that was not resolved", "Let a task make the whole list, and give its output."
    if rows_of_table(row):
        return (
            "a data frame",
            "Give one frame, such as pandas.concat(frames). Or send a batch for each by expand(rows=…).",
        )
    foreign = recognise(row)
    return f"of type {full_type_name(row)}", foreign.remedy if foreign else _GIVE
