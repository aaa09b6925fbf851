"""Wait for message batches and land their answers: the sensor."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_claude_batch._airflow.check_arguments import (
    check_allow_failed,
    check_choice,
    check_flags,
    check_results_path,
    check_sensor_keywords,
    parse_poll_interval,
    parse_timeout,
)
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
from airflow_claude_batch._airflow.links import ClaudeBatchLink
from airflow_claude_batch._airflow.poke_memory import PokeMemory
from airflow_claude_batch._airflow.rendering import has_templates, is_data, render_object
from airflow_claude_batch.exceptions import BatchTimeoutError, ConfigurationError, InputError

if TYPE_CHECKING:
    import jinja2

    from airflow_claude_batch._airflow.compat import BaseTrigger, Context, StartTriggerArgs
    from airflow_claude_batch._airflow.on_kill import RunningWork
    from airflow_claude_batch._airflow.options import CollectionOptions
    from airflow_claude_batch._airflow.task_run import TaskRun


class MessageBatchSensor(LineageMixin, BaseSensorOperator):
    """Wait until message batches have ended, land their answers, and return the manifest.

    The sensor never sends a request. Clear the operator's task to send requests again that ended without an answer.
    It stops no batch either, except with ``cancel_on_kill``. The sensor's outlet assets and OpenLineage get the counts
    and the cost.

    Example::

        send = SendMessageBatchOperator(task_id="send", messages=prompts())
        wait = MessageBatchSensor(task_id="wait", batch=send.output, deferrable=True)
        use(wait.output)  # read_rows(manifest) gives the rows

    For a mapped operator, map the sensor too::

        MessageBatchSensor.partial(task_id="wait").expand(batch=send.output)

    **What to wait for**

    :param batch: (templated) the operator's output, a batch id, or a list of batch ids. A template string gives the
        object that it names. With the operator's output, the rows are landed beside its requests, in their order, and
        are validated if it had an ``output_schema``. With ids, the rows are in order of arrival, and the custom_ids
        are their keys.
    :param claude_conn_id: (templated) a connection of type ``claude`` or ``anthropic``. Default: ``claude_default``.

    ::

        MessageBatchSensor(task_id="wait", batch=["msgbatch_01AbCd", "msgbatch_01EfGh"])  # made elsewhere

    **Waiting**

    :param deferrable: wait in the triggerer, without occupying a worker. Default: ``[operators] default_deferrable``.
        If False, ``mode`` (``poke`` or ``reschedule``) and ``poke_interval`` apply, as in any sensor.
    :param poll_interval: the longest time between two polls of a batch, in seconds or as a timedelta. While deferred, a
        young batch is polled every 10 s. ``poke_interval`` and ``poll_interval`` stand for each other if only one is
        given. Default: ``[claude_batch] poll_interval``, else 60.
    :param timeout: how long to wait, in seconds or as a timedelta. At the timeout, what was answered is landed, the
        batches keep running, and the task fails without a retry, as any sensor does. Default: 25 hours. A shorter
        ``execution_timeout`` bounds the wait too, deferred or not. The task is then retried, if it has retries.
    :param cancel_on_kill: cancel the batches when a user ends the running or deferred task. A rescheduled sensor runs
        only during a poll. Default: False: the batches go on and are billed, and a clear resumes the wait.
    :param start_from_trigger: let the scheduler defer the task, so that its only worker process is the one that lands
        the answers. Needs Airflow 3.3, ``deferrable=True``, literal batch ids and a literal ``claude_conn_id``. A
        mapped sensor starts in a worker all the same. The triggerer then loads the whole DAG for each such task: leave
        it off in DAGs of hundreds of tasks. Default: False.

    ::

        MessageBatchSensor(task_id="wait", batch=send.output, mode="reschedule", poke_interval=300, timeout=6 * 3600)

    **Failures**

    :param allow_failed: how many rows may end without an answer before the task fails: a number of rows (``5``), or a
        share of them (``0.05`` or ``"5%"``). So 1 is one row, and 1.0 is all of them. Default: the operator's, else 0.

    ::

        MessageBatchSensor(task_id="wait", batch=send.output, allow_failed="1%", soft_fail=True)

    **Storage**

    :param results_path: (templated) the folder or URI above all submissions, for batches that are not the operator's,
        and for the output of an operator in another DAG that has the same one. An absolute path or a URI that all
        workers reach. Default: ``[claude_batch] results_path``, else ``claude_batch`` under AIRFLOW_HOME.
    :param results_format: ``jsonl`` (the default). Or ``parquet`` for a ``results.parquet`` with typed columns too, or
        ``csv`` for a ``results.csv`` for people and spreadsheets too; the manifest then names that file. Parquet needs
        the extra ``parquet``. Default: the operator's.
    :param delete_batches: delete the batches at the API once all their rows are landed. Default: the operator's, else
        False; the API deletes results after 29 days.

    ::

        MessageBatchSensor(task_id="wait", batch=send.output, results_format="parquet", delete_batches=True)

    :raises ConfigurationError: an argument cannot be right. Raised when the DAG is parsed.
    """

    template_fields: Sequence[str] = ("batch", "claude_conn_id", "results_path")
    operator_extra_links = (ClaudeBatchLink(),)
    ui_color = "#f0e6dc"

    def __init__(
        self,
        *,
        batch: Any,
        claude_conn_id: str = "claude_default",
        results_path: str | None = None,
        deferrable: bool | None = None,
        poll_interval: float | timedelta | None = None,
        timeout: float | timedelta | None = timedelta(hours=25),
        cancel_on_kill: bool = False,
        allow_failed: float | str | None = None,
        delete_batches: bool | None = None,
        results_format: Literal["jsonl", "parquet", "csv"] | None = None,
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        task_id = kwargs.get("task_id", "the sensor")
        check_sensor_keywords(task_id, kwargs)
        seconds = parse_poll_interval(task_id, poll_interval)
        gives_poke_interval = _gives_poke_interval(kwargs)
        if seconds is not None and not gives_poke_interval:
            kwargs["poke_interval"] = seconds
        if timeout is not None:  # else Airflow's own default
            timeout = parse_timeout(task_id, timeout, at_least=timedelta())
        super().__init__(timeout=timeout, **kwargs)
        self.batch = batch
        self.claude_conn_id = claude_conn_id
        self.results_path = results_path
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        # One of the two intervals is enough, however the sensor waits.
        self.poll_interval = seconds or (self.poke_interval if gives_poke_interval else 0) or None
        self.cancel_on_kill = cancel_on_kill
        self.allow_failed = allow_failed
        self.delete_batches = delete_batches
        self.results_format = results_format
        self._running_work: RunningWork | None = None
        self._memory = PokeMemory()
        if results_format is not None:
            check_choice(self.task_id, "results_format", results_format, ("jsonl", "parquet", "csv"))
        if allow_failed is not None:
            check_allow_failed(self.task_id, allow_failed)
        flags = ("deferrable", "cancel_on_kill", "delete_batches")
        check_flags(self.task_id, {name: getattr(self, name) for name in flags})
        check_flags(self.task_id, {"start_from_trigger": start_from_trigger})
        if isinstance(results_path, str) and results_path and not has_templates(results_path):
            check_results_path(f"{self.task_id}: results_path", results_path)
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
        """Render as Airflow does, but a template in ``batch`` gives the object that it names: a manifest, or a list."""
        if content is self.batch and isinstance(content, str) and has_templates(content):
            data = id(content) in (seen_oids or ()) or is_data(self, "batch")
            return content if data else render_object(self, content, context, jinja_env)
        return super().render_template(content, context, jinja_env, seen_oids)

    def execute(self, context: Context) -> Any:
        """Poll once, then wait in the triggerer; or poke as any sensor does. Return the manifest."""
        began_at = self._memory.began_at = timezone.utcnow()
        self._memory.check = None
        if not self.deferrable:
            from airflow_claude_batch._airflow.map_index_label import without_broken_label

            with without_broken_label(context):
                return super().execute(context)
        return self._run(context, event=None, deadline=began_at + self._wait_timeout, submission_id=None)

    def execute_complete(
        self,
        context: Context,
        event: dict[str, Any] | None = None,
        deadline: str | None = None,
        submission_id: str | None = None,
        rendered_again: bool = False,
    ) -> Any:
        """Continue after a deferral, with the trigger's event. Safe to call twice with the same event.

        :param deadline: when to stop waiting, ISO 8601. None: the scheduler deferred the task.
        :param submission_id: the submission that the sensor waits for. None: it has not begun to wait.
        :param rendered_again: the sensor was deferred because the batch may have been rendered too early.
        """
        at = datetime.fromisoformat(deadline) if deadline else self._default_deadline(context, event or {})
        return self._run(
            context, event=event or {}, deadline=at, submission_id=submission_id, rendered_again=rendered_again
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after a deferral. After Airflow's own deferral timeout too, so that answers are landed."""
        try:
            # Not the base sensor's method, which would fail or skip the task before anything is landed.
            return super(BaseSensorOperator, self).resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            return self.execute_complete(context)
        except TaskDeferralError as error:
            self._skip_softly(error)
            raise

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll the batches once. When all have ended, or at the timeout, land their answers."""
        from airflow_claude_batch._airflow.run_sensor import poke

        timeout = timedelta(seconds=self.timeout)
        with _raising_sensor_timeout():
            manifest = poke(self.options(), self._task_run(context), self._memory, timeout=timeout)
        return PokeReturnValue(is_done=manifest is not None, xcom_value=manifest)

    def on_kill(self) -> None:
        """Cancel the batches if ``cancel_on_kill``, when the worker's process is killed."""
        if self._running_work is not None:
            self._running_work.kill(cancel=self.cancel_on_kill)

    def options(self) -> CollectionOptions:
        """Return the arguments as they are now, frozen, for the code that runs the task."""
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

    def _default_deadline(self, context: Context, event: Mapping[str, Any]) -> datetime:
        """Return the deadline of a task that was deferred without one.

        With ``start_from_trigger`` the scheduler knows none. ``dag.test()`` drops the arguments of the deferral, and
        counts each resumption as a start, so the trigger's own deadline event decides there.
        """
        if not event or event.get("status") == "due":
            return timezone.utcnow()
        began_at: datetime = context["ti"].start_date
        return began_at + self._wait_timeout

    @property
    def _wait_timeout(self) -> timedelta:
        """The timeout of a deferrable sensor: Airflow does not apply ``execution_timeout`` to a deferred task."""
        timeout = timedelta(seconds=self.timeout)
        return timeout if self.execution_timeout is None else min(timeout, self.execution_timeout)

    def _run(
        self,
        context: Context,
        *,
        event: dict[str, Any] | None,
        deadline: datetime,
        submission_id: str | None,
        rendered_again: bool = False,
    ) -> Any:
        from airflow_claude_batch._airflow.map_index_label import without_broken_label
        from airflow_claude_batch._airflow.run_sensor import run_collection

        # Airflow retries a task after its execution_timeout, but not after a sensor's timeout.
        is_retried = self._wait_timeout < timedelta(seconds=self.timeout)
        try:
            raising = contextlib.nullcontext() if is_retried else _raising_sensor_timeout()
            with without_broken_label(context), raising:
                return run_collection(
                    self.options(),
                    self._task_run(context),
                    event=event,
                    deadline=deadline,
                    submission_id=submission_id,
                    rendered_again=rendered_again,
                )
        except (AirflowFailException, AirflowSensorTimeout) as error:
            self._skip_softly(error)
            raise

    def _skip_softly(self, error: Exception) -> None:
        """Skip the task if ``soft_fail`` or ``never_fail`` is set, as the base sensor does when it pokes."""
        for name in ("soft_fail", "never_fail"):
            if getattr(self, name):
                raise AirflowSkipException(f"Skipping due to {name} is set to True: {error}") from error


