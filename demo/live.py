"""Runs with the real API: what they can cost, before anything is sent, and how the key is deleted afterwards."""

from __future__ import annotations

import json
import runpy
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from airflow_claude_batch.batch.input.rows.template import PromptTemplate
from airflow_claude_batch.batch.money.cost import Tokens
from airflow_claude_batch.batch.money.pricing import PriceTable


@dataclass(frozen=True, slots=True)
class Plan:
    """The requests that the example will send. ``max_usd`` is an upper bound. None: the model's price is unknown."""

    model: str
    count: int
    bytes: int
    max_usd: Decimal | None

    def __str__(self) -> str:
        price = "at an unknown price" if self.max_usd is None else f"for at most ${self.max_usd:.2f}"
        return f"{self.count} requests ({self.bytes / 1000:.0f} kB of prompts) to {self.model} {price}"


def read_plan(dag_file: Path) -> Plan:
    """Determine what the example DAG will send, without sending it."""
    example = runpy.run_path(str(dag_file))
    columns = ("name", "description")
    write_prompt = PromptTemplate(example["PROMPT"]).bind(columns)
    prompts = [write_prompt(dict(zip(columns, option, strict=True))) for option in example["read_options"]()]
    model, max_tokens = example["MODEL"], example["MAX_TOKENS"]
    size = sum(_request_bytes(prompt, example["SYSTEM"]) for prompt in prompts)
    # A token is at least one byte of the prompt, and no answer is longer than max_tokens.
    worst = Tokens(input=size, output=len(prompts) * max_tokens)
    cost = PriceTable.load().token_cost(worst, model)
    return Plan(model, len(prompts), size, cost.usd if cost else None)


def delete_stored_connection(home: Path, connection_id: str) -> None:
    """Delete the connection with its key from the database of a stopped Airflow."""
    database = home / "airflow.db"
    if not database.exists():
        return
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("DELETE FROM connection WHERE conn_id = ?", (connection_id,))


def _request_bytes(prompt: str, system: Any) -> int:
    body = {"system": system, "messages": [{"role": "user", "content": prompt}]}
    return len(json.dumps(body, ensure_ascii=False).encode())
