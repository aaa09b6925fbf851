"""The operator's work: opens the submission of a task instance and carries it on."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airflow_claude_batch._airflow.compat import timezone
from airflow_claude_batch._airflow.metrics import StatsObserver
from airflow_claude_batch._airflow.on_kill import RunningWork
from airflow_claude_batch._airflow.read_messages import output_schema, write_input
from airflow_claude_batch._airflow.results_folder import submission_folder, submission_id
from airflow_claude_batch._airflow.task_loop import (
    apply_wait_result,
    fail_on_input_error,
    max_cost,
    max_inline_bytes,
    price_table,
    run_until_done,
)
from airflow_claude_batch._airflow.task_state import check_upstream_complete, will_run_again
from airflow_claude_batch.batch.input.request_file import REQUESTS_FILE, RequestFile
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.parquet import check_parquet_installed
from airflow_claude_batch.batch.land.summary import summarize_dry_run
from airflow_claude_batch.batch.ledger.ledger import AnswerUse
from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore, LedgerStore, StateLedgerStore
from airflow_claude_batch.batch.money.models import ModelChecker
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.send.budget import check_budget, estimate_requests
from airflow_claude_batch.batch.start import Attempt, begin_attempt, resume_attempt
from airflow_claude_batch.batch.submission import Submission
from airflow_claude_batch.batch.wait.wait_result import WaitResult
from airflow_claude_batch.hooks import ClaudeHook

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.compat import Context
    from airflow_claude_batch.batch.money.pricing import PriceTable
    from airflow_claude_batch.batch.storage import Folder
    from airflow_claude_batch.operators import SendMessageBatchOperator


def run_submission(
    task: SendMessageBatchOperator, context: Context, *, event: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Carry a task's submission on to its end, or to the next deferral.

    :param event: what the trigger said, when this is a resumption.
    """
    with fail_on_input_error(task, context), tempfile.TemporaryDirectory(prefix="claude-batch-") as scratch:
        hook = ClaudeHook(task.claude_conn_id)
        if task.estimate_only:
            manifest = _estimated(task, context, hook, Path(scratch))
            task.record_manifest(manifest, context)
            return manifest.to_xcom()
        with _opened(task, context, hook, Path(scratch), resuming=event is not None) as submission:
            # For on_kill, which Airflow calls on the task.
            task._running_work = RunningWork(submission, hook.get_config(), partial(will_run_again, context["ti"]))
            if event is not None:
                apply_wait_result(WaitResult.from_event(event), submission, task)
            return run_until_done(task, submission, context).to_xcom()


def _estimated(task: SendMessageBatchOperator, context: Context, hook: ClaudeHook, scratch: Path) -> Manifest:
    """Check and estimate, send nothing, leave nothing behind."""
    path, prices = scratch / REQUESTS_FILE, price_table()
    with path.open("wb") as file:
        _write(task, context, hook, prices, file)
    with RequestFile(path, verify=False) as requests, hook.get_estimate_client() as estimate_client:
        indices = [index for index in range(len(requests)) if index not in requests.duplicates]
        estimate = estimate_requests(requests, iter(indices), prices, estimate_client)

        def first(model: str) -> int:
            return next(index for index in indices if requests.model(index) == model)

        ModelChecker(prices, estimate_client).check(estimate.models, timezone.utcnow(), first)
        limit, name = max_cost(task)
        check_budget(estimate, limit, name=name)
        return summarize_dry_run(submission_id(context["ti"]), len(requests), estimate.to_manifest())


@contextlib.contextmanager
def _opened(
    task: SendMessageBatchOperator, context: Context, hook: ClaudeHook, scratch: Path, *, resuming: bool
) -> Iterator[Submission]:
    ti = context["ti"]
    folder = submission_folder(task.results_path, ti)
    store = _ledger_store(context, folder)
    if task.results_format == "parquet":
        check_parquet_installed()
    prices = price_table()
    attempt = _attempt(ti)
    observer = StatsObserver()
    opened = resume_attempt(store, folder, attempt, scratch) if resuming else None
    if opened is None:
        opened = begin_attempt(
            store,
            folder,
            attempt,
            partial(_write, task, context, hook, prices),
            scratch,
            reuse_answers=task.reuse_answers,
            output_schema=output_schema(task),
        )
        ledger = opened[0].ledger
        if ledger.archived_batch_ids or any(part.answers != AnswerUse.DISCARD for part in ledger.parts):
            observer.recovered("taken_over")
    record, requests = opened
    with requests, hook.get_conn() as client, hook.get_estimate_client() as estimate_client:
        yield Submission(
            client=client,
            record=record,
            folder=folder,
            requests=requests,
            policy=_policy(task),
            prices=prices,
            clock=timezone.utcnow,
            sleep=time.sleep,
            estimate_client=estimate_client,
            observer=observer,
        )


def _write(
    task: SendMessageBatchOperator, context: Context, hook: ClaudeHook, prices: PriceTable, file: IO[bytes]
) -> int:
    count = write_input(task, hook, prices, file)
    check_upstream_complete(task, context["ti"])
    return count


def _attempt(ti: Any) -> Attempt:
    """A clear raises ``max_tries`` (to the tries made so far plus the retries), a retry does not."""
    return Attempt(
        submission_id=submission_id(ti),
        try_number=ti.try_number,
        generation=ti.max_tries,
        now=timezone.utcnow(),
    )


def _ledger_store(context: Context, folder: Folder) -> LedgerStore:
    accessor = context.get("task_state_store")
    return FolderLedgerStore(folder) if accessor is None else StateLedgerStore(accessor, folder)


def _policy(task: SendMessageBatchOperator) -> Policy:
    timeout = task.timeout
    limit, limit_name = max_cost(task)
    if task.execution_timeout is not None:
        # Airflow ends the task's process then; ours comes first, so that on_timeout has its say.
        timeout = min(timeout, task.execution_timeout * 0.9)
    return Policy(
        wait_for_completion=task.wait_for_completion,
        timeout=timeout,
        on_timeout=task.on_timeout,
        repair_rounds=task.repair_rounds,
        repair_invalid=task.repair_invalid,
        allow_failed=task.allow_failed,
        on_lost=task.on_lost,
        max_inline_bytes=max_inline_bytes(),
        max_cost=limit,
        max_cost_name=limit_name,
        canary=task.canary,
        warm_cache=task.warm_cache,
        delete_batches=task.delete_batches,
        results_format=task.results_format,
    )
