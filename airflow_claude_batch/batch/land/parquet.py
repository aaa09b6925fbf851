"""Write rows as a Parquet file, for queries. ``results.jsonl`` stays beside it.

Scalars are columns. Fields that may have any shape (key, output, usage, error, message, replaced, raw) are JSON text.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.land.rows import NULL, Row
from airflow_claude_batch.exceptions import ConfigurationError, ResultsError

if TYPE_CHECKING:
    import pyarrow

PARQUET_FILE: Final = "results.parquet"
ROWS_PER_GROUP: Final = 10_000
BYTES_PER_GROUP: Final = 16_000_000  # of JSON: a single answer may have half a million characters
_ROWS_READ: Final = 100  # Python objects in memory at once

_TEXT: Final = ("status", "text", "stop_reason", "model", "cost_usd", "batch_id", "custom_id")
_JSON: Final = ("key", "output", "usage", "error", "message", "replaced", "raw")


def check_parquet_installed(batch_ids: Sequence[str] | None = None) -> None:
    """Check before anything is sent, or waited for, that Parquet files can be written.

    :param batch_ids: the message batches whose rows are to be landed. None if they are yet to be sent.
    :raises ConfigurationError: pyarrow is not installed; names the extra to install.
    """
    try:
        import pyarrow.parquet  # noqa: F401  # only whether it is there
    except ImportError:
        remedy = "Install airflow-claude-batch[parquet] on the workers. Or leave results_format out, for JSON lines."
        unsent = "Nothing was sent now. Batches that were sent before are not affected."
        raise ConfigurationError(
            "results_format='parquet' needs pyarrow, which is not installed here.",
            unsent if batch_ids is None else _still_billed(len(batch_ids)),
            remedy if batch_ids is None else f"{remedy} Then clear this task.",
        ) from None


def _still_billed(batches: int) -> str:
    if batches == 1:
        return (
            "Nothing was landed. The message batch runs on until it has ended, and is billed. Its answers stay at the "
            "API for 29 days."
        )
    return (
        f"Nothing was landed. The {batches:,} message batches run on until they have ended, and are billed. Their "
        "answers stay at the API for 29 days."
    )


def write_parquet(folder: storage.Folder, lines: Iterable[bytes]) -> None:
    """Replace ``results.parquet`` as a whole, one row group in memory at a time.

    :param lines: rows as in ``results.jsonl``.
    """
    import pyarrow.parquet

    schema = _schema()
    with (
        folder.replace_file(PARQUET_FILE) as file,
        pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for group in _groups(lines):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))


def read_parquet(file: IO[bytes], *, path: str = PARQUET_FILE) -> Iterator[Row]:
    """Yield the rows of a Parquet file, one row group in memory at a time.

    :param path: the file's name in an error.
    :raises ResultsError: the file is damaged.
    """
    import pyarrow

    rows = _read(file)
    while True:
        try:
            row = next(rows, None)
        except (pyarrow.ArrowException, OSError, KeyError, msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ResultsError(
                f"{path} is damaged ({type(error).__name__}).",
                "The answers stay at the API for 29 days; a retry downloads them at no cost.",
                "Read results.jsonl beside it, or restore the file.",
            ) from None
        if row is None:
            return
        yield row


def _read(file: IO[bytes]) -> Iterator[Row]:
    import pyarrow.parquet

    parquet = pyarrow.parquet.ParquetFile(file)
    groups = (parquet.read_row_group(number) for number in range(parquet.num_row_groups))
    for batch in itertools.chain.from_iterable(group.to_batches(_ROWS_READ) for group in groups):
        for record in batch.to_pylist():
            values = {name: msgspec.json.decode(record[name]) for name in _JSON if record.get(name) is not None}
            yield msgspec.convert({**record, **values}, Row)


def _schema() -> pyarrow.Schema:
    import pyarrow

    types = {**dict.fromkeys((*_TEXT, *_JSON), pyarrow.string()), "index": pyarrow.int64()}
    return pyarrow.schema([(name, types[name]) for name in Row.__struct_fields__])


def _groups(lines: Iterable[bytes]) -> Iterator[list[dict[str, Any]]]:
    """Cut the rows into row groups."""
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
    """A row whose fields of any shape stay JSON."""

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
    replaced: msgspec.Raw = NULL
    raw: msgspec.Raw = NULL


def _record(row: _RawRow) -> dict[str, Any]:
    """Return a row as values of the columns. Only a key may be null as JSON; elsewhere that is no value."""
    record = msgspec.structs.asdict(row)
    for name in _JSON:
        text = str(bytes(record[name]), "utf-8")
        record[name] = None if text == "null" and name != "key" else text
    return record
