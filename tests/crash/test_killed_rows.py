"""Kill the task that reads a table, and the one that writes another table, at random instants, by seed.

Both run again until they are done. ``make chaos ROWS_RUNS=100`` has a hundred runs on each database.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from crash import books
from crash.scenarios import GRACE, Scenario, new_task
from crash.table_writer import Writer, driver_of
from crash.task import Task
from databases import Database

from airflow_claude_batch.batch.policy import Policy

SEED = int(os.environ.get("CHAOS_SEED", "1"))
RUNS = int(os.environ.get("CHAOS_ROWS_RUNS", "2"))
#: With fewer runs, chance may let all processes end before they are killed.
ENOUGH_RUNS = 10
WORDS = 1_200
MOST_KILLS = 4
MARK = "it's 100 % „marked“"
SCENARIO = Scenario(
    prompts={f"word {number}": f"What is word {number}?" for number in range(WORDS)},
    kept=MARK,
    policy=Policy(max_requests=500, lost_create_grace=GRACE),
    simulator_options={"queue_limit": 1_000},
)
PLAN = {
    "table": "answers",
    "columns": {"word": "key", "mark": "input.mark", "answer": "text", "usd": "cost_usd"},
    "key": ["word"],
    "mode": "upsert",
    "batch_rows": 100,
}


class RandomlyKilledTask(Task):
    """A task whose processes are killed, so many times.

    :param dice: chooses when.
    :param within: the time in which a process is killed, in seconds after its start.
    """

    def __init__(self, task: Task, dice: random.Random, *, kills: int, within: float) -> None:
        super().__init__(task.simulator, task.spec)
        self._dice, self._kills, self._within = dice, kills, within

    def run_process(self) -> dict[str, Any]:
        process = self.start()
        if self._kills:
            process.join(self._dice.uniform(0, self._within))
            if process.is_alive():
                process.kill()
                self._kills -= 1
        return self.end_of(process)


@pytest.mark.timeout(0)
def test_table_of_answers_is_right_and_paid_once_after_kills_of_reading_and_writing_tasks(
    any_database: Database, tmp_path: Path
) -> None:
    create_tables(any_database)
    table = driver_of(any_database)
    within = seconds_of_a_process(tmp_path / "undisturbed", table)
    killed = [disturb(any_database, table, seed, tmp_path / str(seed), within) for seed in range(SEED, SEED + RUNS)]
    reading, writing = (sum(kills) for kills in zip(*killed, strict=True))
    print(f"{any_database.name}: {RUNS} runs, {reading} kills of the reading task, {writing} of the writing one")
    assert RUNS < ENOUGH_RUNS or (reading > RUNS / 2 and writing > RUNS / 4), "most processes ended before their kill"


def create_tables(database: Database) -> None:
    """Create the source table with its rows, and the target table."""
    mark = MARK.replace("'", "''")
    database.execute(
        "CREATE TABLE words (id INTEGER PRIMARY KEY, word VARCHAR(40), mark VARCHAR(60))",
        "CREATE TABLE answers (word VARCHAR(40) PRIMARY KEY, mark VARCHAR(60), answer TEXT, usd DECIMAL(12, 8))",
        *(f"INSERT INTO words VALUES ({number}, 'word {number}', '{mark}')" for number in range(WORDS)),
    )


def seconds_of_a_process(home: Path, table: Mapping[str, Any]) -> float:
    """Measure how long the first process of an undisturbed task takes."""
    home.mkdir()
    with new_task(SCENARIO, home, table=table) as task:
        task.run_process()  # starts the fork server, too
        task.next_try()
        begun = time.monotonic()
        task.run_process()
        return time.monotonic() - begun


def disturb(database: Database, table: Mapping[str, Any], seed: int, home: Path, within: float) -> tuple[int, int]:
    """Run both tasks with kills. Return how often the reading and the writing one were killed."""
    home.mkdir()
    dice = random.Random(seed)
    with new_task(SCENARIO, home, table=table) as undisturbed:
        task = RandomlyKilledTask(undisturbed, dice, kills=dice.randint(1, MOST_KILLS), within=within)
        try:
            report = task.run_to_the_end(tries=MOST_KILLS + 2)
            check_submission(task, report)
        except AssertionError as error:
            raise AssertionError(f"CHAOS_SEED={seed}: {error}; {task.history}") from error
    writer = Writer({"path": str(task.spec.folder / "results.jsonl"), "plan": PLAN, **table})
    undisturbed_seconds = writer.run()
    database.execute("DELETE FROM answers")
    killed = sum(writer.run_and_kill(dice.uniform(0, undisturbed_seconds)) for _ in range(dice.randint(1, 2)))
    writer.run()
    check_table(database, seed)
    return sum(end.endswith("killed") for end in task.history), killed


def check_submission(task: Task, report: Mapping[str, Any]) -> None:
    """Check the books and the landed rows."""
    assert report["failure"] is None, report["failure"]
    spec = task.spec
    books.check(task.simulator.books(), report["manifest"], spec.folder, spec.prompts, kept=spec.kept)


def check_table(database: Database, seed: int) -> None:
    """Check every row of the new table beside its source row, by SQL."""
    right = (
        "SELECT words.word, answers.answer FROM words JOIN answers ON words.word = answers.word "
        "AND words.mark = answers.mark WHERE answers.usd > 0 ORDER BY words.id"
    )
    rows = database.query(right)
    assert [word for word, _ in rows] == list(SCENARIO.prompts), f"CHAOS_SEED={seed}"
    assert all(f"What is {word}?" in answer for word, answer in rows), f"CHAOS_SEED={seed}"
    assert database.query("SELECT count(*) FROM answers") == [(WORDS,)], f"CHAOS_SEED={seed}"
