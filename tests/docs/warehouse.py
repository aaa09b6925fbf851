"""The database and the files that the pages' examples of tables read."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from media_files import pdf

#: Every table has rows of every day: the examples select the day of their run.
_TABLES = """
CREATE VIEW tickets AS SELECT 1 AS id, 'Refund' AS title, 'I was charged twice.' AS body, d.day FROM day d
    UNION ALL SELECT 2, NULL, 'Where is my parcel?', d.day FROM day d;
CREATE VIEW texts AS SELECT 1 AS id, 'German' AS language, 'The library opens at nine.' AS text, d.day FROM day d;
CREATE VIEW invoices AS SELECT 'A-1' AS invoice_id, 'a-1.pdf' AS pdf_name, d.day FROM day d;
"""


def make_warehouse(folder: Path, days: list[str]) -> str:
    """Fill a folder and a SQLite database. Return the database's connection."""
    path = folder / "warehouse.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE day (day TEXT PRIMARY KEY)")
        database.executemany("INSERT INTO day VALUES (?)", [(day,) for day in days])
        database.executescript(_TABLES)
        database.execute(
            "CREATE TABLE ticket_labels (id INTEGER PRIMARY KEY, title, topic, urgent BOOLEAN, usd, why_not)"
        )
    database.close()
    for day in days:
        articles = folder / "articles" / f"day={day}"
        articles.mkdir(parents=True)
        row = {"site": "news", "article_id": 7, "body": "It rained."}
        (articles / "part-0.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "invoices").mkdir()
    (folder / "invoices" / "a-1.pdf").write_bytes(pdf())
    return json.dumps({"conn_type": "sqlite", "host": str(path)})
