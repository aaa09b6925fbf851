from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import small_disk

from airflow_claude_batch.batch.land.disk_sort import DiskSorter
from airflow_claude_batch.exceptions import ResultsError

MEGABYTE = 1 << 20


@given(
    count=st.integers(1, 5000),
    puts=st.lists(
        st.tuples(st.integers(0), st.sampled_from([1, 7, 4096, 70_000]), st.booleans()),
        max_size=30,
    ),
)
def test_rows_come_back_in_order_and_each_alone_whatever_was_put_and_read_before(count, puts):
    held, sorter = {}, DiskSorter()
    for number, (index, length, is_read) in enumerate(puts):
        index %= count
        held[index] = row = b"%d" % number * length
        sorter.put(index, row)
        if is_read:  # which ends a run
            assert next(iter(sorter)) == min(held.items())
        assert sorter.get(index) == row
    assert list(sorter) == sorted(held.items())
    assert {index: sorter.get(index) for index in held} == held
    sorter.close()


def test_what_is_put_after_reading_is_read_too():
    sorter = DiskSorter()
    sorter.put(2, b"two")
    assert list(sorter) == [(2, b"two")]
    sorter.put(0, b"zero")
    sorter.put(2, b"another two")
    assert list(sorter) == [(0, b"zero"), (2, b"another two")]
    sorter.close()


def test_a_request_without_a_row_has_an_empty_one():
    sorter = DiskSorter()
    sorter.put(1, b"one")
    assert (sorter.get(0), sorter.get(1), sorter.get(2)) == (b"", b"one", b"")
    assert list(sorter) == [(1, b"one")]
    assert (sorter.get(0), sorter.get(1), sorter.get(2)) == (b"", b"one", b"")
    sorter.close()


def test_neither_what_waits_nor_what_is_read_is_held_all_at_once():
    count, row = 3000, b"x" * 20_000
    sorter = DiskSorter()
    tracemalloc.start()
    for index in range(count):
        sorter.put(index, bytes(row))
    for index in range(count):
        sorter.put(index, b"%05d" % index + row)
    assert [index for index, held in sorter if held == b"%05d" % index + row] == list(range(count))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * MEGABYTE < count * len(row)
    sorter.close()


def test_long_rows_are_read_one_by_one():
    sorter = DiskSorter()
    for index in range(20):
        sorter.put(index, bytes([index]) * 9 * MEGABYTE)
    tracemalloc.start()
    for index, row in sorter:
        assert row == bytes([index]) * 9 * MEGABYTE
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50 * MEGABYTE
    sorter.close()


def test_rows_of_many_runs_that_come_in_no_order():
    order = list(range(30_000))
    random.Random(7).shuffle(order)
    sorter = DiskSorter()
    for index in order:
        sorter.put(index, b"row %05d;" % index * 100)
    assert 2 < len(sorter._runs) < 40  # 30 MB
    assert list(sorter) == [(index, b"row %05d;" % index * 100) for index in range(30_000)]
    sorter.close()


def test_a_temporary_file_that_was_cut_is_noticed():
    sorter = DiskSorter()
    sorter.put(0, b"x" * MEGABYTE)
    list(sorter)
    sorter._file.truncate(MEGABYTE // 2)
    with pytest.raises(ResultsError, match="truncated after it was written"):
        sorter.get(0)
    sorter.close()


@pytest.mark.parametrize("length", [30_000, MEGABYTE])
def test_full_disk_is_said_with_what_to_do_and_no_row_is_taken_for_another_s(length):
    refusal = pytest.raises(ResultsError, match=r"(?s)temporary folder .*pays nothing.*TMPDIR")
    sorter = DiskSorter()
    with small_disk(100_000), refusal:
        for index in range(50):
            sorter.put(index, bytes([index]) * length)

    with refusal:
        list(sorter)
    with refusal:
        sorter.get(0)
    with refusal:
        sorter.put(1, b"x")
    sorter.close()


def test_full_disk_that_is_seen_while_rows_are_read():
    sorter = DiskSorter()
    sorter.put(0, b"x" * 50_000)
    with small_disk(10_000), pytest.raises(ResultsError, match="TMPDIR"):
        list(sorter)
    with pytest.raises(ResultsError, match="TMPDIR"):
        sorter.put(1, b"x")
    sorter.close()


def test_no_older_row_is_given_for_one_that_could_not_be_written():
    sorter = DiskSorter()
    sorter.put(0, b"old" * 1000)
    list(sorter)
    sorter.put(0, b"new" * 50_000)
    with small_disk(10_000), pytest.raises(ResultsError, match="TMPDIR"):
        list(sorter)
    with pytest.raises(ResultsError, match="TMPDIR"):
        sorter.get(0)
    sorter.close()
