"""Rows as a Parquet file, for those who query them; ``results.jsonl`` stays beside it.

Scalars are columns; what may have any shape (key, output, usage, error, message, replaced) is a column of JSON text.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.exceptions import ConfigurationError, ResultsError

if TYPE_CHECKING:
    import pyarrow

PARQUET_FILE: Final = "results.parquet"
ROWS_PER_GROUP: Final = 10_000
_ROWS_READ: Final = 100  # made Python objects at once
BYTES_PER_GROUP: Final = 16_000_000  # of JSON: an answer may be as long as half a million characters

_TEXT: Final = ("status", "text", "stop_reason", "model", "cost_usd", "batch_id", "custom_id")
_JSON: Final = ("key", "output", "usage", "error", "message", "replaced")


def check_parquet_installed() -> None:
    """Say before anything is sent that the extra is missing.

    :raises ConfigurationError: names it.
    """
    try:
        import pyarrow.parquet  # noqa: F401  # looked for, not used
    except ImportError as error:
        raise ConfigurationError(
            "results_format='parquet' needs pyarrow. Nothing was sent. Install airflow-claude-batch[parquet] on the "
            "workers."
        ) from error


def write_parquet(folder: storage.Folder, lines: Iterable[bytes]) -> None:
    """Write the rows as a whole, one row group at a time."""
    import pyarrow.parquet

    schema = _schema()
    with (
        folder.replace_file(PARQUET_FILE) as file,
        pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for group in _groups(lines):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))


def read_parquet(file: Any, *, path: str = PARQUET_FILE) -> Iterator[Row]:
    """The rows of a Parquet file, one row group in memory at a time.

    :raises ResultsError: it is damaged.
    """
    import pyarrow

    reading = _read(file)
    while True:
        try:
            row = next(reading, None)
        except (pyarrow.ArrowException, OSError, KeyError, msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ResultsError(f"{path} is damaged ({type(error).__name__}).") from None
        if row is None:
            return
        yield row


def _read(file: Any) -> Iterator[Row]:
    import pyarrow.parquet

    parquet = pyarrow.parquet.ParquetFile(file)
    groups = (parquet.read_row_group(number) for number in range(parquet.num_row_groups))
    for batch in itertools.chain.from_iterable(group.to_batches(_ROWS_READ) for group in groups):
        for record in batch.to_pylist():
            values = {name: msgspec.json.decode(record[name]) for name in _JSON if record[name] is not None}
            yield msgspec.convert({**record, **values}, Row)


def _schema() -> pyarrow.Schema:
    import pyarrow

    kinds = {**dict.fromkeys(_TEXT, pyarrow.string()), **dict.fromkeys(_JSON, pyarrow.string())}
    names = (name for name in Row.__struct_fields__ if name != "index")
    return pyarrow.schema([("index", pyarrow.int64()), *((name, kinds[name]) for name in names)])


def _groups(lines: Iterable[bytes]) -> Iterator[list[dict[str, Any]]]:
    decoder = msgspec.json.Decoder(_RawRow)
    group: list[dict[str, Any]] = []
    size = 0
    for line in lines:
        group.append(_record(decoder.decode(line)))
        size += len(line)
        if len(group) >= ROWS_PER_GROUP or size >= BYTES_PER_GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


class _RawRow(msgspec.Struct, frozen=True):
    """A row whose free-form fields stay JSON."""

    index: int
    key: msgspec.Raw
    status: str
    text: str | None
    output: msgspec.Raw
    stop_reason: str | None
    model: str | None
    usage: msgspec.Raw
    cost_usd: str | None
    error: msgspec.Raw
    batch_id: str | None
    custom_id: str | None
    message: msgspec.Raw
    replaced: msgspec.Raw = msgspec.Raw(b"null")


def _record(row: _RawRow) -> dict[str, Any]:
    record = msgspec.structs.asdict(row)
    for name in _JSON:
        text = str(bytes(record[name]), "utf-8")
        record[name] = None if text == "null" and name != "key" else text
    return record
