"""Reading landed rows, from any storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_claude_batch.batch import parquet, results
from airflow_claude_batch.exceptions import ResultsError
from airflow_claude_batch.folders import parent_of

if TYPE_CHECKING:
    from airflow_claude_batch.batch.results import Row


def read_rows(source: Mapping[str, Any] | str) -> Iterator[Row]:
    """Give the rows of a manifest, or of a results file by path or URI, one by one in input order.

    :raises ResultsError: the file is not there, or a line of it is damaged.
    """
    path = source if isinstance(source, str) else source.get("results_path")
    if not path:
        raise ResultsError("The manifest names no results_path: nothing is landed yet.")
    folder, name = parent_of(str(path))
    file = folder.open(name)
    if file is None:
        raise ResultsError(f"{path} is not there: nothing is landed yet, or it was moved.")
    if name.endswith(".parquet"):
        with file:
            yield from parquet.read(file)
        return
    decoder = msgspec.json.Decoder(results.Row)
    with file:
        for number, line in enumerate(file, 1):
            try:
                yield decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise ResultsError(f"Line {number} of {path} is damaged ({type(error).__name__}).") from None