def _gives_poke_interval(kwargs: Mapping[str, Any]) -> bool:
    return any("poke_interval" in given for given in (kwargs, kwargs.get("default_args") or {}))


def _make_trigger(claude_conn_id: str, **kwargs: Any) -> BaseTrigger:
    from airflow_claude_batch.triggers import MessageBatchTrigger  # slow to import, and only a deferral needs it

    return MessageBatchTrigger(claude_conn_id, **kwargs)


def _start_trigger_args(task: MessageBatchSensor) -> StartTriggerArgs:
    """Return what the scheduler makes the trigger of, without a worker. Its imports cost parse time.

    :raises ConfigurationError: an argument is known only when the task runs, or this Airflow is too old.
    """
    from airflow_claude_batch._airflow import settings
    from airflow_claude_batch._airflow.compat import StartTriggerArgs

    if not START_FROM_TRIGGER_SUPPORTED:
        raise ConfigurationError(
            f"{task.task_id}: start_from_trigger needs Airflow 3.3 or newer.", "Leave start_from_trigger out."
        )
    if not task.deferrable:
        raise ConfigurationError(
            f"{task.task_id}: start_from_trigger needs deferrable=True.",
            "Set deferrable=True, or leave start_from_trigger out.",
        )
    return StartTriggerArgs(
        trigger_cls="airflow_claude_batch.triggers.MessageBatchTrigger",
        trigger_kwargs={
            "claude_conn_id": _literal_conn_id(task),
            "batch_ids": _literal_batch_ids(task),
            "poll_interval": settings.poll_interval(task.poll_interval),
            "cancel_on_kill": task.cancel_on_kill,
        },
        next_method="execute_complete",
        timeout=task._wait_timeout,
    )


