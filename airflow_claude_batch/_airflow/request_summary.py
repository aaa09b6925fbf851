"""Say in *Rendered Templates* what a task is about to send: how much, to which model, and at what price."""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING

from airflow_claude_batch._airflow import settings
from airflow_claude_batch._airflow.rendering import unwrap
from airflow_claude_batch._airflow.values_in_force import values_in_force
from airflow_claude_batch.batch.money.amounts import rounded_usd
from airflow_claude_batch.batch.quantity import quantity

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.options import SubmissionOptions
    from airflow_claude_batch._airflow.task_run import Hook


def summarize_requests(options: SubmissionOptions, hook: Hook) -> str:
    """Return the number of requests, the model and max_tokens in force, and the price in a batch.

    It is for people to look at. What cannot be known, or is wrong, is said when the task runs.
    """
    try:
        values = values_in_force(options, hook)
        rates = settings.price_table().batch_rates(values.model.value)
    except Exception as error:  # reading a connection may raise anything
        return f"not known yet: {type(error).__name__}"
    given = unwrap(options.messages if options.rows is None else options.rows)
    is_counted = isinstance(given, Sized) and not isinstance(given, str)
    unknown = "requests" if options.rows is None else "a request for each row"
    count = quantity(len(given), "request") if is_counted else unknown
    price = (
        "no known price"
        if rates is None
        else f"{rounded_usd(rates.input)} USD per million input tokens, {rounded_usd(rates.output)} output"
    )
    return f"{count}, {values.in_words()}, {price}"
