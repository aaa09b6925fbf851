"""Checks of what an author wrote, made when the DAG is parsed: all that can be refused then."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from airflow_claude_batch.exceptions import ConfigurationError, OutputSchemaError


def check_choice(task: Any, name: str, choices: tuple[str, ...]) -> None:
    """Refuse a word that is not one of the choices.

    :raises ConfigurationError: names the task, the argument and the choices.
    """
    value = getattr(task, name)
    if value not in choices:
        raise ConfigurationError(f"{task.task_id}: {name} must be {' or '.join(map(repr, choices))}, not {value!r}")


def check_timeout(task: Any) -> None:
    """Refuse what is no length of time.

    :raises ConfigurationError: names the task.
    """
    value = task.timeout
    if not isinstance(value, timedelta) or value <= timedelta():
        raise ConfigurationError(f"{task.task_id}: timeout must be a timedelta above zero, not {value!r}")


def check_rounds(task: Any) -> None:
    """Refuse what is no number of rounds.

    :raises ConfigurationError: names the task.
    """
    value = task.repair_rounds
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigurationError(f"{task.task_id}: repair_rounds must be a whole number, 0 for none, not {value!r}")


def check_poll_interval(task: Any) -> None:
    """Refuse what is no number of seconds.

    :raises ConfigurationError: names the task.
    """
    value = task.poll_interval
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
        raise ConfigurationError(f"{task.task_id}: poll_interval must be a number of seconds above zero, not {value!r}")


def check_allow_failed(task: Any) -> None:
    """Refuse what is neither a number of rows nor a share.

    :raises ConfigurationError: names the task and what is allowed.
    """
    value = task.allow_failed
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    is_share = isinstance(value, float) and 0 <= value <= 1
    if not (is_count or is_share):
        raise ConfigurationError(
            f"{task.task_id}: allow_failed must be a number of rows (5), or a share from 0.0 to 1.0 (0.01), not "
            f"{value!r}"
        )


def check_output_schema(task: Any) -> None:
    """Refuse a schema that the API does not take.

    :raises OutputSchemaError: names the task, the place in the schema and the remedy.
    """
    if task.output_schema is None:
        return
    from airflow_claude_batch.batch.input.output_schema import read_schema

    try:
        read_schema(task.output_schema)
    except OutputSchemaError as error:
        raise OutputSchemaError(f"{task.task_id}: {error}") from error


def amount(name: str, value: Any) -> Decimal:
    """Read a sum of US dollars.

    :raises ConfigurationError: it is none.
    """
    try:
        rounded_usd = Decimal(str(value))
    except ArithmeticError:
        rounded_usd = Decimal("NaN")
    if not rounded_usd.is_finite() or rounded_usd < 0:
        raise ConfigurationError(f"{name} must be an amount of US dollars such as 12.50, not {value!r}")
    return rounded_usd
