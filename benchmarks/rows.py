"""Measures source rows and tables: queries, Parquet files, templates, upserts, and a million rows from table to table.

Each is measured in a process of its own. PostgreSQL and the simulator run in other processes, which are not measured.
"""

from __future__ import annotations

import base64
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.bulk import Cost, run_rows
from benchmarks.figures import BenchmarkResult, Figure, Scope
from benchmarks.postgres_server import Postgres, postgres_server
from benchmarks.simulated import simulator

QUERY_ROWS, QUERY_MEGABYTES = 200_000, 24
PARQUET_MEGABYTES, PARQUET_MEMORY = 240, 96
PARQUET_ROW_BYTES = 1000
TEMPLATE_ROWS, TEMPLATE_ROUNDS, TEMPLATE_MICROSECONDS = 100_000, 5, 2
LOAD_ROWS, LOAD_ROWS_PER_SECOND = 200_000, 20_000
MILLION = 1_000_000
MILLION_QUEUE, MILLION_BATCH_SECONDS = 200_000, 45  # as the benchmark of a million messages
TICKETS = "SELECT id, title, body FROM tickets ORDER BY id"
CHECKED = (
    "Source rows of 1 KB in PostgreSQL and in a Parquet file of one row group, from the source to the file of requests "
    "with keys and kept columns; `hook.get_records` is the same query as a list. Templates of three columns beside "
    "iterating over the rows alone. Upserts of landed rows into an empty table, and again over the same rows: the "
    "slower of both counts. {rows:,} rows of 200 bytes from a table to a table, against the simulator. Checked: the "
    "number of rows of each; by SQL, every row of the new table has the key, the kept column and the answer of its "
    "source row; the simulator's books say that every request was billed once."
)


def measure(scope: Scope) -> BenchmarkResult:
    """Measure them all, one after the other."""
    with tempfile.TemporaryDirectory(prefix="rows-") as scratch, postgres_server(Path(scratch)) as database:
        home = Path(scratch)
        figures = (
            *query_figures(database, home, scope),
            parquet_figure(home, scope),
            template_figure(home, scope),
            *load_figures(database, home, scope),
            *million_figures(database, home, scope),
        )
    return BenchmarkResult(CHECKED.format(rows=scope.of(MILLION)), figures)


def create_tickets(database: Postgres, count: int, digests: int) -> None:
    """Create the source table. A body has 32 bytes for each digest."""
    database.run(
        "DROP TABLE IF EXISTS tickets",
        "CREATE TABLE tickets (id INTEGER PRIMARY KEY, title TEXT, body TEXT)",
        "INSERT INTO tickets SELECT n, 'Title ' || n, repeat(md5(n::text), %(digests)s) "
        "FROM generate_series(0, %(count)s - 1) n",
        "ANALYZE tickets",
        parameters={"count": count, "digests": digests},
    )


def query_figures(database: Postgres, home: Path, scope: Scope) -> tuple[Figure, Figure, Figure]:
    """Read a query, and read it again as a list."""
    count = scope.of(QUERY_ROWS)
    create_tickets(database, count, digests=31)
    options: dict[str, Any] = {"folder": str(home), "warehouse": database.connection, "sql": TICKETS}
    ours, whole = run_rows("query", home, **options), run_rows("whole_result", home, **options)
    assert ours.counts == whole.counts == {"rows": count}
    return (
        Figure("memory of a query", "MB", ours.megabytes).at_most(QUERY_MEGABYTES),
        Figure("memory of hook.get_records", "MB", whole.megabytes),
        Figure("CPU per row of a query", "µs", ours.cpu_seconds / count * 1e6),
    )


def parquet_figure(home: Path, scope: Scope) -> Figure:
    """Read a Parquet file."""
    path = home / "tickets.parquet"
    count = write_parquet(path, int(PARQUET_MEGABYTES * 2**20 * scope.scale))
    cost = run_rows("parquet", home, folder=str(home), path=str(path))
    assert cost.counts == {"rows": count}
    path.unlink()
    return Figure("memory of a Parquet file of 240 MB", "MB", cost.megabytes).at_most(PARQUET_MEMORY)


