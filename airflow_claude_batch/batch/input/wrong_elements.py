"""Explains an element of no accepted shape: what it is, and how it becomes an element. Quotes no text."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from airflow_claude_batch.batch.input.element_errors import short_repr, type_name
from airflow_claude_batch.batch.input.foreign_types import (
    full_type_name,
    is_many,
    is_missing,
    is_record,
    is_task_output,
    recognise,
    rows_of_table,
)
from airflow_claude_batch.batch.input.wrong_texts import READ_THE_FILES
from airflow_claude_batch.batch.quantity import with_article

SHAPES: Final = (
    'a prompt (string), {"role": …, "content": …}, a conversation (list of such), '
    '{"key": …, "prompt" or "messages": …}, or {"custom_id": …, "params": {…}}'
)
_OF_A_ROW: Final = (
    'Make an element of each row: [{"key": row[0], "prompt": row[1]} for row in rows]. Of the rows that a task '
    'returns: rows.map(lambda row: {"key": row[0], "prompt": row[1]}).'
)
_OF_A_NAMED_ROW: Final = 'Make an element of each row: [{"key": row.id, "prompt": row.text} for row in rows].'
_OF_ONE_VALUE: Final = (
    "Give the texts themselves: [row[0] for row in rows]. Of the rows that a task returns: rows.map(lambda r: r[0])."
)
_OF_A_MAPPING: Final = (
    'Make an element of each row: [{"key": row["id"], "prompt": row["text"]} for row in rows]. Of the rows that a task '
    'returns: rows.map(lambda row: {"key": row["id"], "prompt": row["text"]}).'
)
#: Names that others give to the fields of an element.
_MEANT: Final = {
    "prompt": ("text", "content", "input", "question", "query", "message", "user", "body", "promt", "prompts"),
    "key": ("id", "custom_id", "key_id", "name", "index"),
    "messages": ("conversation", "conversations", "chat", "turns"),
}


class Explanation(NamedTuple):
    """The problem, after the element's name, and what to do about it."""

    problem: str
    remedy: str


def explain_type(element: Any) -> Explanation:
    """Explain an element that is neither a string, a list nor a mapping."""
    name = full_type_name(element)
    problem = f"an element must be a string, a list or a mapping, not {type_name(element)}"
    if element is None or is_missing(element):
        return Explanation(f"{problem}.", f"A value is missing: leave it out, or repair what made it. Give {SHAPES}.")
    if is_task_output(element):
        return Explanation(
            f"{problem}: the output of a task, not resolved.",
            "Airflow resolves outputs in lists and mappings only. Let a task make the whole list, and give its output.",
        )
    if isinstance(element, os.PathLike):
        return Explanation(f"{problem}: the path of a file, which is not read.", READ_THE_FILES)
    if is_record(element):
        return Explanation(f"an element must be a string, a list or a mapping, not {name}: a row.", _OF_A_ROW)
    if rows := rows_of_table(element):
        remedy = f"Make a list of elements of it first, from {rows}. To send a batch for each: expand(messages=[…])."
        return Explanation(f"an element must be a string, a list or a mapping, not {name}: a data frame.", remedy)
    if is_many(element):
        return Explanation(f"an element must be a string, a list or a mapping, not {name}: an array.", _OF_A_MAPPING)
    if isinstance(element, int | float):
        return Explanation(f"{problem}.", f"Write a number as text with str(). Or give {SHAPES}.")
    foreign = recognise(element)
    return Explanation(f"{problem}.", f"{foreign.remedy} Or give {SHAPES}." if foreign else f"Give {SHAPES}.")


def explain_prompt(prompt: Any) -> Explanation:
    """Explain a ``prompt`` that is neither a text nor a list of content blocks."""
    problem = f"'prompt' must be a string or a list of content blocks, not {type_name(prompt)}."
    if prompt is None or is_missing(prompt):
        return Explanation(problem, "A value is missing: leave the element out, or repair what made it.")
    if isinstance(prompt, Mapping):
        return Explanation(problem, "Give a single content block in a list: [{'type': …}].")
    if isinstance(prompt, tuple):
        return Explanation(problem, "Give content blocks in a list: list(blocks).")
    foreign = recognise(prompt)
    return Explanation(problem, foreign.remedy if foreign else "Convert the prompt to a string.")


