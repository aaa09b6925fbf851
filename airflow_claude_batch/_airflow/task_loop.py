"""What the operator and the sensor share: from step to step, waiting in the worker or from deferral to deferral."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from airflow_claude_batch import exceptions
from airflow_claude_batch._airflow import metrics
from airflow_claude_batch._airflow.check_arguments import amount
from airflow_claude_batch._airflow.compat import AirflowFailException, conf, timezone
from airflow_claude_batch._airflow.task_state import unfinished_upstream
from airflow_claude_batch.batch.land.bill import bill_table
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.money.prices import merge
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.steps import CANCEL_GRACE_PERIOD, DoneStep, WaitStep
from airflow_claude_batch.batch.wait.blocking import wait_for_batches
from airflow_claude_batch.batch.wait.wait_result import WaitResult
from airflow_claude_batch.exceptions import ClaudeBatchError, ConfigurationError, InputError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.compat import BaseOperator, Context
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)

#: Why an answer ends that is what was asked for.
_WHOLE = frozenset({"end_turn", "stop_sequence", "tool_use"})


class Work(Protocol):
    """What can be carried on: a submission, or a collection of batches made elsewhere."""

    client: ClaudeClient

    def advance(self) -> WaitStep | DoneStep: ...

    def mark_lost(self, batch_id: str, reason: str) -> None: ...


def run_until_done(task: Any, work: Work, context: Context, **kwargs: Any) -> Manifest:
    """Advance until done. A deferrable task leaves by the exception that defers it.

    :param kwargs: what ``execute_complete`` is to be given when the task comes back.
    """
    while True:
        step = work.advance()
        if isinstance(step, DoneStep):
            return finish_task(step, task, context)
        log.info("Waiting until %s at most: %s", step.until, step.reason)
        if task.deferrable:
            defer(task, step, kwargs)
        wake = wait_for_batches(
            work.client,
            step.batch_ids,
            wait_for=step.wait_for,
            poll_interval=poll_interval(task),
            until=step.until,
            created_at=step.submitted_at,
            connection=task.claude_conn_id,
            observer=metrics.StatsObserver(),
        )
        apply_wait_result(wake, work, task)


def defer(task: Any, step: WaitStep, kwargs: dict[str, Any]) -> None:
    """Leave the worker; the trigger's event brings the task back.

    Airflow's own timeout is only a net below ours: the trigger comes back at ``until`` by itself.
    """
    from airflow_claude_batch.triggers import MessageBatchTrigger

    task.defer(
        trigger=MessageBatchTrigger(
            task.claude_conn_id,
            batch_ids=list(step.batch_ids),
            open_batch_ids=list(step.open_batch_ids),
            wait_for=step.wait_for,
            poll_interval=poll_interval(task),
            until=step.until.isoformat(),
            cancel_on_kill=task.cancel_on_kill,
            submitted_at=step.submitted_at.isoformat() if step.submitted_at else None,
        ),
        method_name="execute_complete",
        kwargs=kwargs or None,
        timeout=max(step.until - timezone.utcnow(), timedelta()) + CANCEL_GRACE_PERIOD,
    )


def apply_wait_result(wake: WaitResult, work: Work, task: Any) -> None:
    """Take in how a wait ended.

    :raises ClaudeBatchError: the wait found what a person must mend.
    """
    if wake.status != "error":
        return
    if wake.lost:
        for batch_id in wake.lost:
            work.mark_lost(batch_id, wake.error or "not found")
        return
    kind = getattr(exceptions, wake.error_type or "", None)
    name = kind.__name__ if isinstance(kind, type) and issubclass(kind, ClaudeBatchError) else "error"
    raise exceptions.BatchError(f"Waiting for {task.task_id} ended ({name}): {wake.error}")


def finish_task(step: DoneStep, task: Any, context: Context) -> Manifest:
    """The manifest of a good end. Also of a bad one, the task remembers it for those who ask.

    A submission is counted once: not by a try that is followed by another one.

    :raises BatchError: the end is not the one asked for; a retry of the task may mend it.
    :raises AirflowFailException: it would not.
    """
    _tell(step.manifest)
    task.record_manifest(step.manifest, context)
    ti = context["ti"]
    if step.failure is None or step.permanent or ti.try_number > ti.max_tries:
        metrics.report(step.manifest)
    if step.failure is None:
        return step.manifest
    if step.permanent:
        raise AirflowFailException(str(step.failure)) from step.failure
    raise step.failure


@contextlib.contextmanager
def fail_on_input_error(task: BaseOperator, context: Context) -> Iterator[None]:
    """Errors of the input fail the task for good: a retry would say the same, unless the input is being made again."""
    try:
        yield
    except InputError as error:
        if names := unfinished_upstream(task, context["ti"]):
            log.warning(
                "Not done yet: %s. If that is why, a retry will do, or a clear once it is done.", ", ".join(names)
            )
            raise
        raise AirflowFailException(f"{task.task_id}: {error}") from error


def poll_interval(task: Any) -> float:
    """The task's own, or the deployment's."""
    if task.poll_interval is not None:
        return float(task.poll_interval)
    return float(conf.getfloat("claude_batch", "poll_interval", fallback=60.0))


def price_table() -> PriceTable:
    """The bundled prices, with the deployment's overrides: those of a file, and over them those of the setting itself.

    :raises ConfigurationError: the overrides cannot be read; names the setting, the file and the entry.
    """
    table, overrides = PriceTable.load(), dict[str, Any]()
    for source, read in _price_sources():
        try:
            found = json.loads(read())
            overrides = merge(overrides, found) if isinstance(found, Mapping) else found
            table = PriceTable.load(overrides)
        except ConfigurationError as error:
            raise ConfigurationError(f"{source}: {error}") from error
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{source} cannot be read: {error}") from error
    return table


def _price_sources() -> Iterator[tuple[str, Callable[[], str]]]:
    if path := conf.get("claude_batch", "prices_path", fallback=None):
        yield f"[claude_batch] prices_path: {path}", partial(Path(path).read_text, encoding="utf-8")
    if text := conf.get("claude_batch", "prices", fallback=None):
        yield "[claude_batch] prices", lambda: text


def max_cost(task: Any) -> tuple[Decimal | None, str]:
    """The lower of the task's own limit and the deployment's, in USD, and the name of its setting.

    :raises ConfigurationError: the deployment's limit is no amount.
    """
    name = "[claude_batch] max_cost_per_submission"
    ceiling = conf.get("claude_batch", "max_cost_per_submission", fallback=None)
    limits = [(amount(name, value), name) for value in [ceiling] if value]
    if task.max_cost is not None:
        limits.append((amount(f"{task.task_id}: max_cost", task.max_cost), "max_cost"))
    return min(limits, default=(None, "max_cost"))


def max_inline_bytes() -> int:
    """How large the rows in a manifest may be."""
    return int(conf.getint("claude_batch", "max_inline_bytes", fallback=48 * 1024))


def _tell(manifest: Manifest) -> None:
    """Log what a manifest says, with the bill of what was answered."""
    if manifest.status == "in_progress":
        batches = ", ".join(manifest.batch_ids)
        log.info("%d requests are on their way or answered, in %s", manifest.request_count, batches)
    else:
        counts = ", ".join(f"{count} {word}" for word, count in manifest.counts.items() if count)
        odd = ", ".join(f"{count} {why}" for why, count in manifest.stop_reasons.items() if why not in _WHOLE)
        remark = f" Not whole, or no answer, by their stop_reason: {odd}." if odd else ""
        log.info("Ended: %s.%s The rows are in %s", counts, remark, manifest.results_path)
    if manifest.by_model:
        log.info("Bill:\n%s", bill_table(manifest))
    if unpriced := (manifest.cost or {}).get("unpriced_models"):
        log.warning(
            "No price is known for %s: the tokens are counted, the cost is not. Add the price to a file that "
            "[claude_batch] prices_path names.",
            ", ".join(unpriced),
        )
