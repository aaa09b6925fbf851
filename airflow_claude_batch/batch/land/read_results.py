"""Read the rows of a results file of any format, while the submission runs or after it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

import msgspec

from airflow_claude_batch.batch.land.csv_results import read_csv
from airflow_claude_batch.batch.land.landed_parts import landed_lines
from airflow_claude_batch.batch.land.parquet_reader import read_parquet
from airflow_claude_batch.batch.land.rows import RESULTS_FILE, Row
from airflow_claude_batch.batch.storage import Folder
from airflow_claude_batch.exceptions import ResultsError

_T = TypeVar("_T")

_ROW: Final = msgspec.json.Decoder(Row)


class RowEnd(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How one request ended, without its answer."""

    key: Any
    status: str
    error: dict[str, Any] | None = None


_ROW_END: Final = msgspec.json.Decoder(RowEnd)


def rows_of_file(folder: Folder, name: str, *, path: str) -> Iterator[Row]:
    """Yield the rows of a results file, one by one in input order.

    :param path: the file in an error.
    :raises ResultsError: the file is missing, or a row of it is damaged. It is raised while iterating, after the rows
        before it.
    :raises OSError: the storage cannot be read.
    """
    return _read(folder, name, path, _ROW)


def row_ends_of_file(folder: Folder, name: str, *, path: str) -> Iterator[RowEnd | Row]:
    """Yield how each request ended. Answers in JSON are skipped, not decoded.

    Arguments and errors are those of :func:`rows_of_file`.
    """
    return _read(folder, name, path, _ROW_END)


def _read(folder: Folder, name: str, path: str, decoder: msgspec.json.Decoder[_T]) -> Iterator[_T | Row]:
    if name == RESULTS_FILE:
        with landed_lines(folder) as lines:  # while the submission runs, its rows are in landed parts
            yield from _decoded(_there(lines, path), path, decoder)
        return
    with _there(folder.open(name), path) as file:
        if (read_table := _table_reader(name)) is not None:
            yield from read_table(file, path=path)
        else:
            yield from _decoded(file, path, decoder)


def _there(found: _T | None, path: str) -> _T:
    if found is None:
        raise ResultsError(
            f"{path} is not there.",
            "Nothing is landed yet, the file was moved, or this worker has another storage.",
            "Check the path. To land the answers again at no cost, clear the task that landed them.",
        )
    return found


def _table_reader(name: str) -> Callable[..., Iterator[Row]] | None:
    if name.endswith(".parquet"):
        return read_parquet
    return read_csv if name.endswith(".csv") else None


def _decoded(lines: Iterable[bytes], path: str, decoder: msgspec.json.Decoder[_T]) -> Iterator[_T]:
    for number, line in enumerate(lines, 1):
        try:
            row = decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ResultsError(
                f"Line {number} of {path} is damaged ({type(error).__name__}).",
                "Answers of message batches stay at the API for 29 days; a retry downloads them at no cost.",
                "Restore the file, or remove it and clear the task that landed it.",
            ) from None
        yield row
