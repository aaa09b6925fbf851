"""Run the operator: begin or resume the submission of a task instance, and advance it."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airflow_claude_batch._airflow import settings
from airflow_claude_batch._airflow.answer_store import open_answer_store
from airflow_claude_batch._airflow.approval import apply_answer
from airflow_claude_batch._airflow.check_arguments import parse_usd
from airflow_claude_batch._airflow.compat import (
    TASK_STATE_SURVIVES_CLEAR,
    AirflowSkipException,
    clear_mark,
    timezone,
)
from airflow_claude_batch._airflow.day_budget import begun_anew, day_budget
from airflow_claude_batch._airflow.earlier_attempts import push_earlier_attempts
from airflow_claude_batch._airflow.map_index_label import check_label
from airflow_claude_batch._airflow.on_kill import RunningWork
from airflow_claude_batch._airflow.read_messages import input_argument, output_schema, write_input
from airflow_claude_batch._airflow.shared_results import check_results_shared
from airflow_claude_batch._airflow.snapshots import Snapshots
from airflow_claude_batch._airflow.task_history import TaskHistory
from airflow_claude_batch._airflow.task_loop import (
    apply_wait_result,
    fail_on_input_error,
    run_until_done,
)
from airflow_claude_batch._airflow.task_state import check_upstream_complete
from airflow_claude_batch._airflow.user_end import UserEndCheck
from airflow_claude_batch._airflow.values_in_force import values_in_force
from airflow_claude_batch.batch.answer_reuse import ReusableRequests
from airflow_claude_batch.batch.attempt import Attempt
from airflow_claude_batch.batch.input.earlier_forms import EarlierInput
from airflow_claude_batch.batch.input.request_index import RequestIndexWriter
from airflow_claude_batch.batch.input.request_lines import REQUESTS_FILE
from airflow_claude_batch.batch.input.request_writer import create_request_file
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.match_requests import SubmissionMatcher
from airflow_claude_batch.batch.land.parquet import check_parquet_installed
from airflow_claude_batch.batch.land.summary import summarize_dry_run
from airflow_claude_batch.batch.land.validate_output import OutputValidator
from airflow_claude_batch.batch.ledger.moved_store import MovedLedgerStore
from airflow_claude_batch.batch.ledger.part import AnswerUse
from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore, LedgerStore, StateLedgerStore
from airflow_claude_batch.batch.money.models import ModelChecker
from airflow_claude_batch.batch.policy import CANCEL_GRACE_PERIOD, Policy
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.send.approval import would_ask
from airflow_claude_batch.batch.send.budget import check_budget, estimate_requests
from airflow_claude_batch.batch.start import begin_attempt, read_earlier_input, resume_attempt
from airflow_claude_batch.batch.submission import Submission
from airflow_claude_batch.batch.wait.wait_result import WaitResult
from airflow_claude_batch.exceptions import APIError, EmptyInputError, SubmissionTakenOverError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.options import SubmissionOptions
    from airflow_claude_batch._airflow.task_run import TaskRun
    from airflow_claude_batch.api.client import ClaudeClient
    from airflow_claude_batch.api.config import ClientConfig
    from airflow_claude_batch.batch.input.request_file import RequestFile
    from airflow_claude_batch.batch.money.pricing import PriceTable
    from airflow_claude_batch.batch.storage import Folder

log = logging.getLogger(__name__)


def run_submission(
    options: SubmissionOptions,
    run: TaskRun,
    *,
    event: Mapping[str, Any] | None = None,
    answer: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Advance a task's submission to its end, or to the next deferral; return the manifest.

    :param event: the trigger's event, when the task resumes.
    :param answer: Airflow's event after a person was asked.
    """
    with fail_on_input_error(run.ti), tempfile.TemporaryDirectory(prefix="claude-batch-") as scratch:
        if options.dry_run:
            manifest = _estimate(options, run, Path(scratch), TaskHistory(options.results_path, run.ti))
            run.record_manifest(manifest, run.context)
            return manifest.to_xcom()
        check = UserEndCheck.of(run.ti)
        if options.cancel_on_kill:
            check.confirm_running()
        with (
            TaskHistory(options.results_path, run.ti) as history,
            _open_or_show(
                options, run, _open(options, run, Path(scratch), check, history, resuming=event is not None)
            ) as submission,
            Snapshots(submission, run, conn_id=options.claude_conn_id, history=history, calls=check.calls) as snapshots,
        ):
            snapshots.push()
            will_use = partial(_will_use, check, submission)
            run.set_running_work(RunningWork(submission, run.hook.get_config(), will_use, check.calls))
            waited = None if event is None else WaitResult.from_event(event)
            if answer is not None:
                apply_answer(answer, submission)
            if waited is not None:
                apply_wait_result(waited, submission, options.task_id)
            sleep = _sleep(options, check)
            manifest = run_until_done(
                submission, options, run, waited=waited, sleep=sleep, history=history, snapshots=snapshots
            )
            return manifest.to_xcom()