def _literal_conn_id(task: MessageBatchSensor) -> str:
    conn_id: Any = task.claude_conn_id  # an author may have given any object
    if not isinstance(conn_id, str) or "{{" in conn_id or "{%" in conn_id:
        raise ConfigurationError(
            f"{task.task_id}: with start_from_trigger, claude_conn_id must be a literal connection id.",
            "Give the id itself, or leave start_from_trigger out.",
        )
    return conn_id


def _literal_batch_ids(task: MessageBatchSensor) -> list[str]:
    from airflow_claude_batch.api.limits import check_batch_id

    batch_ids = task.batch if isinstance(task.batch, list) else [task.batch]
    try:
        if batch_ids:
            return list(dict.fromkeys(check_batch_id(batch_id) for batch_id in batch_ids))
    except InputError as error:
        reason = str(error)
    else:
        reason = "The list is empty."
    raise ConfigurationError(
        f"{task.task_id}: with start_from_trigger, batch must be a literal batch id or a list of them.",
        reason,
        "For the operator's output, or a template, leave start_from_trigger out.",
    )


@contextlib.contextmanager
def _raising_sensor_timeout() -> Iterator[None]:
    """Raise our timeout as Airflow's own: the task is not retried, and may be skipped."""
    try:
        yield
    except BatchTimeoutError as error:
        raise AirflowSensorTimeout(str(error)) from error.__cause__
