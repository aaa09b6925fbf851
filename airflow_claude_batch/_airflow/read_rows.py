"""Read the operator's ``rows`` as elements of ``messages``: one of each source row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_claude_batch._airflow.rendering import unwrap
from airflow_claude_batch._airflow.row_files import AirflowFileStore
from airflow_claude_batch._airflow.source import Source
from airflow_claude_batch.batch.input.element_errors import type_name
from airflow_claude_batch.batch.input.rows.elements_of_rows import RowElements
from airflow_claude_batch.batch.input.rows.file_blocks import FileBlocks
from airflow_claude_batch.batch.input.rows.given_rows import open_given_rows
from airflow_claude_batch.exceptions import NOTHING_SENT, InputError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.options import SubmissionOptions
    from airflow_claude_batch.batch.input.rows.source import RowSource


class FunctionRows(Source):
    """The rows that a function returns or yields. Each iteration calls it."""

    template_fields = ()

    def __init__(self, call: Callable[[], Any], name: str) -> None:
        self._call, self._name = call, name

    def __repr__(self) -> str:
        return self._name

    def rows(self) -> RowSource:
        """Call the function."""
        return open_rows(self._call())


def open_rows(value: Any) -> RowSource:
    """Return the rows of a source, a list of mappings, a data frame or the output of a task.

    :raises InputError: it gives no rows.
    """
    return value.rows() if isinstance(value, Source) else open_given_rows(value)


def row_elements(options: SubmissionOptions) -> RowElements:
    """Return the elements that the source rows and the templates give.

    :raises InputError: the rows cannot be read, or a template does not fit their columns.
    """
    system = unwrap(options.system)
    if system is None and isinstance(options.request_params, Mapping):
        system = options.request_params.get("system")
    return RowElements(
        open_rows(unwrap(options.rows)),
        prompt=_text_of_prompt(options.prompt),
        system=system if isinstance(system, str | list | tuple) else None,  # others are refused with the first request
        key=options.key,
        keep=options.keep,
        # An empty list that a template or a task gave is refused, as one in the DAG file is.
        files=None if options.files == () else FileBlocks(options.files, AirflowFileStore()),
    )


def _text_of_prompt(prompt: Any) -> str:
    """Check what a template or the output of a task gave for ``prompt``.

    :raises InputError: it is no text.
    """
    if isinstance(prompt, str):
        return prompt
    raise InputError(
        f"prompt is {type_name(prompt):.40}, and must be a text.",
        NOTHING_SENT,
        "Give the text of each request with the columns in it. With render_template_as_native_obj=True on the DAG, a "
        "template gives a text only if it cannot be read as another value.",
    )
