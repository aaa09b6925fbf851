"""Processes that write tables are killed at random instants: then another run makes the table right."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from crash.table_writer import Writer, driver_of
from databases import Database

ROWS = 8_000
KILLS = 2
#: A run on a machine that is less busy than before can end before its kill.
MOST_RUNS = 12
MODES: dict[str, dict[str, Any]] = {
    "upsert": {"mode": "upsert"},
    "insert": {"mode": "insert"},
    "replace by keys": {"mode": "replace"},
    "replace by condition": {"mode": "replace", "replace_where": "day = 'today'", "constants": {"day": "today"}},
}


@pytest.mark.parametrize("mode", MODES)
def test_table_is_right_after_kills_and_another_run(any_database: Database, mode: str, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(_row(number)) + "\n" for number in range(ROWS)))
    writer = Writer(_job(any_database, path, MODES[mode]))
    key = "id INTEGER PRIMARY KEY" if mode in ("upsert", "insert") else "id INTEGER"
    any_database.execute(f"CREATE TABLE labels ({key}, label VARCHAR(60), day VARCHAR(9))")
    before = [(5, "old", "today"), (ROWS + 1, "other", "never")]
    _fill(any_database, before)
    usual = writer.run()
    right = _rows(any_database)
    assert right == _expected(mode, before)

    random_ = random.Random(mode)
    killed = 0
    for _ in range(MOST_RUNS):
        if killed == KILLS:
            break
        any_database.execute("DELETE FROM labels")
        _fill(any_database, before)
        killed += writer.run_and_kill(random_.uniform(0, usual))
        if mode.startswith("replace"):  # one transaction: all or nothing
            assert _rows(any_database) in (sorted(before), right)
        usual = min(usual, writer.run())  # the first run may have been a slow one
        assert _rows(any_database) == right
    assert killed == KILLS


def _row(number: int) -> dict[str, Any]:
    return {"index": number, "key": number, "status": "succeeded", "output": {"label": f"label of {number}" * 2}}


def _job(database: Database, path: Path, options: dict[str, Any]) -> dict[str, Any]:
    plan = {"table": "labels", "columns": {"id": "key", "label": "output.label"}, "key": ["id"], "batch_rows": 500}
    return {"path": str(path), "plan": plan | options, **driver_of(database)}


def _fill(database: Database, rows: list[tuple[Any, ...]]) -> None:
    database.execute(*(f"INSERT INTO labels VALUES {row!r}" for row in rows))


def _rows(database: Database) -> list[tuple[Any, ...]]:
    return database.query("SELECT id, label, day FROM labels ORDER BY id")


def _expected(mode: str, before: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    old, other = before
    day = "today" if mode == "replace by condition" else None
    rows = [(number, f"label of {number}" * 2, day) for number in range(ROWS)]
    if mode == "insert":
        rows[5] = old
    if mode == "upsert":
        rows[5] = (5, rows[5][1], "today")
    return [*rows, other]
