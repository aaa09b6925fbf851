"""A process that dies, or another one that writes, between any two storage calls: nothing is lost or comes back."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from answer_world import (
    NOW,
    KilledError,
    WatchedFolder,
    answer,
    answers,
    copy_of,
    found,
    killed_at,
    memory_folder,
    question,
    store_in,
)

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.reuse import segment_writer
from airflow_claude_batch.batch.reuse.answer_store import AnswerStore, StoredAnswer
from airflow_claude_batch.batch.storage import Folder, LocalFolder, ObjectFolder

MOST = 1 << 40
Step = Callable[[AnswerStore], object]
QUESTIONS, RUN_2 = range(30), "run-2"
STEPS: dict[str, Step] = {
    "add": lambda store: store.add("run-50", answers(range(8, 16), 50)),
    "merge": lambda store: store.merge(most_bytes=MOST),
    "compact": lambda store: store.compact(),
    "forget": lambda store: store.forget([b'"row-1"', b'"row-12"'], ["run-2"]),
    "prune": lambda store: store.prune(timedelta(days=97, hours=1)),
}


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> ObjectFolder:
    """A store with eight small segments, a larger one and one that was merged, all of several segments when merged."""
    monkeypatch.setattr(segment_writer, "MOST_ANSWERS", 10)
    folder = memory_folder()
    for run in range(10):
        store_in(folder).add(f"run-{run}", answers(range(2 * run, 2 * run + 5), run))
        if run == 1:
            store_in(folder).compact()
    return folder


def texts_of(folder: Folder) -> bytes:
    return b"".join(storage.read(folder, name) or b"" for name in folder.names())


def check(step: str, before: Folder, after: Folder, *, done: bool) -> None:
    """Check what is found after a step, or after a part of it."""
    old, new = found(before, QUESTIONS), found(after, QUESTIONS)
    for number in QUESTIONS:
        allowed = [old.get(number)]
        if step == "add" and 8 <= number < 16:
            allowed = [answer(number, 50)] if done else [old.get(number), answer(number, 50)]
        if step == "forget" and (number in (1, 12) or RUN_2 in map(submission_of, allowed)):
            # An older answer of another submission counts then.
            instead = [] if number in (1, 12) else [answer(number, run) for run in (0, 1)]
            allowed = [None, *instead] if done else [*allowed, None, *instead]
        if step == "prune" and allowed[0] is not None and allowed[0].answered_at < NOW - timedelta(days=97, hours=1):
            allowed = [None] if done else [*allowed, None]
        assert new.get(number) in allowed, (step, number)


def submission_of(one: StoredAnswer | None) -> str | None:
    return one.submission_id if one else None


@pytest.mark.parametrize("step", STEPS)
def test_kill_before_any_effect(step: str, stored: ObjectFolder) -> None:
    for effect in range(100):
        folder = copy_of(stored)
        try:
            STEPS[step](store_in(killed_at(effect, folder)))
            break
        except KilledError:
            pass
        check(step, stored, folder, done=False)
        if step in ("forget", "prune") and effect:  # the erasure is written: it counts
            check(step, stored, folder, done=True)
        for following in (step, "merge", "compact"):
            STEPS[following](store_in(folder))
            check(step, stored, folder, done=True)
    else:
        pytest.fail("it never ends")
    assert effect
    check(step, stored, folder, done=True)


@pytest.mark.parametrize("step", ["forget", "prune"])
def test_killed_erasure_is_finished_by_compact_and_no_byte_of_it_is_left(step: str, stored: ObjectFolder) -> None:
    for effect in range(1, 100):
        folder = copy_of(stored)
        try:
            STEPS[step](store_in(killed_at(effect, folder)))
            break
        except KilledError:
            store_in(folder).compact()
        check(step, stored, folder, done=True)
        assert (b'"row-1"' if step == "forget" else b"of run 2") not in texts_of(folder)


@pytest.mark.parametrize("other", ["merge", "compact", "add", "forget"])
@pytest.mark.parametrize("step", STEPS)
def test_another_process_runs_between_any_two_calls(step: str, other: str, stored: ObjectFolder) -> None:
    """Both steps have their effect, wherever the other one comes in."""
    calls = 200
    at = 1
    while at <= calls:
        folder = copy_of(stored)

        def intrude(call: int, _: str, at: int = at, folder: ObjectFolder = folder) -> None:
            if call == at:
                STEPS[other](store_in(folder))

        watched = WatchedFolder(folder, intrude)
        STEPS[step](store_in(watched))
        calls, watched_at = watched.calls, at
        at += max(1, calls // 9)
        if watched.calls < watched_at:
            continue
        both = {step, other}
        results = found(folder, QUESTIONS)
        if "forget" in both:
            assert not {1, 12}.intersection(results)
            assert all(one.submission_id != "run-2" for one in results.values())
        if both <= {"merge", "compact"}:
            check("merge", stored, folder, done=True)
        if "prune" in both:
            assert all(one.answered_at >= NOW - timedelta(days=97, hours=1) for one in results.values())
        if "forget" in both and "add" not in both:
            STEPS["merge"](store_in(folder))
            assert b'"row-1"' not in texts_of(folder)


@pytest.mark.parametrize("other", ["merge", "compact", "forget"])
def test_look_up_while_another_process_writes(
    other: str, stored: ObjectFolder, caplog: pytest.LogCaptureFixture
) -> None:
    """A look-up whose segments vanish lists them anew: it finds all answers, each once."""
    before = found(stored, QUESTIONS)
    calls = at = 1
    while at <= calls:
        folder = copy_of(stored)

        def intrude(call: int, _: str, at: int = at, folder: ObjectFolder = folder) -> None:
            if call == at:
                STEPS[other](store_in(folder))

        watched = WatchedFolder(folder, intrude)
        results = found(watched, QUESTIONS)
        calls, at = watched.calls, at + 1
        assert all(one == before[number] or other == "forget" for number, one in results.items())
        kept = [one for number, one in before.items() if number not in (1, 12) and one.submission_id != "run-2"]
        assert len(results) == len(before) or (other == "forget" and len(results) >= len(kept))
    assert not caplog.records


def test_segments_that_keep_vanishing_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    folder = memory_folder()
    store_in(folder).add("run", answers(range(3)))
    (name,) = folder.names()
    content = storage.read(folder, name)

    def vanish(_: int, call: str) -> None:
        if call == "sizes":
            storage.write(folder, name, content)
        if call == "read_range":
            folder.remove(name)

    assert found(WatchedFolder(folder, vanish), range(3)) == {}
    assert "vanish" in caplog.text


def test_threads_that_add_merge_and_look_up_at_once(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    wrong: list[str] = []

    def work(thread: int) -> None:
        store = store_in(folder)
        for run in range(6):
            numbers = range(100 * thread + 10 * run, 100 * thread + 10 * run + 10)
            store.add(f"run-{thread}-{run}", answers(numbers))
            store.merge(most_bytes=MOST)
            sample = random.Random(run).sample(range(400), 50)
            for index, one in store.find([(question(number), number) for number in sample], not_before=None):
                if one != answer(index):
                    wrong.append(f"{index}: {one}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert set(found(folder, range(400))) == {100 * thread + number for thread in range(3) for number in range(60)}


def test_forgotten_answers_stay_forgotten_when_an_old_result_is_added_again(stored: ObjectFolder) -> None:
    store_in(stored).forget([b'"row-1"'], ["run-5"])
    store_in(stored).add("run-5", answers(range(10, 15), 5))
    store_in(stored).add("run-0", answers(range(5), 0))
    results = found(stored, QUESTIONS)
    assert 1 not in results
    assert all(one.submission_id != "run-5" for one in results.values())

    paid_again = [(question(1), answer(1, 101))]  # a day after all this
    store_in(stored).add("run-101", paid_again)
    assert found(stored, [1]) == {1: answer(1, 101)}
    store_in(stored).compact()
    assert found(stored, [1]) == {1: answer(1, 101)}


def test_erasures_are_few_and_end(stored: ObjectFolder) -> None:
    for day in range(5):
        store_in(stored, NOW + timedelta(days=day)).prune(timedelta(days=97))
    store_in(stored).forget([b'"row-19"'])
    assert store_in(stored).stats().erasures == 2
    store_in(stored, NOW + timedelta(days=70)).compact()
    assert store_in(stored).stats().erasures == 0
    assert 19 not in found(stored, QUESTIONS)


@pytest.mark.parametrize("step", ["forget", "prune", "compact"])
def test_steps_can_be_done_twice_and_counted_without_being_done(step: str, stored: ObjectFolder) -> None:
    store = store_in(stored)
    if step != "compact":
        erase = {"forget": lambda **options: store.forget([b'"row-1"'], **options), "prune": None}[step] or (
            lambda **options: store.prune(timedelta(days=97, hours=1), **options)
        )
        names = sorted(stored.names())
        count = erase(dry_run=True)
        assert sorted(stored.names()) == names
        assert count == erase() > 0
        assert erase() == 0
    else:
        store.compact()
        names = sorted(stored.names())
        store.compact()
        assert sorted(stored.names()) == names


def test_forgetting_finds_keys_however_they_are_written() -> None:
    folder = memory_folder()
    keys = [b'{"a":1,"b":[1.50]}', b'"\xc3\xa9"', b"17", b"null"]
    store_in(folder).add(
        "run", [(question(n), answer(n).__class__(k, b'"status":""}', "r", NOW, "m")) for n, k in enumerate(keys)]
    )
    assert store_in(folder).forget([b'{"b": [1.50], "a": 1}', b'"\\u00e9"', b" 17 "]) == 3
    assert set(found(folder, range(4))) == {3}


@pytest.mark.parametrize("step", ["forget", "compact"])
def test_temporary_files_of_killed_writers_are_removed(step: str, tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    store_in(folder).add("run", answers(range(3)))
    left = tmp_path / ".merged-0123456789abcdef-0.answers.fedcba.tmp"
    left.write_bytes(b"half of a file")
    STEPS[step](store_in(folder))
    assert not left.exists()
    assert len(list(tmp_path.iterdir())) == {"forget": 2, "compact": 1}[step]
