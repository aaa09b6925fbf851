from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import small_disk

from airflow_claude_batch.batch.spool import Spool
from airflow_claude_batch.exceptions import ResultsError

MEGABYTE = 1 << 20


@given(
    count=st.integers(1, 5000),
    puts=st.lists(st.tuples(st.integers(0), st.sampled_from([1, 7, 4096, 70_000])), max_size=30),
)
def test_rows_come_back_in_order_and_each_alone_whatever_was_put_before(count, puts):
    held, spool = {}, Spool(count)
    for number, (index, length) in enumerate(puts):
        index %= count
        held[index] = row = b"%d" % number * length
        spool.put(index, row)
        assert spool.get(index) == row
    assert list(spool) == [held.get(index, b"") for index in range(count)]
    assert {index: spool.get(index) for index in held} == held
    spool.close()


def test_what_is_put_after_reading_is_read_too():
    spool = Spool(3)
    spool.put(2, b"two")
    assert list(spool) == [b"", b"", b"two"]
    spool.put(0, b"zero")
    spool.put(2, b"another two")
    assert list(spool) == [b"zero", b"", b"another two"]
    spool.close()


def test_neighbours_with_long_rows_are_not_held_all_at_once():
    spool = Spool(20)
    for index in range(20):
        spool.put(index, bytes([index]) * MEGABYTE)
    for index, row in enumerate(spool):
        assert row == bytes([index]) * MEGABYTE
    spool.close()


def test_rows_of_many_buckets_that_come_in_no_order():
    order = list(range(3000))
    random.Random(7).shuffle(order)
    spool = Spool(3000)
    for index in order:
        spool.put(index, b"row %d;" % index * 20)
    assert list(spool) == [b"row %d;" % index * 20 for index in range(3000)]
    spool.close()


def test_more_buckets_at_once_than_there_are_buffers():
    count = 300 * 1024
    spool, held = Spool(count), {}
    for number in range(1500):
        index = number * 7919 % 300 * 1024 + number % 1024
        held[index] = row = b"row %d" % number
        spool.put(index, row)
        assert len(spool._writers) <= 128
    assert [(index, row) for index, row in enumerate(spool) if row] == sorted(held.items())
    spool.close()


def test_a_temporary_file_that_was_cut_is_noticed():
    spool = Spool(1)
    spool.put(0, b"x" * MEGABYTE)
    spool.get(0)
    spool._file.truncate(MEGABYTE // 2)
    with pytest.raises(ResultsError, match="lost"):
        spool.get(0)
    spool.close()


@pytest.mark.parametrize("length", [30_000, MEGABYTE])
def test_full_disk_is_said_with_what_to_do_and_no_row_is_taken_for_another_s(length):
    refusal = pytest.raises(ResultsError, match=r"temporary folder .*TMPDIR.*pays nothing")
    spool = Spool(50)
    with small_disk(100_000), refusal:
        for index in range(50):
            spool.put(index, bytes([index]) * length)

    with refusal:
        list(spool)
    with refusal:
        spool.get(0)
    with refusal:
        spool.put(1, b"x")
    spool.close()


def test_full_disk_that_is_seen_while_rows_are_read():
    spool = Spool(5)
    spool.put(0, b"x" * 50_000)
    with small_disk(10_000), pytest.raises(ResultsError, match="TMPDIR"):
        list(spool)
    spool.close()


def test_closing_forgets_what_was_not_written_yet():
    spool = Spool(1)
    spool.put(0, b"x")
    (writer,) = spool._writers.values()
    spool.close()
    assert writer.closed  # else it would write to the closed file when it is collected
