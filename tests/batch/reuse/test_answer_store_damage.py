"""Whatever happens to the bytes of a store: never a wrong answer, and never an error out of a look-up."""

from __future__ import annotations

import logging

import pytest
from answer_world import NOW, WatchedFolder, answer, answers, copy_of, found, memory_folder, question, store_in
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.reuse import erasures
from airflow_claude_batch.batch.reuse.erasures import Erasure, is_erasure
from airflow_claude_batch.batch.storage import ObjectFolder

MOST = 1 << 40
RIGHT = {number: answer(number, int(number < 6)) for number in range(9)}
OLD = {number: answer(number) for number in range(6)}


@pytest.fixture(scope="module")
def whole() -> ObjectFolder:
    """A store with old and new answers, and one that was erased."""
    folder = memory_folder()
    store_in(folder).add("old", answers(range(10)))
    store_in(folder).add("new", answers(range(6), 1))
    store_in(folder).forget([b'"row-9"'])
    assert found(folder, range(12)) == RIGHT
    return folder


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_are_noticed(whole: ObjectFolder, data: st.DataObject, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    folder = copy_of(whole)
    name = data.draw(st.sampled_from(sorted(folder.names())))
    content = storage.read(folder, name)
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content = content[:place] + bytes([content[place] ^ data.draw(st.integers(1, 255))]) + content[place + 1 :]
    storage.write(folder, name, content)

    results = found(folder, range(12))
    # Where a newer answer cannot be read, the one before it counts.
    assert all(one in (RIGHT[number], OLD.get(number)) for number, one in results.items())
    if is_erasure(name):
        assert not results
        return
    store_in(folder).merge(most_bytes=MOST)
    store_in(folder).stats()
    store_in(folder).compact()
    results = found(folder, range(12))
    assert all(one in (RIGHT[number], OLD.get(number)) for number, one in results.items())
    assert b'"row-9"' not in b"".join(storage.read(folder, name) for name in folder.names())


def test_one_damaged_line_costs_no_other_answer_and_warns(caplog: pytest.LogCaptureFixture) -> None:
    folder = memory_folder()
    store_in(folder).add("run", answers(range(5)))
    (name,) = folder.names()
    storage.write(folder, name, storage.read(folder, name).replace(b"answer 2", b"answer 7"))

    assert found(folder, range(5)) == {number: answer(number) for number in (0, 1, 3, 4)}
    assert "1 line of it" in caplog.text
    assert name in caplog.text
    store_in(folder).compact()
    assert found(folder, range(5)) == {number: answer(number) for number in (0, 1, 3, 4)}


def test_damaged_copy_of_the_prefixes_costs_no_answer_and_warns_until_the_store_is_compacted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = memory_folder()
    store_in(folder).add("run", answers(range(5)))
    store_in(folder).add("other", answers([5]))
    name = next(name for name in folder.names() if "run" in name)
    content = storage.read(folder, name)
    assert content is not None
    last = content.index(b'{"kind":"answers"') - 1
    storage.write(folder, name, content[:last] + bytes([content[last] ^ 1]) + content[last + 1 :])

    assert found(folder, range(6)) == {number: answer(number) for number in range(6)}
    assert "the copy of a column" in caplog.text.lower()
    assert name in caplog.text
    store_in(folder).compact()
    caplog.clear()
    assert found(folder, range(6)) == {number: answer(number) for number in range(6)}
    assert not caplog.records


def test_storage_that_cannot_be_read_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    inner = memory_folder()
    store_in(inner).add("run", answers(range(5)))
    for failing in range(1, 5):

        def fail(call: int, name: str, failing: int = failing) -> None:
            if call == failing and name != "remove":
                raise OSError("no")

        caplog.clear()
        folder = WatchedFolder(inner, fail)
        keys = [(question(number), number) for number in range(5)]
        results = dict(store_in(folder).find(keys, not_before=None))
        assert results == ({} if failing <= folder.calls else found(inner, range(5)))
        assert bool(caplog.records) == (not results)


@pytest.mark.parametrize("what", ["sizes", "names", "replace_file", "read_range", "remove"])
def test_failing_add_and_merge_warn_and_lose_nothing(what: str, caplog: pytest.LogCaptureFixture) -> None:
    inner = memory_folder()
    for run in range(8):
        store_in(inner).add(f"run-{run}", answers([run]))

    def fail(_call: int, name: str) -> None:
        if name == what:
            raise OSError("no")

    folder = WatchedFolder(inner, fail)
    store_in(folder).merge(most_bytes=MOST)
    # What cannot be read has a warning of its own.
    assert bool(caplog.records) == (what != "names")
    if what in ("names", "replace_file"):
        assert not store_in(folder).add("run-8", answers([8]))
        assert "could not be stored" in caplog.text
    assert set(found(inner, range(8))) == set(range(8))
    store_in(inner).merge(most_bytes=MOST)
    assert set(found(inner, range(8))) == set(range(8))


def test_later_versions_and_foreign_files_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    folder = memory_folder()
    store_in(folder).add("run", answers(range(3)))
    storage.write(folder, "notes.txt", b"ours")
    storage.write(folder, "added-x-0-0123456789abcdef.answers", b"{}")
    storage.write(folder, "empty.answers", b"")
    assert set(found(folder, range(3))) == {0, 1, 2}
    assert len(store_in(folder).stats().damaged) == 2
    assert all("left out" in record.message for record in caplog.records)
    store_in(folder, NOW).compact()
    assert sorted(name.partition("-")[0] for name in folder.names()) == ["added", "notes.txt"]


@pytest.mark.parametrize("step", ["add", "merge"])
def test_new_segment_that_is_damaged_while_others_erase_is_a_warning(
    step: str, caplog: pytest.LogCaptureFixture
) -> None:
    inner = memory_folder()
    for run in range(8 if step == "merge" else 0):
        store_in(inner).add(f"run-{run}", answers([run]))
    prefix = {"add": "added-", "merge": "merged-"}[step]

    def damage_and_erase(_call: int, name: str) -> None:
        new = [name for name in inner.names() if name.startswith(prefix)]
        if name in ("names", "sizes") and new and not any(map(is_erasure, inner.names())):
            content = storage.read(inner, new[0])
            assert content is not None
            copy = content.index(b'{"kind":"answers"') - 8 * {"add": 2, "merge": 8}[step]
            index = copy - 20  # in the last row of the blocks
            storage.write(inner, new[0], content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :])
            erasures.write(inner, Erasure.of_keys([b'"row-1"'], [], NOW))

    store = store_in(WatchedFolder(inner, damage_and_erase))
    if step == "add":
        assert not store.add("run", answers([1, 2]))
    else:
        store.merge(most_bytes=MOST)
    assert "could not be" in caplog.text
    assert 1 not in found(inner, range(8))
