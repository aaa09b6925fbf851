"""The operator's work: opens the submission of a task instance and carries it on."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airflow_claude_batch._airflow import task_state as upstream
from airflow_claude_batch._airflow.compat import timezone
from airflow_claude_batch._airflow.metrics import StatsObserver
from airflow_claude_batch._airflow.on_kill import UnderWay
from airflow_claude_batch._airflow.read_messages import output_schema, write_input
from airflow_claude_batch._airflow.results_folder import own_folder, submission_id
from airflow_claude_batch._airflow.task_loop import carry_on, heed, max_cost, max_inline_bytes, mended, price_table
from airflow_claude_batch._airflow.task_state import is_wanted
from airflow_claude_batch.batch import start as opening
from airflow_claude_batch.batch.input.request_file import REQUESTS_FILE, Requests
from airflow_claude_batch.batch.land import parquet
from airflow_claude_batch.batch.land.manifest import Manifest, dry_manifest
from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore, LedgerStore, StateLedgerStore
from airflow_claude_batch.batch.money.models import Models
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.send import budget as costing
from airflow_claude_batch.batch.submission import Submission
from airflow_claude_batch.batch.wait.wait_result import Wake
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
    with mended(task, context), tempfile.TemporaryDirectory(prefix="claude-batch-") as scratch:
        hook = ClaudeHook(task.claude_conn_id)
        if task.estimate_only:
            manifest = _estimated(task, context, hook, Path(scratch))
            task.conclude(manifest, context)
            return manifest.to_xcom()
        with _opened(task, context, hook, Path(scratch), resuming=event is not None) as submission:
            # For on_kill, which Airflow calls on the task.
            task._under_way = UnderWay(submission, hook.get_config(), partial(is_wanted, context["ti"]))
            if event is not None:
                heed(Wake.from_event(event), submission, task)
            return carry_on(task, submission, context).to_xcom()


def _estimated(task: SendMessageBatchOperator, context: Context, hook: ClaudeHook, scratch: Path) -> Manifest:
    """Check and estimate, send nothing, leave nothing behind."""
    path, prices = scratch / REQUESTS_FILE, price_table()
    with path.open("wb") as file:
        _write(task, context, hook, prices, file)
    with Requests(path, verify=False) as requests, hook.get_advisor() as advisor:
        indices = [index for index in range(len(requests)) if index not in requests.twins]
        estimate = costing.estimate_requests(requests, iter(indices), prices, advisor)

        def first(model: str) -> int:
            return next(index for index in indices if requests.model(index) == model)

        Models(prices, advisor).check(estimate.models, timezone.utcnow(), first)
        limit, name = max_cost(task)
        costing.guard(estimate, limit, name=name)
        return dry_manifest(submission_id(context["ti"]), len(requests), estimate.to_manifest())


@contextlib.contextmanager
def _opened(
    task: SendMessageBatchOperator, context: Context, hook: ClaudeHook, scratch: Path, *, resuming: bool
) -> Iterator[Submission]:
    ti = context["ti"]
    folder = own_folder(task.results_path, ti)
    store = _ledger_store(context, folder)
    if task.results_format == "parquet":
        parquet.check_installed()
    prices = price_table()
    attempt = _attempt(ti)
    observer = StatsObserver()
    opened = opening.resume(store, folder, attempt, scratch) if resuming else None
    if opened is None:
        opened = opening.begin(
            store,
            folder,
            attempt,
            partial(_write, task, context, hook, prices),
            scratch,
            reuse_answers=task.reuse_answers,
            output_schema=output_schema(task),
        )
        ledger = opened[0].ledger
        if ledger.settled or any(part.answers != "unwanted" for part in ledger.parts):
            observer.recovered("taken_over")
    record, requests = opened
    with requests, hook.get_conn() as client, hook.get_advisor() as advisor:
        yield Submission(
            client=client,
            record=record,
            folder=folder,
            requests=requests,
            policy=_policy(task),
            prices=prices,
            clock=timezone.utcnow,
            sleep=time.sleep,
            advisor=advisor,
            observer=observer,
        )


def _write(
    task: SendMessageBatchOperator, context: Context, hook: ClaudeHook, prices: PriceTable, file: IO[bytes]
) -> int:
    count = write_input(task, hook, prices, file)
    upstream.check_given(task, context["ti"])
    return count


def _attempt(ti: Any) -> opening.Attempt:
    """A clear raises ``max_tries`` (to the tries made so far plus the retries), a retry does not."""
    return opening.Attempt(
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
