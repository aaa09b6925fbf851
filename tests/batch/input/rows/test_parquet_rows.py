"""Parquet as rows: values of all types as Python's, and damage named by file and column."""

from __future__ import annotations

import io
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from batch.input.rows.row_files import read, refusal, source_of

from airflow_claude_batch.batch.input.rows.file_rows import FileRowSource
from airflow_claude_batch.batch.input.rows.row_file import RowFile
from airflow_claude_batch.exceptions import ConfigurationError, SourceError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

SECOND = datetime.fromisoformat("2026-11-29T09:30:01.250")
NANOSECONDS = 1_000_000_000


def parquet(table: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def column(values: list[Any], kind: Any) -> bytes:
    return parquet(pa.table({"x": pa.array(values, kind)}))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        pytest.param(pa.int64(), 2**63 - 1, id="int64"),
        pytest.param(pa.uint64(), 2**64 - 1, id="uint64"),
        pytest.param(pa.float32(), 0.5, id="float32"),
        pytest.param(pa.bool_(), True, id="boolean"),
        pytest.param(pa.decimal128(38, 9), Decimal("12345678901234567890123456789.000000010"), id="decimal"),
        pytest.param(pa.string(), "ä\u2028", id="string"),
        pytest.param(pa.large_string(), "ä", id="large string"),
        pytest.param(pa.binary(), b"\x00\xff", id="binary"),
        pytest.param(pa.date32(), date(9999, 12, 31), id="date"),
        pytest.param(pa.time64("us"), time(23, 59, 59, 999_999), id="time"),
        pytest.param(pa.timestamp("ms"), SECOND, id="timestamp"),
        pytest.param(pa.timestamp("us", "UTC"), SECOND.replace(tzinfo=UTC), id="timestamp with zone"),
        pytest.param(pa.timestamp("ns"), SECOND, id="timestamp of nanoseconds"),
        pytest.param(pa.timestamp("ns", "UTC"), SECOND.replace(tzinfo=UTC), id="nanoseconds with zone"),
        pytest.param(pa.duration("ns"), timedelta(seconds=1.5), id="duration of nanoseconds"),
        pytest.param(pa.list_(pa.int8()), [1, None], id="list"),
        pytest.param(pa.list_(pa.timestamp("ns")), [SECOND], id="list of nanoseconds"),
        pytest.param(pa.struct({"a": pa.string(), "b": pa.timestamp("ns")}), {"a": "x", "b": SECOND}, id="struct"),
        pytest.param(pa.map_(pa.string(), pa.int64()), [("a", 1)], id="map"),
        pytest.param(pa.dictionary(pa.int8(), pa.string()), "a", id="dictionary"),
    ],
)
def test_values_are_those_of_python(kind: Any, value: Any) -> None:
    rows = read(a__parquet=column([value, None], kind))

    assert rows == [{"x": value}, {"x": None}]
    assert type(rows[0]["x"]) is type(value)  # not of pandas, which not every worker has


def test_column_of_nulls_is_read() -> None:
    assert read(a__parquet=column([None, None], pa.null())) == [{"x": None}, {"x": None}]


def test_digits_below_microseconds_are_dropped() -> None:
    (row,) = read(a__parquet=column([NANOSECONDS + 1_999], pa.timestamp("ns")))
    assert row == {"x": datetime.fromisoformat("1970-01-01T00:00:01.000001")}


def test_rows_keep_their_order_over_row_groups_and_batches() -> None:
    table = pa.table({"id": range(1000), "text": [f"t{number}" for number in range(1000)]})
    source = source_of(a__parquet=parquet(table, row_group_size=300))

    found = [(row["id"], row["text"], source.place) for row in source]

    assert found == [(number, f"t{number}", f"row {number} of /data/a.parquet") for number in range(1000)]
    assert source.columns == ("id", "text")


def test_file_without_rows_has_columns() -> None:
    source = source_of(a__parquet=parquet(pa.table({"id": pa.array([], pa.int64())})))
    assert list(source) == []
    assert source.columns == ("id",)


def test_large_rows_are_read_a_few_at_a_time() -> None:
    """Arrow's memory, not Python's: a batch of 128 rows would take a gigabyte."""
    text = "x" * 8_000_000
    table = pa.table({"text": [f"{number}{text}" for number in range(12)]})
    data = parquet(table, use_dictionary=False, row_group_size=12, write_batch_size=1)
    size = table.nbytes
    del table
    peak = 0
    for number, row in enumerate(source_of(a__parquet=data)):
        assert row["text"].startswith(f"{number}x")
        peak = max(peak, pa.total_allocated_bytes())

    assert peak < size / 2


def _damaged(data: bytes, start: int) -> bytes:
    return data[:start] + b"\xff" * 400 + data[start + 400 :]


WHOLE = parquet(pa.table({"id": range(5000), "text": ["secret"] * 5000}), compression="zstd", row_group_size=1000)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(b"", ["is no Parquet file, or is damaged.", "cause above", "whole"], id="empty"),
        pytest.param(b"id,text\n1,secret\n", ["is no Parquet file"], id="CSV"),
        pytest.param(WHOLE[:-20], ["is no Parquet file, or is damaged."], id="cut"),
        pytest.param(_damaged(WHOLE, len(WHOLE) // 2), ["or is damaged after row "], id="damaged inside"),
    ],
)
def test_damaged_file_is_refused(data: bytes, says: list[str]) -> None:
    message = refusal(a__parquet=data)
    for words in ["/data/a.parquet", *says]:
        assert words in message


def test_two_columns_of_one_name_are_refused() -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["id", "id"])
    assert "/data/a.parquet has two columns of the name 'id'" in refusal(a__parquet=parquet(table))


@pytest.mark.parametrize(
    ("kind", "value"),
    [(pa.timestamp("s"), 2**40), (pa.timestamp("us", "Mars/Olympus"), 0)],
    ids=["year 36812", "zone"],
)
def test_value_that_python_cannot_hold_is_refused_with_its_column(kind: Any, value: int) -> None:
    table = pa.table({"id": [1], "when": pa.array([value], kind)})
    message = refusal(a__parquet=parquet(table))
    assert "/data/a.parquet has values that Python cannot hold in the column 'when'" in message
    assert "timestamp[" in message


def test_missing_pyarrow_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(
        ConfigurationError, match=r"(?s)needs pyarrow.*Nothing was sent.*airflow-claude-batch\[parquet\]"
    ):
        read(a__parquet=WHOLE)


class _BreakingFile(io.BytesIO):
    """A file whose storage fails after some reads."""

    reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        if self.reads > 6:
            raise TimeoutError("secret address")
        return super().read(size)


def test_lost_storage_is_no_damage() -> None:
    source = FileRowSource(lambda: [RowFile("/data/a.parquet", lambda: _BreakingFile(WHOLE))])
    with pytest.raises(SourceError) as caught:
        list(source)
    assert str(caught.value).startswith("rows: /data/a.parquet could not be read: TimeoutError.\nNothing was sent.")
    assert "A retry reads all rows again" in str(caught.value)
    assert "secret" not in str(caught.value)
