"""The sensor that waits for message batches and hands on their answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_claude_batch._airflow.check_arguments import check_allow_failed, check_choice, check_poll_interval
from airflow_claude_batch._airflow.compat import (
    START_FROM_TRIGGER_SUPPORTED,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    TaskDeferralError,
    TaskDeferralTimeout,
    default_deferrable,
    timezone,
)
from airflow_claude_batch._airflow.lineage import LineageMixin
from airflow_claude_batch._airflow.rendering import has_templates, is_data, render_object
from airflow_claude_batch._airflow.task_run import PokeMemory
from airflow_claude_batch.exceptions import BatchTimeoutError, ConfigurationError, InputError

if TYPE_CHECKING:
    import jinja2

    from airflow_claude_batch._airflow.compat import BaseTrigger, Context, StartTriggerArgs
    from airflow_claude_batch._airflow.on_kill import RunningWork
    from airflow_claude_batch._airflow.options import CollectionOptions
    from airflow_claude_batch._airflow.task_run import TaskRun


class MessageBatchSensor(LineageMixin, BaseSensorOperator):
    """Wait until message batches have ended, land their answers, and give the manifest.

    It never sends anything: requests that ended without an answer are sent again when the operator's task is cleared.
    Nor does it stop anything, unless it is killed and ``cancel_on_kill`` says so. The events of its outlet assets carry
    the counts and the cost, and so does its lineage (OpenLineage).

    :param batch: (templated) the operator's output, a batch id, or a list of ids; a template string gives the native
        object. With the operator's output, answers
        are landed beside its requests, in input order under the author's keys; otherwise in order of arrival, with
        their custom_ids as keys, in this task's own folder. An ``output_schema`` of the operator is known here too: it
        stands beside the requests, and the answers are validated.
    :param claude_conn_id: (templated) a connection of type ``claude`` or ``anthropic``.
    :param results_path: (templated) folder or URI above all submissions, for batches that are not the operator's.
    :param deferrable: wait in the triggerer. Default: ``[operators] default_deferrable``. If not, ``mode`` is ``poke``
        or ``reschedule``, and ``poke_interval`` counts, as in any sensor.
    :param poll_interval: when deferred, the most seconds between two looks at a batch. Default: ``[claude_batch]
        poll_interval``, 60.
    :param timeout: how long to wait, in seconds or as a timedelta. When it is over, what was answered is landed, the
        batches go on, and the task fails without a retry, as any sensor does. An ``execution_timeout`` that is shorter
        bounds the wait too, deferred or not; the task is then retried, if it has retries.
    :param cancel_on_kill: cancel the batches when the running or deferred task is killed by hand.
    :param allow_failed: how many rows may end without an answer before the task fails: a whole number of them, or a
        share of all as a float.
    :param delete_batches: delete the batches at the API once all their rows are landed.
    :param results_format: ``parquet`` lands a ``results.parquet`` too, which the manifest then names; needs the extra
        ``parquet``.
    :param start_from_trigger: when deferrable, do not start a worker to look first: the scheduler hands the task to
        the triggerer, and its only worker process is the one that lands the answers. For literal batch ids and a
        literal ``claude_conn_id``, on Airflow 3.3 or newer; a mapped sensor starts in a worker all the same. The
        triggerer then loads the whole DAG for each such task: leave it off in DAGs of hundreds of tasks.
    :raises ConfigurationError: an argument cannot be right; names the task and the remedy.
    """

    template_fields: Sequence[str] = ("batch", "claude_conn_id", "results_path")
    ui_color = "#f0e6dc"

    def __init__(
        self,
        *,
        batch: Any,
        claude_conn_id: str = "claude_default",
        results_path: str | None = None,
        deferrable: bool | None = None,
        poll_interval: float | None = None,
        timeout: float | timedelta = timedelta(hours=25),
        cancel_on_kill: bool = False,
        allow_failed: float = 0,
        delete_batches: bool = False,
        results_format: Literal["jsonl", "parquet"] = "jsonl",
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(timeout=timeout, **kwargs)
        self.batch = batch
        self.claude_conn_id = claude_conn_id
        self.results_path = results_path
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.poll_interval = poll_interval
        self.cancel_on_kill = cancel_on_kill
        self.allow_failed = allow_failed
        self.delete_batches = delete_batches
        self.results_format = results_format
        self._running_work: RunningWork | None = None
        self._memory = PokeMemory()
        check_choice(self, "results_format", ("jsonl", "parquet"))
        check_allow_failed(self)
        check_poll_interval(self)
        if start_from_trigger:
            self.start_trigger_args = _start_trigger_args(self)
            self.start_from_trigger = True

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Render as Airflow does, but a template of ``batch`` to the object that it names: a manifest, or a list."""
        if content is self.batch and isinstance(content, str) and has_templates(content):
            data = id(content) in (seen_oids or ()) or is_data(self, "batch")
            return content if data else render_object(self, content, context, jinja_env)
        return super().render_template(content, context, jinja_env, seen_oids)

    def execute(self, context: Context) -> Any:
        """Look once; then wait in the triggerer, or poke as any sensor does."""
        began_at = self._memory.began_at = timezone.utcnow()
        if not self.deferrable:
            return super().execute(context)
        return self._run(context, event=None, deadline=began_at + self._longest, submission_id=None)

    def execute_complete(
        self,
        context: Context,
        event: dict[str, Any] | None = None,
        deadline: str | None = None,
        submission_id: str | None = None,
    ) -> Any:
        """Go on after a deferral. Safe to be called twice with the same event."""
        at = datetime.fromisoformat(deadline) if deadline else self._unknown_deadline(context, event or {})
        return self._run(context, event=event or {}, deadline=at, submission_id=submission_id)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on also when Airflow's own deferral timeout has fired: what was answered is to be landed."""
        try:
            # Past the base sensor, which would fail or skip the task before anything is landed.
            return super(BaseSensorOperator, self).resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            return self.execute_complete(context)
        except TaskDeferralError as error:
            self._skip_softly(error)
            raise

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once at the batches; when all have ended, or the time is over, land their answers."""
        from airflow_claude_batch._airflow.run_sensor import poke

        timeout = timedelta(seconds=self.timeout)
        with _timing_out():
            manifest = poke(self.options(), self._task_run(context), self._memory, timeout=timeout)
        return PokeReturnValue(is_done=manifest is not None, xcom_value=manifest)

    def on_kill(self) -> None:
        """Cancel the batches when the task is killed while a worker runs it, if so asked."""
        if self._running_work is not None:
            self._running_work.kill(cancel=self.cancel_on_kill)

    def options(self) -> CollectionOptions:
        """Return the arguments as they are now, frozen, for the layers below."""
        from airflow_claude_batch._airflow.options import CollectionOptions

        return CollectionOptions(
            task_id=self.task_id,
            batch=self.batch,
            claude_conn_id=self.claude_conn_id,
            results_path=self.results_path,
            deferrable=self.deferrable,
            poll_interval=self.poll_interval,
            cancel_on_kill=self.cancel_on_kill,
            allow_failed=self.allow_failed,
            delete_batches=self.delete_batches,
            results_format=self.results_format,
            reschedule=self.reschedule,
        )

    def _task_run(self, context: Context) -> TaskRun:
        from airflow_claude_batch._airflow.task_run import TaskRun
        from airflow_claude_batch.hooks import ClaudeHook

        return TaskRun(
            context=context,
            hook=ClaudeHook(self.claude_conn_id),
            make_trigger=_make_trigger,
            set_running_work=self._set_running_work,
            record_manifest=self.record_manifest,
        )

    def _set_running_work(self, work: RunningWork) -> None:
        self._running_work = work

    def _unknown_deadline(self, context: Context, event: Mapping[str, Any]) -> datetime:
        """When the time is over, if nobody who deferred the task has said it.

        The scheduler knew no time when the DAG was parsed (``start_from_trigger``); ``dag.test()`` drops what it was
        told, and counts each resumption as a start: there, the trigger that comes back because it is time must be
        believed.
        """
        if not event or event.get("status") == "due":
            return timezone.utcnow()
        began_at: datetime = context["ti"].start_date
        return began_at + self._longest

    @property
    def _longest(self) -> timedelta:
        """How long a deferrable sensor waits: Airflow does not apply ``execution_timeout`` to a deferred task."""
        timeout = timedelta(seconds=self.timeout)
        return timeout if self.execution_timeout is None else min(timeout, self.execution_timeout)

    def _run(
        self, context: Context, *, event: dict[str, Any] | None, deadline: datetime, submission_id: str | None
    ) -> Any:
        from airflow_claude_batch._airflow.run_sensor import run_collection

        is_bounded = self._longest < timedelta(seconds=self.timeout)  # then Airflow would retry the task, as its own
        try:
            with contextlib.nullcontext() if is_bounded else _timing_out():
                return run_collection(
                    self.options(),
                    self._task_run(context),
                    event=event,
                    deadline=deadline,
                    submission_id=submission_id,
                )
        except (AirflowFailException, AirflowSensorTimeout) as error:
            self._skip_softly(error)
            raise

    def _skip_softly(self, error: Exception) -> None:
        """As the base sensor does for one that pokes."""
        for name in ("soft_fail", "never_fail"):
            if getattr(self, name):
                raise AirflowSkipException(f"Skipping due to {name} is set to True: {error}") from error


def _make_trigger(claude_conn_id: str, **kwargs: Any) -> BaseTrigger:
    from airflow_claude_batch.triggers import MessageBatchTrigger  # its import takes long, and few runs defer

    return MessageBatchTrigger(claude_conn_id, **kwargs)


def _start_trigger_args(task: MessageBatchSensor) -> StartTriggerArgs:
    """What the scheduler makes the trigger of, without a worker. Whoever asks for it pays for the imports at parse.

    :raises ConfigurationError: it cannot be known before the task runs, or not by this Airflow.
    """
    from airflow_claude_batch._airflow.compat import StartTriggerArgs
    from airflow_claude_batch._airflow.task_loop import poll_interval

    if not START_FROM_TRIGGER_SUPPORTED:
        raise ConfigurationError(f"{task.task_id}: start_from_trigger needs Airflow 3.3 or newer. Leave it out.")
    if not task.deferrable:
        raise ConfigurationError(f"{task.task_id}: start_from_trigger needs deferrable=True")
    return StartTriggerArgs(
        trigger_cls="airflow_claude_batch.triggers.MessageBatchTrigger",
        trigger_kwargs={
            "claude_conn_id": _literal_conn_id(task),
            "batch_ids": _literal_batch_ids(task),
            "poll_interval": poll_interval(task.options()),
            "cancel_on_kill": task.cancel_on_kill,
        },
        next_method="execute_complete",
        timeout=task._longest,
    )


def _literal_conn_id(task: MessageBatchSensor) -> str:
    conn_id: Any = task.claude_conn_id  # an author may have given any object
    if not isinstance(conn_id, str) or "{{" in conn_id or "{%" in conn_id:
        raise ConfigurationError(
            f"{task.task_id}: with start_from_trigger, claude_conn_id must be a literal connection id, not a template. "
            "Leave start_from_trigger out."
        )
    return conn_id


def _literal_batch_ids(task: MessageBatchSensor) -> list[str]:
    from airflow_claude_batch.api.limits import check_batch_id

    ids = task.batch if isinstance(task.batch, list) else [task.batch]
    try:
        if ids:
            return list(dict.fromkeys(check_batch_id(batch_id) for batch_id in ids))
    except InputError as error:
        reason = str(error)
    else:
        reason = "the list is empty"
    raise ConfigurationError(
        f"{task.task_id}: with start_from_trigger, batch must be a literal batch id or a list of them, and {reason}. "
        "For the operator's output, or a template, leave start_from_trigger out."
    )


@contextlib.contextmanager
def _timing_out() -> Iterator[None]:
    """Raise what Airflow raises when a sensor's time is over: it is not retried, and may be skipped."""
    try:
        yield
    except BatchTimeoutError as error:
        raise AirflowSensorTimeout(str(error)) from error
