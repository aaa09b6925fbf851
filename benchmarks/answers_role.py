"""The measured process of the benchmark of stored answers: runs one role and prints its cost.

A role opens no file before its steps. The client of an object store is connected before, as it is in a task that has
read its requests from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_claude_batch.batch.reuse.answer_store import AnswerStore, StoredAnswer
from airflow_claude_batch.batch.storage import Folder, LocalFolder, ObjectFolder
from benchmarks import bulk_role, s3_server
from benchmarks.bulk_role import Steps

EPOCH = datetime(2026, 10, 1, tzinfo=UTC)
MODEL = "claude-haiku-5-5"
TEXT = "An answer that says what was asked, and why. " * 4
BODY = (
    '"status":"succeeded","text":"{text}{number}","output":null,"stop_reason":"end_turn","model":"' + MODEL + '",'
    '"usage":{{"input_tokens":300,"output_tokens":40}},"cost_usd":"0.000250","error":null,"batch_id":"msgbatch_0123",'
    '"custom_id":"0123456789ab-{number}-0123456789abcdef012345","message":{{"type":"message","role":"assistant",'
    '"content":[{{"type":"text","text":"{text}{number}"}}],"usage":{{"input_tokens":300,"output_tokens":40}}}}}}'
)
MOST_MERGED_BYTES = 256 * 1024 * 1024


def add(url: str, folder: str, count: int, runs: int) -> Steps:
    """Add answers in so many runs, without merging them."""
    store = store_of(folder, "")
    return {"add": lambda: add_runs(store, count, runs, merges=False)}


def runs(url: str, folder: str, count: int, runs: int) -> Steps:
    """Add answers in so many runs, and merge after each of them, as submissions do."""
    store = store_of(folder, "")
    return {"add and merge": lambda: add_runs(store, count, runs, merges=True) | {"segments": store.stats().segments}}


def compact(url: str, folder: str) -> Steps:
    """Write all answers anew."""
    store = store_of(folder, "")
    return {"compact": store.compact, "count": lambda: {"answers": store.stats().answers}}


def look_up(url: str, folder: str, endpoint: str, first: int, last: int, step: int) -> Steps:
    """Look questions up. All that the indexes tell is known before the first answer is read."""
    store = store_of(folder, endpoint)
    answers = store.find([(question(number), number) for number in range(first, last, step)], not_before=None)
    return {"find": lambda: {"any": first_of(answers)}, "read": lambda: {"rest": check(answers)}}


def add_runs(store: AnswerStore, count: int, runs: int, *, merges: bool) -> dict[str, Any]:
    """Add as many answers in each run. A run is a day after the one before."""
    for run in range(runs):
        numbers = range(count * run // runs, count * (run + 1) // runs)
        assert store.add(f"run-{run}", answers_of(numbers, run))
        if merges:
            store.merge(most_bytes=MOST_MERGED_BYTES)
    return {"answers": count}


def answers_of(numbers: Iterable[int], run: int) -> Iterator[tuple[bytes, StoredAnswer]]:
    """Make answers of 800 bytes."""
    at, submission = EPOCH + timedelta(days=run), f"{run:016x}"
    for number in numbers:
        body = BODY.format(number=number, text=TEXT).encode()
        yield question(number), StoredAnswer(b'"key-%d"' % number, body, submission, at, MODEL)


def question(number: int) -> bytes:
    """Return the key of a question."""
    return hashlib.blake2b(b"%d" % number, digest_size=16).digest()


def first_of(answers: Iterator[tuple[int, StoredAnswer]]) -> int:
    """Read the first answer. Return how many there were, 0 or 1."""
    return check([pair] if (pair := next(answers, None)) is not None else [])


def check(answers: Iterable[tuple[int, StoredAnswer]]) -> int:
    """Check that each answer is that of its question. Return how many there are."""
    count = 0
    for number, answer in answers:
        count += 1
        assert answer.key.endswith(b"-%d" % number + b'"'), answer.key
    return count


def store_of(folder: str, endpoint: str) -> AnswerStore:
    """Return the store in a folder, which is one of the S3 server if there is an endpoint."""
    place: Folder = LocalFolder(Path(folder))
    if endpoint:
        file_system, root = s3_server.file_system(endpoint), s3_server.place_of(folder)
        file_system.ls(s3_server.BUCKET)
        place = ObjectFolder(file_system, root, uri=f"s3://{root}")
    return AnswerStore(place, clock=lambda: EPOCH)


ROLES: dict[str, Callable[..., Steps]] = {role.__name__: role for role in (add, runs, compact, look_up)}


def main() -> None:
    """Run one role. Arguments: the role's name, and its options as JSON."""
    bulk_role.main(ROLES)


if __name__ == "__main__":
    main()
