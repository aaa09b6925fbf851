"""Read the rows of a Parquet file in little memory: page by page, a few rows at a time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from airflow_claude_batch.batch.input.rows.arrow_rows import ArrowRows, rows_that_fit
from airflow_claude_batch.batch.input.rows.columns import shown_path
from airflow_claude_batch.batch.input.rows.source import SourceRow
from airflow_claude_batch.exceptions import NOTHING_SENT, ConfigurationError, InputError

if TYPE_CHECKING:
    import pyarrow

#: What is read of each column at once. Without pre-buffering, pyarrow does not load whole row groups.
_BUFFER_BYTES: Final = 1024 * 1024


class ParquetRows:
    """Rows of a Parquet file.

    :param uri: the path or URI, for errors.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        #: Empty until the file is opened.
        self.columns: tuple[str, ...] = ()
        self._row_number = -1

    @property
    def place(self) -> str:
        """The row that was read last, counted from 0 in its file."""
        return f"row {self._row_number} of {self.uri}"

    def read(self, file: io.RawIOBase) -> Iterator[SourceRow]:
        """Yield the rows.

        :raises InputError: it is no Parquet file, is damaged, or two columns have the same name.
        :raises ConfigurationError: pyarrow is not installed.
        """
        parquet = _import_parquet()
        with self._file_errors():
            with _small_allocator():
                opened = parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)
            rows = ArrowRows(opened.schema_arrow, f"rows: {shown_path(self.uri)}")
            self.columns = rows.columns
            for batch in _batches(opened):
                for row in rows.read(batch):
                    self._row_number += 1
                    yield row

    @contextmanager
    def _file_errors(self) -> Iterator[None]:
        """Raise pyarrow's errors as errors about the file. Those of the storage name the file already."""
        import pyarrow

        try:
            yield
        except (pyarrow.ArrowException, OSError) as error:
            where = f" after row {self._row_number}" if self._row_number >= 0 else ""
            raise InputError(
                f"rows: {shown_path(self.uri)} is no Parquet file, or is damaged{where}.",
                f"{NOTHING_SENT} pyarrow's own error is the cause above.",
                "Write the file again, whole.",
            ) from error


@contextmanager
def _small_allocator() -> Iterator[None]:
    """Use jemalloc in the block. pyarrow's other allocators keep freed pages, or leave holes between large values."""
    import pyarrow

    before = pyarrow.default_memory_pool()
    with suppress(NotImplementedError):  # not every build has it
        pyarrow.set_memory_pool(pyarrow.jemalloc_memory_pool())
    try:
        yield
    finally:
        pyarrow.set_memory_pool(before)


def _batches(file: Any) -> Iterator[pyarrow.RecordBatch]:
    """Yield small batches. A row group's own average says how many of its rows fit in memory."""
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        rows = rows_that_fit(group.total_byte_size, group.num_rows)
        batches = file.iter_batches(batch_size=rows, row_groups=[number], use_threads=False)
        while (batch := _next(batches)) is not None:
            yield batch


def _next(batches: Iterator[pyarrow.RecordBatch]) -> pyarrow.RecordBatch | None:
    with _small_allocator():
        return next(batches, None)


def _import_parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ConfigurationError(
            "rows: reading a Parquet file needs pyarrow, which is not installed here.",
            NOTHING_SENT,
            "Install airflow-claude-batch[parquet] on the workers.",
        ) from None
    return pyarrow.parquet
