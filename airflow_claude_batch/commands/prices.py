"""Show the prices in force: those of the package, and the deployment's overrides."""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

from airflow_claude_batch._airflow import settings
from airflow_claude_batch._airflow.compat import timezone
from airflow_claude_batch.batch.money.amounts import exact_usd
from airflow_claude_batch.batch.money.prices import ModelPrice, Rates
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.commands.terminal import Terminal

_COLUMNS = ("model", "input", "output", "cache write", "cache read", "state", "checked", "source")


def run(options: argparse.Namespace, terminal: Terminal) -> int:
    """Write the table of prices."""
    table = settings.price_table()
    if options.output == "json":
        terminal.write_json(_fields(table))
        return 0
    terminal.write("US dollars per million tokens in a message batch.")
    terminal.write_table(_COLUMNS, (_row(table, model) for model in table.models.values()))
    terminal.write(f"A web search costs {exact_usd(table.terms.web_search)}.")
    return 0


def _row(table: PriceTable, model: ModelPrice) -> tuple[object, ...]:
    rates = None if model.rates is None else _in_batches(table, model.rates)
    amounts = [rates[name] for name in _SHOWN_RATES] if rates else ["unknown"] * len(_SHOWN_RATES)
    state = model.state_at(timezone.utcnow()).replace("_", " ")
    return (model.id, *amounts, state, model.checked or "override", model.source)


_SHOWN_RATES = ("input", "output", "cache_write_5m", "cache_read")


def _fields(table: PriceTable) -> dict[str, Any]:
    return {
        "currency": table.terms.currency,
        "unit": "per million tokens, in a message batch",
        "batch_factor": exact_usd(table.terms.batch_factor),
        "web_search": exact_usd(table.terms.web_search),
        "sources": table.terms.sources,
        "models": [_model_fields(table, model) for model in table.models.values()],
    }


def _model_fields(table: PriceTable, model: ModelPrice) -> dict[str, Any]:
    long = model.long_prompt
    return {
        "model": model.id,
        "aliases": list(model.aliases),
        "rates": None if model.rates is None else _in_batches(table, model.rates),
        "long_prompt": long and {"above_tokens": long.above_tokens, "rates": _in_batches(table, long.rates)},
        "inference_geo": {name: exact_usd(factor) for name, factor in model.inference_geo.items()},
        "max_tokens": model.max_tokens,
        "max_input_tokens": model.max_input_tokens,
        "state": model.state_at(timezone.utcnow()),
        "retires_on": model.retires_on and model.retires_on.isoformat(),
        "replacement": model.replacement,
        "is_override": table.is_overridden(model.id),
        "checked": model.checked and model.checked.isoformat(),
        "source": model.source,
    }


def _in_batches(table: PriceTable, rates: Rates) -> dict[str, str]:
    amounts = msgspec.structs.asdict(rates)
    return {name: exact_usd(amount * table.terms.batch_factor) for name, amount in amounts.items()}