def _sleep(options: SubmissionOptions, check: UserEndCheck) -> Callable[[float], None]:
    """Return the function to sleep with. Airflow is asked for the task's state only if ``on_kill`` needs it."""
    return check.sleep if options.cancel_on_kill else time.sleep


def _will_use(check: UserEndCheck, submission: Submission) -> bool:
    """Return True if another try will use the submission's batches, or has taken it over already.

    :raises UnknownEndError: it cannot be told who ended the task.
    :raises SubmissionRecordError: the ledger cannot be read.
    """
    if check.will_run_again():
        return True
    try:
        submission.record.check_ownership()
    except SubmissionTakenOverError:
        return True
    return False


def _estimate(options: SubmissionOptions, run: TaskRun, scratch: Path, history: TaskHistory) -> Manifest:
    """Check every element and estimate the cost. Send nothing, and leave no file behind."""
    path, prices = scratch / REQUESTS_FILE, settings.price_table()
    write = partial(_write, options, run, prices)
    with create_request_file(path, write) as requests, run.hook.get_estimate_client() as estimate_client:
        requests.argument = input_argument(options)
        models = ModelChecker(prices, estimate_client, argument=requests.argument)
        indices = [index for index in range(len(requests)) if index not in requests.duplicates]
        reused = _look_up(options, requests, indices, estimate_client, models, prices)
        indices = [index for index in indices if index not in reused.indices]
        estimate = estimate_requests(
            requests,
            lambda: iter(indices),
            prices,
            estimate_client,
            models=models,
            now=timezone.utcnow(),
            earlier_runs=history.earlier_runs(),
        )
        limit, name = _max_cost(options)
        check_budget(estimate, limit, name=name)
        if (budget := day_budget(run, sleep=time.sleep)) is not None:
            budget.check(estimate)
        log.info("dry_run=True: nothing was sent.")
        if (above := _approve_above(options)) is not None:
            log.info("%s", would_ask(estimate, above, options.sample))
        defaults = {"defaults": values_in_force(options, run.hook).to_manifest()}
        noted = {**estimate.to_manifest(), **estimate.models_to_manifest(), **defaults}
        return summarize_dry_run(run.submission_id, len(requests), noted, reused.to_manifest())


def _look_up(
    options: SubmissionOptions,
    requests: RequestFile,
    indices: Sequence[int],
    client: ClaudeClient,
    models: ModelChecker,
    prices: PriceTable,
) -> ReusableRequests:
    """Look up which requests would not be sent. If the API cannot be asked for the workspace, none is known."""
    answers = open_answer_store(options)
    if answers is None or not answers.looks_up:
        return ReusableRequests()
    schema = output_schema(options)
    matcher = SubmissionMatcher(requests, None if schema is None else OutputValidator(schema))
    try:
        return answers.look_up(indices, matcher, client, models=models, prices=prices)
    except APIError as error:
        log.warning("Stored answers could not be looked up, so the estimate is of all requests. %s", error)
        return ReusableRequests()


