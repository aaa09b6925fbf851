"""The measured process of the benchmarks of rows: runs one role of this package and prints its cost.

A role opens no connection to the database before its steps. What a hook imports is imported before.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow_claude_batch._airflow.compat import BaseHook
from airflow_claude_batch._airflow.read_messages import write_input
from airflow_claude_batch.batch.input.request_writer import create_request_file
from airflow_claude_batch.batch.input.rows.source import SourceRow
from airflow_claude_batch.batch.input.rows.template import PromptTemplate
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.hooks import ClaudeHook
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sources import FileRows, SqlRows
from benchmarks import bulk_role
from benchmarks.bulk_role import Steps
from benchmarks.submission_role import RESULTS, Task, new_scratch, run_in_one_process

CONN_ID = "warehouse"
#: The simulator's answer repeats the beginning.
PROMPT = "Ticket {id}: {title}\n<body>{body}</body>\nWhich team does it belong to?"


def query(url: str, folder: str, warehouse: str, sql: str) -> Steps:
    """Read a query as the operator does, into the file of requests."""
    database_hook(warehouse)
    return write_requests_of(folder, SqlRows(CONN_ID, sql))


def whole_result(url: str, folder: str, warehouse: str, sql: str) -> Steps:
    """Read a query as a task does that uses the hook."""
    hook = database_hook(warehouse)
    return {"get_records": lambda: {"rows": len(hook.get_records(sql))}}


def parquet(url: str, folder: str, path: str) -> Steps:
    """Read a Parquet file as the operator does, into the file of requests."""
    import pyarrow.parquet  # noqa: F401  # an import, which is not measured

    return write_requests_of(folder, FileRows(path))


def write_requests_of(folder: str, source: Any) -> Steps:
    """Write the requests of source rows, their index and their kept columns."""
    rows = {"rows": source, "prompt": PROMPT, "key": "id", "keep": ["title"]}
    task = SendMessageBatchOperator(task_id="send", max_tokens=64, **rows)
    hook, prices, path = ClaudeHook("claude_default"), PriceTable.load(), Path(folder, "requests.jsonl")

    def write() -> dict[str, int]:
        write_all: Any = lambda file, index: write_input(task.options(), hook, prices, file, index)  # noqa: E731
        with create_request_file(path, write_all) as requests:
            return {"rows": len(requests)}

    return {"read rows and write requests": write}


def templates(url: str, count: int, rounds: int) -> Steps:
    """Iterate over rows without and with their prompt, in turns."""
    rows: list[SourceRow] = [ticket(number) for number in range(count)]
    render = PromptTemplate(PROMPT).bind(tuple(rows[0]))
    steps: Steps = {}
    for round_ in range(rounds):
        steps[f"rows {round_}"] = lambda: deque(iter(rows), maxlen=0) and None
        steps[f"prompts {round_}"] = lambda: deque(map(render, rows), maxlen=0) and None
    return steps


def ticket(number: int) -> dict[str, Any]:
    """Make a row of 1 KB."""
    return {"id": number, "title": f"Title {number}", "body": f"{number:032x}" * 31}


def load(url: str, warehouse: str, rows: str, columns: dict[str, str], times: int) -> Steps:
    """Write landed rows to a table as ``RowsToSqlOperator`` does, so many times."""
    from airflow_claude_batch._airflow import run_transfer  # noqa: F401  # an import, which is not measured
    from airflow_claude_batch.transfers import RowsToSqlOperator

    database_hook(warehouse)
    task = RowsToSqlOperator(task_id="load", rows=rows, conn_id=CONN_ID, table="labels", columns=columns)
    seconds: list[float] = []

    def run() -> dict[str, Any]:
        begun = time.perf_counter()
        counts = task.execute({"ti": SimpleNamespace(task_id="load")})
        seconds.append(time.perf_counter() - begun)
        return {"rows": counts["rows_written"], "seconds": seconds}

    return {f"load {number}": run for number in range(times)}


def send(url: str, folder: str, warehouse: str, sql: str) -> Steps:
    """Run a whole submission from the query to its landed rows, in one process state."""
    database_hook(warehouse)
    rows = {"rows": SqlRows(CONN_ID, sql), "prompt": PROMPT, "key": "id", "keep": ["title"]}
    task, place = Task(None, new_scratch(folder), rows=rows), LocalFolder(Path(folder, "submission"))

    def run() -> dict[str, str]:
        with task.begin(place) as submission:
            run_in_one_process(task, submission)
        return {"results": place.uri(RESULTS)}

    return {"read, send, wait and land": run}


def database_hook(warehouse: str) -> Any:
    """Define the connection, and import its hook."""
    os.environ[f"AIRFLOW_CONN_{CONN_ID.upper()}"] = warehouse
    return BaseHook.get_connection(CONN_ID).get_hook()


ROLES: dict[str, Callable[..., Steps]] = {
    role.__name__: role for role in (query, whole_result, parquet, templates, load, send)
}


def main() -> None:
    """Run one role. Arguments: the role's name, and its options as JSON."""
    bulk_role.main(ROLES)


if __name__ == "__main__":
    main()