def explain_list(element: Collection[Any]) -> Explanation | None:
    """Explain a list or tuple that holds no message. None for a conversation, whatever else is in it."""
    if not element or any(isinstance(item, Mapping) for item in element):
        return None
    if is_record(element):
        return Explanation(f"{with_article(full_type_name(element))} is a row, not a conversation.", _OF_A_NAMED_ROW)
    if isinstance(element, tuple):
        *_, last = element
        if len(element) == 1 and isinstance(last, str):
            return Explanation("a tuple of values is a row, not a conversation.", _OF_ONE_VALUE)
        rows = rows_of_table(last) or ('frame.to_dict("records")' if is_many(last) else None)  # groupby(), iterrows()
        remedy = f"Make an element of each row of the data frame, from {rows}." if rows else _OF_A_ROW
        return Explanation("a tuple of values is a row, not a conversation.", remedy)
    if all(isinstance(item, str) for item in element):
        return Explanation(
            "a list of texts is not a conversation.",
            "Give the texts themselves as elements, not a list in the list. Of a row: "
            '{"key": row[0], "prompt": row[1]}. To send a batch for each list: expand(messages=[…]).',
        )
    if all(isinstance(item, list | tuple) for item in element):
        return Explanation(
            "a list of lists is not a conversation.",
            "Give the conversations themselves as elements. To send a batch for each list: expand(messages=[…]).",
        )
    foreign = recognise(first := next(iter(element)))
    return Explanation(
        f"a conversation is a list of messages, not of {full_type_name(first)}.",
        f"{foreign.remedy if foreign else _OF_A_ROW} A message is {{'role': …, 'content': …}}.",
    )


def explain_fields(element: Mapping[Any, Any], unknown: Sequence[Any]) -> Explanation:
    """Explain a mapping with fields that no element has."""
    return _foreign_line(element) or _unknown_field(element, unknown)


def _foreign_line(element: Mapping[Any, Any]) -> Explanation | None:
    """Recognise the lines of other formats, and of our own files."""
    if {"method", "url", "body"} <= element.keys():
        return Explanation(
            "this is a line of an OpenAI batch file.",
            'Give {"custom_id": …, "params": {"max_tokens": …, "messages": […]}}, or {"key": …, "messages": […]}. '
            "The system prompt is a field of its own: 'system'.",
        )
    if {"recordId", "modelInput"} <= element.keys():
        return Explanation("this is a record of Bedrock's batch inference.", 'Give {"key": recordId, "messages": […]}.')
    if {"custom_id", "result"} <= element.keys() or {"index", "key", "status"} <= element.keys():
        return Explanation(
            "this is a row of results, not a request.",
            "Read results with read_rows(manifest), and make elements of their texts.",
        )
    if {"hash", "key", "params"} <= element.keys():
        return Explanation(
            "this is a line of a submission's requests.jsonl.",
            "Give the file that the requests were made from. Or keep 'key' and 'params', and call 'key' 'custom_id'.",
        )
    if isinstance(element.get("requests"), list):
        return Explanation("this is the body of a create call.", "Give the elements of its 'requests', one by one.")
    if "submission_id" in element and "batch_ids" in element:
        return Explanation("this is the manifest of a submission.", "Read its rows with read_rows(manifest).")
    if isinstance(element.get("type"), str) and element["type"] in ("text", "image", "document"):
        return Explanation("this is a content block.", 'Put it into a prompt: {"prompt": [{"type": …}]}.')
    return None


def _unknown_field(element: Mapping[Any, Any], unknown: Sequence[Any]) -> Explanation:
    if not {"prompt", "messages", "key"}.intersection(element) and len(unknown) > 1:
        names = ", ".join(short_repr(name, 16) for name in unknown[:3]) + (", …" if len(unknown) > 3 else "")
        return Explanation(f"unknown fields {names}: a row of a table is not an element.", _of_fields(element))
    first = unknown[0]
    meant = next((field for field, names in _MEANT.items() if field not in element and first in names), None)
    problem = f"unknown field {short_repr(first, 40)}."
    if meant is not None:
        return Explanation(problem, f"Did you mean {meant!r}? An element is {SHAPES}.")
    return Explanation(problem, f"Put fields of the Messages API under 'params'. Or give {SHAPES}.")


def _of_fields(row: Mapping[Any, Any]) -> str:
    """Say how a row becomes an element, with the names of its own fields: the first one, and the longest text."""
    key, *others = row
    texts = [name for name in others if isinstance(name, str) and len(name) <= 40 and isinstance(row[name], str)]
    if not texts or not isinstance(key, str) or len(key) > 40:
        return _OF_A_MAPPING
    text = max(texts, key=lambda name: len(row[name]))
    made = f'{{"key": row[{json.dumps(key)}], "prompt": row[{json.dumps(text)}]}}'
    placeholder = f", key={key!r} and prompt='… {{{text}}} …'" if text.isidentifier() else ", key and prompt"
    return (
        f"Give them as rows=…{placeholder} (@task.claude_batch: without rows=…). "
        f"Or make an element of each row, such as [{made} for row in rows]. Of the rows that a task returns: "
        f"rows.map(lambda row: {made})."
    )
