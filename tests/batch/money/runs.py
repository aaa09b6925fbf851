"""Runs of earlier days, as a task's history holds them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from batch.money.estimates import MODEL

from airflow_claude_batch.batch.money.run_history import ModelRun, Run

DAY = datetime(2026, 11, 1, tzinfo=UTC)


def model_run(requests: int = 100, output: int = 50, **more: Any) -> ModelRun:
    """Make the record of answers of ``output`` tokens on average, to prompts of 100 tokens."""
    known = {
        "max_tokens": 1_000 * requests,
        "output_tokens": output * requests,
        "input_tokens": 100 * requests,
        "estimated_input_tokens": 100 * requests,
    }
    return ModelRun(requests=requests, **{**known, **more})


def run(number: int, *, seconds: float | None = 600.0, models: dict[str, ModelRun] | None = None, **more: Any) -> Run:
    """Make the run of a day."""
    models = {MODEL: model_run(**more)} if models is None else models
    return Run(submission_id=f"run {number}", began_at=DAY + timedelta(days=number), seconds=seconds, models=models)