@contextlib.contextmanager
def _open_or_show(
    options: SubmissionOptions, run: TaskRun, opened: AbstractContextManager[Submission]
) -> Iterator[Submission]:
    """Open a submission. If that fails, show which batches of earlier attempts may run."""
    with contextlib.ExitStack() as stack:
        try:
            submission = stack.enter_context(opened)
        except Exception as error:
            push_earlier_attempts(
                run,
                lambda: run.submission_folder(options.results_path),
                partial(_ledger_store, run),
                conn_id=options.claude_conn_id,
                error=error,
            )
            raise
        yield submission


@contextlib.contextmanager
def _open(
    options: SubmissionOptions,
    run: TaskRun,
    scratch: Path,
    check: UserEndCheck,
    history: TaskHistory,
    *,
    resuming: bool,
) -> Iterator[Submission]:
    folder = run.submission_folder(options.results_path)
    store = _ledger_store(run, folder)
    if options.cancel_on_kill:
        store = _UninterruptedStore(store, check)
    if options.results_format == "parquet":
        check_parquet_installed()
    answers = open_answer_store(options)
    prices = settings.price_table()
    attempt = _attempt(run)
    budget = begun_anew(day_budget(run, sleep=_sleep(options, check)), attempt, reuse_answers=options.reuse_answers)
    opened = resume_attempt(store, folder, attempt, scratch) if resuming else None
    defaults = None  # a resumed attempt has noted them
    if opened is None:
        defaults = values_in_force(options, run.hook).to_manifest()
        check_results_shared(options.results_path)
        load_earlier = partial(read_earlier_input, store, folder, attempt, scratch, reuse_answers=options.reuse_answers)
        opened = begin_attempt(
            store,
            folder,
            attempt,
            partial(_write, options, run, prices, load_earlier=load_earlier),
            scratch,
            reuse_answers=options.reuse_answers,
            output_schema=output_schema(options),
        )
        ledger = opened[0].ledger
        if ledger.archived_batch_ids or any(part.answers != AnswerUse.DISCARD for part in ledger.parts):
            history.recovered("taken_over")
    record, requests = opened
    requests.argument = input_argument(options)
    with requests, run.hook.get_conn() as client, run.hook.get_estimate_client() as estimate_client:
        yield Submission(
            client=client,
            record=record,
            folder=folder,
            requests=requests,
            policy=_policy(options, run.hook.get_config(), defaults),
            prices=prices,
            clock=timezone.utcnow,
            sleep=_sleep(options, check),
            estimate_client=estimate_client,
            day_budget=budget,
            answers=answers,
            observer=history,
            earlier_runs=history.earlier_runs,
        )


def _write(
    options: SubmissionOptions,
    run: TaskRun,
    prices: PriceTable,
    file: IO[bytes],
    index: RequestIndexWriter,
    *,
    load_earlier: Callable[[], EarlierInput] = EarlierInput,
) -> int:
    """Write the requests, and then check that the upstream outputs they came from were complete."""
    empty = "messages is empty" if options.rows is None else "rows has no row"
    try:
        count = write_input(options, run.hook, prices, file, index, load_earlier)
    except EmptyInputError:
        check_upstream_complete(run.ti)
        if options.on_empty != "skip":
            raise
        raise AirflowSkipException(f"{empty}, so nothing was sent (on_empty='skip').") from None
    check_upstream_complete(run.ti)
    check_label(run.context)
    if not count:
        log.info("%s, so nothing is sent (on_empty='succeed').", empty)
    else:
        if options.rows is not None and options.key is None:
            log.warning(
                "No key is given, so the key of each row is its position. If the source changes, another row may have "
                "that position. Name the column that tells rows apart: key='id'."
            )
        in_force = values_in_force(options, run.hook).in_words()
        where = "where an element says nothing else" if options.rows is None else "for every row"
        log.info("Read %s.\nIn force %s: %s.", quantity(count, "request"), where, in_force)
    return count


