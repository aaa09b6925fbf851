"""Read landed rows from any storage::

from airflow_claude_batch.rows import Row, read_rows
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from airflow_claude_batch._airflow.results_folder import folder_of_file
from airflow_claude_batch._airflow.row_sources import GivenRows, ResultsFile, find_rows
from airflow_claude_batch.batch.land.read_results import rows_of_file
from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.batch.land.typed_output import output_reader
from airflow_claude_batch.exceptions import ResultsError

__all__ = ["Row", "read_rows"]

#: What has rows: a manifest, or a path.
RowSource = Mapping[str, Any] | str | os.PathLike[str]


def read_rows(source: RowSource | Iterable[RowSource], *, schema: Any = None) -> Iterator[Row]:
    """Yield the rows of a manifest or of a results file, one by one in input order.

    A task downstream reads what the operator or the sensor has returned::

        @task
        def store(manifest):
            for row in read_rows(manifest, schema=City):
                if row.status == "succeeded":
                    save(row.key, row.output.name, row.cost_usd)

    :param source: a manifest; a list of them, such as the output of a mapped sensor, whose rows come one manifest after
        the other; or the path or URI of a results file (``.jsonl``, ``.parquet`` or ``.csv``) or of a submission's
        folder. A file is opened with the Airflow connection that the URI names. If a manifest holds the rows itself, in
        ``responses``, no file is read: small results need no shared storage. A CSV file has rows without ``message``,
        ``replaced`` and ``raw``.
    :param schema: a pydantic model, or any type that pydantic's ``TypeAdapter`` takes. Each ``output`` is given as an
        instance of it, and decimals have the digits of the answer. Its own validators run now: only its JSON Schema was
        checked when the rows were landed. A row whose output they refuse comes with the status ``invalid_output``, no
        output, and the reason in ``error``. Its ``text`` is the answer. With a JSON Schema, each ``output`` is checked
        in the same way, and stays as it is.
    :raises OutputSchemaError: ``schema`` is neither a type nor a JSON Schema.
    :raises ResultsError: there are no rows yet (the submission is in progress, or its run was dry), the source is None
        or no manifest, the file is missing, or a row of it is damaged. It is raised while iterating, after the rows
        before it.
    """
    rows = _rows(source)
    return rows if schema is None else map(output_reader(schema), rows)


def _rows(source: Any) -> Iterator[Row]:
    for found in find_rows(source):
        if isinstance(found, ResultsFile):
            folder, name = folder_of_file(found.path)
            yield from rows_of_file(folder, name, path=found.path)
        else:
            yield from _rows_given(found)


def _rows_given(given: GivenRows) -> Iterator[Row]:
    for number, response in enumerate(given.rows):
        try:
            yield msgspec.convert(response, Row)
        except msgspec.ValidationError:
            raise ResultsError(
                f"responses[{number}] of the manifest{given.place} is not a row.",
                "Give read_rows the manifest as the operator or the sensor returned it.",
            ) from None
