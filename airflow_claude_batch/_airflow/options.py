"""The arguments of a task, frozen when it runs: what the operator and the sensor hand down instead of themselves.

Nothing below :mod:`~airflow_claude_batch.operators` and :mod:`~airflow_claude_batch.sensors` sees a task object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """Arguments that the operator and the sensor share, after rendering.

    :param poll_interval: seconds; None for the deployment's.
    """

    task_id: str
    claude_conn_id: str
    results_path: str | None
    deferrable: bool
    poll_interval: float | None
    cancel_on_kill: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """Arguments of :class:`~airflow_claude_batch.answers.AnswerStore`, after rendering."""

    path: str
    max_age: timedelta | None = None
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionOptions(TaskOptions):
    """Arguments of :class:`~airflow_claude_batch.operators.SendMessageBatchOperator`, after rendering.

    :param timeout: and ``approval_timeout``: already bounded by the task's ``execution_timeout``.
    :param answer_store: None for the deployment's, False for none.
    """

    messages: Any
    rows: Any
    prompt: str | None
    key: str | Sequence[str] | None
    keep: str | Sequence[str]
    files: Sequence[str]
    model: str | None
    max_tokens: int | str | None
    system: Any
    request_params: Mapping[str, Any] | None
    output_schema: Any
    repair_invalid: bool
    wait_for_completion: bool
    timeout: timedelta
    on_timeout: Literal["cancel", "leave", "ask_directly"]
    direct_reserve: timedelta
    direct_concurrency: int
    repair_rounds: int
    allow_failed: float | str
    on_empty: Literal["fail", "skip", "succeed"]
    reuse_answers: bool
    answer_store: StoreOptions | Literal[False] | None
    on_lost: Literal["stop", "resend"]
    max_cost: float | str | Decimal | None
    approve_above: float | str | Decimal | None
    approval_timeout: timedelta
    on_rejected: Literal["fail", "skip"]
    sample: int
    deduplicate: bool
    canary: bool
    warm_cache: bool
    cache_system: bool
    delete_batches: bool
    results_format: Literal["jsonl", "parquet", "csv"]
    dry_run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionOptions(TaskOptions):
    """Arguments of :class:`~airflow_claude_batch.sensors.MessageBatchSensor`, after rendering.

    ``allow_failed``, ``delete_batches`` and ``results_format`` are None for what the operator has handed over.

    :param reschedule: the sensor pokes with ``mode="reschedule"``: each poke is a process of its own.
    """

    batch: Any
    allow_failed: float | str | None
    delete_batches: bool | None
    results_format: Literal["jsonl", "parquet", "csv"] | None
    reschedule: bool
