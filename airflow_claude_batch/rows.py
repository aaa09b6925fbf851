"""Read landed rows from any storage::

from airflow_claude_batch.rows import Row, read_rows
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from airflow_claude_batch._airflow.results_folder import folder_of_file
from airflow_claude_batch._airflow.row_sources import GivenRows, ResultsFile, find_rows
from airflow_claude_batch.batch.land.landed_parts import landed_lines
from airflow_claude_batch.batch.land.parquet import read_parquet
from airflow_claude_batch.batch.land.rows import RESULTS_FILE, Row
from airflow_claude_batch.batch.land.typed_output import output_reader
from airflow_claude_batch.exceptions import ResultsError

__all__ = ["Row", "read_rows"]

_T = TypeVar("_T")

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
        the other; or the path or URI of a results file (``.jsonl`` or ``.parquet``) or of a submission's folder. A file
        is opened with the Airflow connection that the URI names. If a manifest holds the rows itself, in ``responses``,
        no file is read: small results need no shared storage.
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
        yield from _rows_of_file(found.path) if isinstance(found, ResultsFile) else _rows_given(found)


def _rows_of_file(path: str) -> Iterator[Row]:
    folder, name = folder_of_file(path)
    if name == RESULTS_FILE:
        with landed_lines(folder) as lines:  # while the submission runs, its rows are in landed parts
            yield from _decoded(_there(lines, path), path)
        return
    with _there(folder.open(name), path) as file:
        yield from read_parquet(file, path=path) if name.endswith(".parquet") else _decoded(file, path)


def _there(found: _T | None, path: str) -> _T:
    if found is None:
        raise ResultsError(
            f"{path} is not there.",
            "Nothing is landed yet, the file was moved, or this worker has another storage.",
            "Check the path. To land the answers again at no cost, clear the task that landed them.",
        )
    return found


def _decoded(lines: Iterable[bytes], path: str) -> Iterator[Row]:
    decoder = msgspec.json.Decoder(Row)
    for number, line in enumerate(lines, 1):
        try:
            row = decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ResultsError(
                f"Line {number} of {path} is damaged ({type(error).__name__}).",
                "The answers stay at the API for 29 days; a retry downloads them at no cost.",
                "Restore the file, or remove it and clear the task that landed it.",
            ) from None
        yield row


def _rows_given(given: GivenRows) -> Iterator[Row]:
    for number, response in enumerate(given.rows):
        try:
            yield msgspec.convert(response, Row)
        except msgspec.ValidationError:
            raise ResultsError(
                f"responses[{number}] of the manifest{given.place} is not a row.",
                "Give read_rows the manifest as the operator or the sensor returned it.",
            ) from None
