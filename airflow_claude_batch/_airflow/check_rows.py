"""Check ``rows`` and what belongs to them: what is written in the DAG file when it is parsed, the rest when it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_claude_batch._airflow.check_requests import check_messages
from airflow_claude_batch._airflow.rendering import has_templates
from airflow_claude_batch._airflow.source import Source
from airflow_claude_batch.exceptions import ConfigurationError, InputError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.options import SubmissionOptions

#: Arguments that only rows have.
_OF_ROWS = ("prompt", "key", "keep", "files")


def check_input(options: SubmissionOptions) -> None:
    """Check when the DAG is parsed that there are ``messages``, or ``rows`` with a ``prompt``, in a form that may do.

    :raises ConfigurationError: names the task, the argument and what it may be.
    """
    check_combination(options)
    if options.rows is None:
        check_messages(options.task_id, options.messages)
    else:
        _check_rows(options.task_id, options.rows)


def check_combination(options: SubmissionOptions) -> None:
    """Check which arguments are given together: mapped ones and those of a function are known when the task runs.

    :raises ConfigurationError: names the task and the arguments.
    """
    task_id = options.task_id
    if options.rows is None:
        given = [name for name in _OF_ROWS if getattr(options, name)]
        if given and options.messages is None:
            raise ConfigurationError(f"{task_id}: {given[0]} is given without rows.", _GIVE_ROWS)
        if given:
            raise ConfigurationError(
                f"{task_id}: {given[0]} belongs to rows, and messages is given.",
                "Give rows=… in place of messages, or leave it out: an element has its own prompt and key.",
            )
        return
    if options.messages is not None:
        raise ConfigurationError(
            f"{task_id}: both messages and rows are given.", "Give one of them: elements, or rows and a prompt."
        )
    if options.prompt is None:
        raise ConfigurationError(
            f"{task_id}: rows needs a prompt.",
            "Give the text of each request with the columns in it: prompt='Summarize: {body}'.",
        )


def check_function_input(options: SubmissionOptions) -> None:
    """Check when the DAG is parsed that a function whose output is rows has a prompt for them.

    :raises ConfigurationError: names the task and the argument that only rows have.
    """
    given = [name for name in _OF_ROWS if getattr(options, name)]
    if given and options.prompt is None:
        raise ConfigurationError(
            f"{options.task_id}: {given[0]} is given without prompt, so what the function returns would not be rows.",
            "Give the text of each request with the columns in it: prompt='Summarize: {body}'. "
            f"If the function makes elements, leave {given[0]} out: an element has its own prompt and key.",
        )


_GIVE_ROWS = "Give the rows: rows=SqlRows(…), FileRows(…), a list of mappings, or the output of a task."


def check_templates(options: SubmissionOptions) -> None:
    """Check the forms of ``prompt``, ``key``, ``keep`` and ``files``. The columns are known only when the task runs.

    :raises ConfigurationError: names the task, the argument and what it may be.
    """
    if (options.prompt, options.key, options.keep, options.files) == (None, None, (), ()):
        return
    from airflow_claude_batch.batch.input.rows.file_blocks import check_files
    from airflow_claude_batch.batch.input.rows.template import PromptTemplate

    task_id = options.task_id
    prompt: Any = options.prompt
    if prompt is not None and not isinstance(prompt, str) and not has_templates(prompt):
        raise ConfigurationError(
            f"{task_id}: prompt is of type {type(prompt).__name__}, and must be a text.",
            "Give the text of each request with the columns in it: prompt='Summarize: {body}'.",
        )
    for name in ("key", "keep"):
        _check_columns(task_id, name, getattr(options, name))
    try:
        if isinstance(prompt, str):
            PromptTemplate(prompt).check_form()
        if options.files != () and not hasattr(options.files, "resolve"):  # the output of a task comes later
            check_files(options.files)
    except (InputError, ConfigurationError) as error:
        raise ConfigurationError(f"{task_id}: {error}") from None


def _check_columns(task_id: str, name: str, value: Any) -> None:
    if value is None or isinstance(value, str):
        if not isinstance(value, str) or value.strip():
            return
        raise ConfigurationError(
            f"{task_id}: {name} is an empty text.", f"Give columns by their names, or leave {name} out."
        )
    is_list = isinstance(value, list | tuple)
    if name == "key" and is_list and not value:
        raise ConfigurationError(
            f"{task_id}: key is an empty list.", "Name the columns that tell rows apart, or leave key out."
        )
    if not is_list or not all(isinstance(column, str) for column in value):
        raise ConfigurationError(
            f"{task_id}: {name} must be a column's name or a list of such, not {type(value).__name__}.",
            f"Give the columns by their names: {name}=['id'].",
        )


def _check_rows(task_id: str, rows: Any) -> None:
    if isinstance(rows, Source) or has_templates(rows):
        return
    if isinstance(rows, str | bytes | os.PathLike):
        raise ConfigurationError(
            f"{task_id}: rows is of type {type(rows).__name__}, and must be a source of rows.",
            "Give the path of files as rows=FileRows(path), and a query as rows=SqlRows(conn_id, sql).",
        )
    if isinstance(rows, Mapping):
        raise ConfigurationError(
            f"{task_id}: rows is a mapping, and must be a list of rows.", "For a single row: rows=[{…}]."
        )
    if callable(rows):
        raise ConfigurationError(
            f"{task_id}: rows is a function or a class ({type(rows).__name__:.30}), and not what it returns.",
            "Call it, as in rows=my_task(). Or make it the task itself: @task.claude_batch(prompt=…).",
        )
    if isinstance(rows, Iterator):
        raise ConfigurationError(
            f"{task_id}: rows is of type {type(rows).__name__:.30}, which gives its rows only once.",
            "A second try in the same process would find none. Give a list, or let a function yield the rows: "
            "@task.claude_batch(prompt=…).",
        )
    _check_given_rows(task_id, rows)


def _check_given_rows(task_id: str, rows: Any) -> None:
    from airflow_claude_batch.batch.input.rows.given_rows import open_given_rows

    try:
        open_given_rows(rows)
    except InputError as error:
        raise ConfigurationError(f"{task_id}: {error}") from None
