"""Read the rows of a Parquet file: one with typed columns, or one of earlier releases, whose nested fields are JSON."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import IO, Any, Final

import msgspec

from airflow_claude_batch.batch.land.parquet import PARQUET_FILE
from airflow_claude_batch.batch.land.parquet_writer import LAYOUT_KEY
from airflow_claude_batch.batch.land.row_layout import VERSION, RowLayout
from airflow_claude_batch.batch.land.row_records import Record, row_reader
from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.exceptions import ResultsError

_ROWS_READ: Final = 100  # Python objects in memory at once
#: Columns of JSON text in the files of earlier releases.
_EARLIER_JSON: Final = ("key", "input", "output", "usage", "error", "message", "replaced", "raw")


def read_parquet(file: IO[bytes], *, path: str = PARQUET_FILE) -> Iterator[Row]:
    """Yield the rows of a Parquet file, one row group in memory at a time.

    :param path: the file's name in an error.
    :raises ResultsError: the file is damaged, or a later release has written it.
    """
    import pyarrow

    rows = _read(file, path)
    while True:
        try:
            row = next(rows, None)
        except (
            *(pyarrow.ArrowException, OSError, KeyError, TypeError, AttributeError),
            *(msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError),
        ) as error:
            raise ResultsError(
                f"{path} is damaged ({type(error).__name__}).",
                "Answers of message batches stay at the API for 29 days; a retry downloads them at no cost.",
                "Read results.jsonl beside it, or restore the file.",
            ) from None
        if row is None:
            return
        yield row


def _read(file: IO[bytes], path: str) -> Iterator[Row]:
    import pyarrow.parquet

    parquet = pyarrow.parquet.ParquetFile(file)
    make = _reader_of(parquet.schema_arrow.metadata or {}, path)
    groups = (parquet.read_row_group(number) for number in range(parquet.num_row_groups))
    for batch in itertools.chain.from_iterable(group.to_batches(_ROWS_READ) for group in groups):
        yield from map(make, batch.to_pylist())


def _reader_of(metadata: dict[bytes, bytes], path: str) -> Callable[[Record], Row]:
    """Return the function that makes rows of the records of a file with this metadata."""
    if LAYOUT_KEY not in metadata:
        return _read_earlier
    if (version := msgspec.json.decode(metadata[LAYOUT_KEY], type=_Version).version) > VERSION:
        raise ResultsError(
            f"{path} has the format {version}; this release of airflow-claude-batch reads up to {VERSION}.",
            "The file is untouched, and costs nothing to read again.",
            "Read results.jsonl beside it, or upgrade airflow-claude-batch here.",
        )
    return row_reader(msgspec.json.decode(metadata[LAYOUT_KEY], type=RowLayout))


class _Version(msgspec.Struct):
    version: int


def _read_earlier(record: dict[str, Any]) -> Row:
    values = {name: msgspec.json.decode(record[name]) for name in _EARLIER_JSON if record.get(name) is not None}
    return msgspec.convert({**record, **values}, Row)
