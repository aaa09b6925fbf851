"""Answers that are stored are found: the newest of each question, whatever was added, merged or asked."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import pytest
from answer_world import (
    NOW,
    Answers,
    WatchedFolder,
    answer,
    answers,
    found,
    memory_folder,
    question,
    store_in,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_claude_batch.batch.reuse import merging, segment_writer
from airflow_claude_batch.batch.reuse.answer_store import StoredAnswer
from airflow_claude_batch.batch.storage import LocalFolder

MOST = 1 << 40
stored = st.tuples(
    st.binary(min_size=16, max_size=16) | st.integers(0, 6).map(question),
    st.builds(
        StoredAnswer,
        key=st.sampled_from([b"1", b'"\xc3\xa9"', b'["a",1.50]', b"null"]),
        body=st.text(max_size=9).map(lambda text: b'"status":"succeeded","text":"%b"}' % text.encode()),
        submission_id=st.text("ab", max_size=2),
        answered_at=st.datetimes(NOW.replace(tzinfo=None) - timedelta(days=2), NOW.replace(tzinfo=None)).map(
            lambda time: time.replace(tzinfo=NOW.tzinfo)
        ),
        model=st.sampled_from(["claude-haiku-5-5", "é"]),
    ),
)


def newest_of(adds: list[Answers], least: object = None) -> dict[bytes, StoredAnswer]:
    newest: dict[bytes, StoredAnswer] = {}
    for key, one in (pair for add in adds for pair in add):
        if key not in newest or one.answered_at >= newest[key].answered_at:
            newest[key] = one
    return newest


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(stored, max_size=5, unique_by=lambda pair: pair[1].answered_at), max_size=10), st.booleans())
def test_newest_answer_of_each_question_is_found(adds: list[Answers], merges: bool) -> None:
    folder = memory_folder()
    store = store_in(folder)
    newest = newest_of(adds)
    for number, add in enumerate(adds):
        assert store.add(f"run-{number}", add)
        if merges:
            store.merge(most_bytes=MOST)
    keys = [(key, index) for index, key in enumerate([*newest, b"\xff" * 16, *newest])]
    for _ in range(2):
        results = dict(store.find(keys, not_before=None))
        times = {keys[index][0]: one.answered_at for index, one in results.items()}
        assert times == {key: one.answered_at for key, one in newest.items()}
        assert all(any((keys[index][0], one) in add for add in adds) for index, one in results.items())
        assert len(results) == 2 * len(newest)
        store.compact()


@settings(max_examples=20, deadline=None)
@given(st.lists(stored, max_size=5), st.integers(0, 48))
def test_only_answers_that_are_young_enough_are_found(add: Answers, hours: int) -> None:
    folder = memory_folder()
    store = store_in(folder)
    store.add("run", add)
    not_before = NOW - timedelta(hours=hours)
    wanted = {key for key, one in newest_of([add]).items() if one.answered_at >= not_before}
    keys = [(key, index) for index, (key, _) in enumerate(add)]
    assert {keys[index][0] for index, _ in store.find(keys, not_before=not_before)} == wanted


def test_many_answers_are_split_into_segments_and_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(segment_writer, "MOST_ANSWERS", 4100)
    folder = LocalFolder(tmp_path)
    numbers = random.Random(1).sample(range(9_000), 9_000)
    assert store_in(folder).add("run", answers(numbers))
    assert len(folder.names()) == 3
    assert found(folder, range(9_010)) == {number: answer(number) for number in range(9_000)}
    assert found(folder, range(0, 9_000, 497)) == {number: answer(number) for number in range(0, 9_000, 497)}


def test_adding_again_writes_the_same_file() -> None:
    folder = memory_folder()
    for numbers in ([1, 2, 3], [3, 1, 2]):
        store_in(folder).add("run", answers(numbers))
        (_name,) = folder.names()
    assert store_in(folder).add("run", [])
    assert store_in(folder).add("run", answers([3], 1))  # what a clear has asked anew
    assert found(folder, range(5)) == {1: answer(1), 2: answer(2), 3: answer(3, 1)}


def test_name_that_is_no_part_of_a_file_name_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        store_in(memory_folder()).add("a/b", [])


def test_empty_store_and_empty_look_up_find_nothing(caplog: pytest.LogCaptureFixture) -> None:
    folder = memory_folder()
    assert found(folder, range(3)) == found(folder, []) == {}
    store_in(folder).merge(most_bytes=MOST)
    store_in(folder).compact()
    assert store_in(folder).stats().answers == 0
    assert not caplog.records


def test_thousand_runs_leave_few_segments_and_a_look_up_makes_few_calls() -> None:
    inner = memory_folder()
    calls: list[str] = []
    folder = WatchedFolder(inner, lambda _, name: calls.append(name))
    written = 0
    for run in range(1000):
        before = sum(inner.sizes().values())
        store_in(folder).add(f"run-{run}", answers([2 * run, 2 * run + 1, 2 * run + 2], run % 100))
        store_in(folder).merge(most_bytes=MOST)
        written += max(sum(inner.sizes().values()) - before, 0)
    assert len(inner.names()) <= 7 * 3
    assert len(calls) / 1000 <= 60
    calls.clear()
    assert len(found(folder, range(0, 2000, 13))) == len(range(0, 2000, 13))
    assert len(calls) <= 1 + 3 * 7 * 3
    store_in(inner).compact()
    assert len(inner.names()) == 1
    assert store_in(inner).stats().answers == 2001


def test_merge_reads_no_more_than_it_may() -> None:
    folder = memory_folder()
    for run in range(8):
        store_in(folder).add(f"run-{run}", answers(range(100 * run, 100 * run + 100)))
    store_in(folder).merge(most_bytes=1)
    assert len(folder.names()) == 8
    store_in(folder).merge(most_bytes=20_000)  # of three
    assert 5 <= len(folder.names()) <= 7
    assert len(found(folder, range(800))) == 800


@pytest.mark.parametrize(
    ("answers_", "bytes_", "expected"),
    [(1, 1, 0), (511, 1, 0), (512, 1, 1), (4095, 1, 1), (4096, 1, 2), (32_768, 1, 3), (1, 1 << 20, 1), (1, 1 << 30, 3)],
)
def test_size_classes_grow_eightfold(answers_: int, bytes_: int, expected: int) -> None:
    assert merging.size_class(answers_, bytes_) == expected
