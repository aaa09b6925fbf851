"""A look-up reads no more of a store than it needs, in few calls."""

from __future__ import annotations

from pathlib import Path

import pytest
from answer_world import StoredAnswer, answer, found, question, store_in

from airflow_claude_batch.batch.reuse import segment, segment_writer
from airflow_claude_batch.batch.storage import LocalFolder

ANSWERS = 200
BLOCK_ROWS = 10
BLOCK_BYTES = BLOCK_ROWS * (8 + segment.REST.size)


class RangeFolder(LocalFolder):
    """Records how many bytes each call reads."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reads: list[int] = []

    def read_range(self, name: str, start: int, end: int) -> bytes | None:
        self.reads.append(end - start)
        return super().read_range(name, start, end)


def long_answer(number: int) -> StoredAnswer:
    one = answer(number)
    return StoredAnswer(one.key, one.body + b" " * 900, one.submission_id, one.answered_at, one.model)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RangeFolder:
    """Three segments. One read of a tail has the prefixes, but not the blocks."""
    monkeypatch.setattr(segment_writer, "BLOCK_ROWS", BLOCK_ROWS)
    monkeypatch.setattr(segment, "_LEAST_TAIL_BYTES", 1024)
    folder = RangeFolder(tmp_path)
    for run in range(3):
        numbers = range(run * ANSWERS, (run + 1) * ANSWERS)
        store_in(folder).add(f"run-{run}", [(question(number), long_answer(number)) for number in numbers])
    folder.reads.clear()
    return folder


def test_question_that_is_not_stored_costs_one_read_of_each_segment(folder: RangeFolder) -> None:
    assert found(folder, [10_000]) == {}
    assert len(folder.reads) == 3


def test_one_question_costs_one_block_and_its_line(folder: RangeFolder) -> None:
    assert found(folder, [4]) == {4: long_answer(4)}
    assert sorted(folder.reads)[:2] == [BLOCK_BYTES, len(long_answer(4).body) + len(b'{"key":"row-4",\n')]
    assert len(folder.reads) == 3 + 2


def test_segment_after_one_with_many_questions_is_read_with_its_index(folder: RangeFolder) -> None:
    numbers = range(3 * ANSWERS)
    assert found(folder, numbers) == {number: long_answer(number) for number in numbers}
    tail, blocks, *others = folder.reads
    assert tail < blocks == ANSWERS // BLOCK_ROWS * BLOCK_BYTES
    # The two other tails with the blocks in them, and the answers of each segment.
    assert len(others) == 2 + 3
