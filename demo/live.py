"""Using the real API: what it may cost, said before anything is sent, and the key, kept no longer than needed."""

from __future__ import annotations

import json
import runpy
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from airflow_claude_batch.batch.money.cost import Tokens
from airflow_claude_batch.batch.money.pricing import PriceTable


@dataclass(frozen=True, slots=True)
class Plan:
    """What the example is about to send. ``max_usd`` is what it cannot exceed; None for a model without a price."""

    model: str
    count: int
    bytes: int
    max_usd: Decimal | None

    def __str__(self) -> str:
        price = "of unknown price" if self.max_usd is None else f"for at most ${self.max_usd:.2f}"
        return f"{self.count} requests, {self.bytes / 1000:.0f} kB of prompts, to {self.model}, {price}"


def read_plan(dag_file: Path) -> Plan:
    """Work out what the example DAG will send, without sending."""
    example = runpy.run_path(str(dag_file))
    messages = example["read_options"].function()
    model, max_tokens = example["MODEL"], example["MAX_TOKENS"]
    size = sum(_request_bytes(message["prompt"], example["SYSTEM"]) for message in messages)
    # A token is at least one byte of the prompt, and no answer is longer than max_tokens.
    worst = Tokens(input=size, output=len(messages) * max_tokens)
    cost = PriceTable.load().token_cost(worst, model)
    return Plan(model, len(messages), size, cost.usd if cost else None)


def forget_connection(home: Path, connection_id: str) -> None:
    """Remove the connection, and with it the key, from the database of an Airflow that has stopped."""
    database = home / "airflow.db"
    if not database.exists():
        return
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("DELETE FROM connection WHERE conn_id = ?", (connection_id,))


def _request_bytes(prompt: str, system: Any) -> int:
    body = {"system": system, "messages": [{"role": "user", "content": prompt}]}
    return len(json.dumps(body, ensure_ascii=False).encode())
