"""Decides what may stand as ``messages``, before its elements are looked at.

Most of what Python can iterate gives something else than elements: a data frame its columns, a mapping its keys, an
open file its lines, a set its members in another order each time.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, MappingView, Set
from typing import Any, Final, NamedTuple

from airflow_claude_batch.batch.input.foreign_types import (
    full_type_name,
    is_array,
    is_record,
    is_task_output,
    is_undefined,
    recognise,
    rows_of_table,
)
from airflow_claude_batch.batch.input.json_text import NotJsonError, read_values
from airflow_claude_batch.batch.quantity import with_article
from airflow_claude_batch.exceptions import NOTHING_SENT, InputError

_GIVE: Final = "Give a list of elements (of one, for a single one), or the path of a .jsonl file."
_ELEMENT_FIELDS: Final = frozenset({"key", "prompt", "messages", "role", "custom_id", "params"})
#: How a text begins that holds elements, in JSON or as Python shows them. A path or a prompt does not.
_LIKE_ELEMENTS: Final = re.compile(r"\s*(?:\[\s*[\[{\"']|\{\s*[\"'])")
_EACH_ROW: Final = '[{{"key": row["id"], "prompt": row["text"]}} for row in {rows}]'


class Refusal(NamedTuple):
    """What is wrong with a value, after its name, and what to do."""

    problem: str
    remedy: str


def check_container(messages: Any, *, name: str = "messages") -> Iterable[Any]:
    """Return ``messages`` if iterating it gives elements.

    >>> check_container({"a", "b"})
    Traceback (most recent call last):
    InputError: messages is a set, whose order changes from one try to the next.

    :param name: what gave it, for the error: ``messages``, or what a function has returned.
    :raises InputError: it gives something else; names the type and the remedy.
    """
    refusal = _refuse(messages)
    if messages is None and name != "messages":
        raise InputError(f"{name} is None.", NOTHING_SENT, "Return or yield the elements.")
    if refusal is not None:
        raise InputError(f"{name} is {refusal.problem}.", NOTHING_SENT, refusal.remedy)
    return messages  # type: ignore[no-any-return]  # _refuse refuses what cannot be iterated


def elements_of_text(text: str) -> Any:
    """Return what a text of JSON holds: the elements of an array, or those that stand on a line each. Else None.

    A template or a task may give such a text. A single mapping is returned as it is, for its own refusal.

    :raises InputError: it begins like elements, and is not JSON.
    """
    if not _LIKE_ELEMENTS.match(text):
        return [] if text.startswith("[") and not text.strip("[] \n") else None
    try:
        values = read_values(text)
    except NotJsonError as error:
        raise InputError(
            f"messages is a text whose line {error.error.line} {error.error.problem}.", NOTHING_SENT, error.error.remedy
        ) from None
    return values[0] if len(values) == 1 else values


def _refuse(messages: Any) -> Refusal | None:
    if messages is None:
        return Refusal("None: the upstream task or template that gives it returned nothing", _GIVE)
    if is_undefined(messages):
        return Refusal("not defined", "The template names something that does not exist. Check its spelling.")
    for refuse in (_refuse_table, _refuse_array, _refuse_mapping, _refuse_set, _refuse_stream, _refuse_other):
        if refusal := refuse(messages):
            return refusal
    return None


def _refuse_table(messages: Any) -> Refusal | None:
    """Iterating it gives the names of its columns, which would be sent as prompts, or the columns themselves."""
    rows = rows_of_table(messages)
    if rows is None:
        return None
    what = "the result of a query" if hasattr(type(messages), "mappings") else "a data frame"
    return Refusal(
        f"of type {full_type_name(messages)}: {what}, which is no list of elements",
        f"Give rows={rows} and prompt='… {{column}} …', a request of each row. "
        f"Or make an element of each: {_EACH_ROW.format(rows=rows)}. If its columns are key and prompt: "
        f"messages={rows}.",
    )


def _refuse_array(messages: Any) -> Refusal | None:
    """A column of texts is a list of prompts. Tables, labels and scalars are not."""
    if not is_array(messages):
        return None
    name = full_type_name(messages)
    if name.startswith("pandas.") and name.endswith("Index"):
        return Refusal(f"of type {name}: the labels of a data frame, not its data", "Give a column: frame['text'].")
    dimensions = getattr(messages, "ndim", 1)
    if dimensions == 0 or dimensions > 1:
        rows = _EACH_ROW.format(rows="array.tolist()").replace('"id"', "0").replace('"text"', "1")
        return Refusal(f"an array of {dimensions} dimensions", f"Make an element of each row: {rows}.")
    if name.startswith("pyarrow."):
        return Refusal(f"of type {name}", "Give a list: .to_pylist().")
    return None


def _refuse_mapping(messages: Any) -> Refusal | None:
    """Iterating it gives its keys. The keys are not shown: they may be prompts."""
    if not isinstance(messages, Mapping):
        return None
    name = f"of type {full_type_name(messages)}"
    if isinstance(messages.get("requests"), list):
        return Refusal(f"{name}: the body of a create call", 'Give its list: body["requests"].')
    if "submission_id" in messages or "batch_ids" in messages:
        return Refusal(
            f"{name}: the manifest of a submission",
            "Read its rows with read_rows(manifest), and make elements of them.",
        )
    if _ELEMENT_FIELDS.intersection(messages):
        return Refusal(f"{name}: a single element", f"{_GIVE} For this one: messages=[…].")
    if messages and all(isinstance(value, Mapping | list | tuple) for value in messages.values()):
        return Refusal(
            name,
            f'{_GIVE} Of a data frame: frame.to_dict("records"). Of conversations by key: '
            '[{"key": key, "messages": value} for key, value in conversations.items()].',
        )
    return Refusal(
        name, f'{_GIVE} Of prompts by key: [{{"key": key, "prompt": text}} for key, text in prompts.items()].'
    )


def _refuse_set(messages: Any) -> Refusal | None:
    if not isinstance(messages, Set) or isinstance(messages, MappingView):
        return None
    kind = type(messages).__name__
    return Refusal(
        f"{with_article(kind)}, whose order changes from one try to the next",
        "An element without a key has its position as its key, so the order must stay. Give sorted(…).",
    )


def _refuse_stream(messages: Any) -> Refusal | None:
    """An open file gives its lines, which are not parsed."""
    kind = type(messages)
    if isinstance(messages, bytes | bytearray | memoryview):
        return Refusal(f"of type {kind.__name__}", _GIVE)
    if hasattr(kind, "readline") and hasattr(kind, "read"):
        return Refusal(
            "an open file, which gives its lines as texts",
            "Give the path of a .jsonl file. Of a file with a prompt on each line: [line.strip() for line in file].",
        )
    return None


def _refuse_other(messages: Any) -> Refusal | None:
    name = f"of type {full_type_name(messages)}"
    if inspect.iscoroutine(messages) or hasattr(type(messages), "__aiter__"):
        if inspect.iscoroutine(messages):
            messages.close()  # without this Python warns that it was never awaited
        return Refusal(f"{name}: the function is async", "Write it with def instead of async def.")
    if is_task_output(messages):
        return Refusal(
            f"{name}: the output of a task, not resolved", "Give it as messages=…, or let Airflow run the task."
        )
    if is_record(messages):
        return Refusal(
            f"{name}: one row, not a list of elements", 'Make an element of it: [{"key": row[0], "prompt": row[1]}].'
        )
    if hasattr(type(messages), "model_dump") or not isinstance(messages, Iterable):
        foreign = recognise(messages)
        return Refusal(name, f"{_GIVE} {foreign.remedy}" if foreign else _GIVE)
    return None