def write_parquet(path: Path, size: int) -> int:
    """Write a file of about this size, in one row group, as pandas does. Return how many rows it has."""
    import pyarrow
    from pyarrow import parquet

    count, bytes_of = max(size // PARQUET_ROW_BYTES, 1), random.Random(0).randbytes  # noqa: S311
    bodies = pyarrow.array(base64.b64encode(bytes_of(PARQUET_ROW_BYTES * 3 // 4)).decode() for _ in range(count))
    titles = pyarrow.array(f"Title {number}" for number in range(count))
    table = pyarrow.table({"id": pyarrow.array(range(count)), "title": titles, "body": bodies})
    parquet.write_table(table, path)
    assert path.stat().st_size >= size * 0.97, path.stat()
    return count


def template_figure(home: Path, scope: Scope) -> Figure:
    """Measure rounds with and without templates, in turns. The fastest of each is the least disturbed one."""
    count = scope.of(TEMPLATE_ROWS)
    cost = run_rows("templates", home, count=count, rounds=TEMPLATE_ROUNDS)
    reading, rendering = (
        min(seconds for step, seconds in cost.cpu.items() if step.startswith(name)) for name in ("rows", "prompts")
    )
    what = "CPU per row of a template of three columns"
    return Figure(what, "µs", (rendering - reading) / count * 1e6).at_most(TEMPLATE_MICROSECONDS)


def load_figures(database: Postgres, home: Path, scope: Scope) -> tuple[Figure, Figure, Figure]:
    """Upsert rows into an empty table, and over the same rows."""
    count, path = scope.of(LOAD_ROWS), home / "labels.jsonl"
    write_landed(path, count)
    create_labels(database, "label TEXT, usd NUMERIC")
    columns = {"id": "key", "label": "output.label", "title": "input.title", "usd": "cost_usd"}
    cost = run_rows("load", home, warehouse=database.connection, rows=str(path), columns=columns, times=2)
    right = "SELECT count(*) FROM labels WHERE label = 'label ' || id AND title = 'Title ' || id AND usd = 0.000312"
    assert database.run(right) == database.run("SELECT count(*) FROM labels") == [(count,)]
    path.unlink()
    assert cost.counts["rows"] == count
    slowest = max(cost.counts["seconds"])
    return (
        Figure("upserts into PostgreSQL", "rows/s", count / slowest).at_least(LOAD_ROWS_PER_SECOND),
        Figure("CPU per upserted row", "µs", cost.cpu_seconds / 2 / count * 1e6),
        Figure("memory of upserts", "MB", cost.megabytes),
    )


def write_landed(path: Path, count: int) -> None:
    """Write a file of landed rows, as the sensor does."""
    usage = {"input_tokens": 300, "output_tokens": 4}
    with path.open("w") as file:
        for number in range(count):
            text = json.dumps({"label": f"label {number}"})
            row = {
                "index": number,
                "key": number,
                "input": {"title": f"Title {number}"},
                "status": "succeeded",
                "text": text,
                "output": {"label": f"label {number}"},
                "stop_reason": "end_turn",
                "model": "claude-haiku-5-5",
                "usage": usage,
                "cost_usd": "0.000312",
                "batch_id": "msgbatch_0123456789",
                "custom_id": f"{number:064x}",
                "message": {"type": "message", "content": [{"type": "text", "text": text}], "usage": usage},
            }
            file.write(json.dumps(row, separators=(",", ":")) + "\n")


def create_labels(database: Postgres, columns: str) -> None:
    """Create the target table."""
    database.run("DROP TABLE IF EXISTS labels", f"CREATE TABLE labels (id INTEGER PRIMARY KEY, title TEXT, {columns})")


def million_figures(database: Postgres, home: Path, scope: Scope) -> tuple[Figure, ...]:
    """Run rows from a table through the simulator to another table."""
    count = scope.of(MILLION)
    create_tickets(database, count, digests=6)
    create_labels(database, "answer TEXT")
    begun = time.perf_counter()
    sent = send(database, home, count, scope)
    columns = {"id": "key", "title": "input.title", "answer": "text"}
    options = {"rows": sent.counts["results"], "columns": columns, "times": 1}
    loaded = run_rows("load", home, warehouse=database.connection, **options)
    seconds = time.perf_counter() - begun
    check_labels(database, count)
    what = "rows from a table to a table"
    return (
        Figure(what, "", count, bound="all", met=True) if scope.full else Figure(what, "", count),
        Figure("memory of the task that reads, sends and lands", "MB", sent.megabytes),
        Figure("memory of the task that loads", "MB", loaded.megabytes),
        Figure("CPU per row, from query to landed row", "µs", sent.cpu_seconds / count * 1e6),
        Figure("CPU per row, from landed row to table", "µs", loaded.cpu_seconds / count * 1e6),
        Figure("time from table to table", "s", seconds),
    )


def send(database: Postgres, home: Path, count: int, scope: Scope) -> Cost:
    """Run the submission. Check that every request was billed once."""
    batch_seconds = MILLION_BATCH_SECONDS if scope.scale == 1 else 0
    with simulator("--batch-seconds", str(batch_seconds), "--queue-limit", str(MILLION_QUEUE)) as api:
        cost = run_rows("send", home, api.url, folder=str(home), warehouse=database.connection, sql=TICKETS)
        books = api.books()
    assert books["billed_requests"] == count, f"{books['billed_requests']:,} requests were billed"
    return cost


def check_labels(database: Postgres, count: int) -> None:
    """Compare every row of the new table with its source row. The simulator's answer repeats the prompt's beginning."""
    right = (
        "SELECT count(*) FROM tickets JOIN labels USING (id) WHERE labels.title = tickets.title "
        "AND position('Ticket ' || id || ': Title ' || id IN labels.answer) > 0"
    )
    assert database.run("SELECT count(*) FROM labels") == [(count,)]
    assert database.run(right) == [(count,)], f"{database.run(right)} of {count} rows are right"