def _attempt(run: TaskRun) -> Attempt:
    """Identify this attempt.

    A clear raises ``max_tries`` to the tries so far plus the retries. That gives the old number again if the author has
    lowered ``retries`` since, and a running task's number may stay. So the attempt has a mark of the clear, too.
    """
    return Attempt(
        submission_id=run.submission_id,
        try_number=run.ti.try_number,
        generation=run.ti.max_tries,
        now=timezone.utcnow(),
        clear_mark=clear_mark(run.context),
    )


class _UninterruptedStore:
    """Store whose calls a kill does not interrupt. Each save asks for the task's state: sending may take minutes."""

    def __init__(self, store: LedgerStore, check: UserEndCheck) -> None:
        self._store = store
        self._check = check

    def claim(self) -> None:
        with self._check.calls.running():
            self._store.claim()

    def load(self) -> bytes | None:
        with self._check.calls.running():
            return self._store.load()

    def load_chunk(self, name: str) -> bytes | None:
        with self._check.calls.running():
            return self._store.load_chunk(name)

    def save(self, head: bytes, chunks: Mapping[str, bytes]) -> None:
        with self._check.calls.running():
            self._store.save(head, chunks)
        self._check.confirm_running()

    def check_owner(self, attempt: str) -> None:
        with self._check.calls.running():
            self._store.check_owner(attempt)


def _ledger_store(run: TaskRun, folder: Folder) -> LedgerStore:
    accessor = run.context.get("task_state_store")
    if accessor is None:
        return FolderLedgerStore(folder)
    return StateLedgerStore(accessor, folder) if TASK_STATE_SURVIVES_CLEAR else MovedLedgerStore(accessor, folder)


def _policy(options: SubmissionOptions, config: ClientConfig, defaults: dict[str, Any] | None) -> Policy:
    limit, limit_name = _max_cost(options)
    max_bytes, max_requests = settings.batch_limits(config)
    return Policy(
        wait_for_completion=options.wait_for_completion,
        timeout=options.timeout,
        on_timeout=options.on_timeout,
        direct_reserve=options.direct_reserve,
        direct_concurrency=options.direct_concurrency,
        cancel_grace=min(CANCEL_GRACE_PERIOD, timedelta(seconds=settings.poll_interval(options.poll_interval))),
        repair_rounds=options.repair_rounds,
        repair_invalid=options.repair_invalid,
        allow_failed=options.allow_failed,
        on_lost=options.on_lost,
        max_requests=max_requests,
        max_bytes=max_bytes,
        max_inline_bytes=settings.max_inline_bytes(),
        max_cost=limit,
        max_cost_name=limit_name,
        approve_above=_approve_above(options),
        approval_timeout=options.approval_timeout,
        on_rejected=options.on_rejected,
        sample=options.sample,
        canary=options.canary,
        warm_cache=options.warm_cache,
        delete_batches=options.delete_batches,
        results_format=options.results_format,
        request_defaults=defaults,
        lost_create_grace=settings.lost_create_grace(config.read_timeout),
    )


def _approve_above(options: SubmissionOptions) -> Decimal | None:
    above = options.approve_above
    return None if above is None else parse_usd(f"{options.task_id}: approve_above", above)


def _max_cost(options: SubmissionOptions) -> tuple[Decimal | None, str]:
    """Return the lower of the deployment's limit and the task's own, in USD, and the name of its setting."""
    ceiling = settings.max_cost_per_submission()
    limits = [(ceiling, settings.MAX_COST)] if ceiling is not None else []
    if options.max_cost is not None:
        limits.append((parse_usd(f"{options.task_id}: max_cost", options.max_cost), "max_cost"))
    return min(limits, default=(None, "max_cost"))
