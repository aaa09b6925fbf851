"""The operator that sends messages as message batches.

Everything but Airflow's own names is imported when a task runs: a DAG file is parsed every few seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from airflow_claude_batch._airflow.check_arguments import (
    amount,
    check_allow_failed,
    check_choice,
    check_output_schema,
    check_poll_interval,
    check_rounds,
    check_timeout,
)
from airflow_claude_batch._airflow.compat import BaseOperator, TaskDeferralTimeout, default_deferrable
from airflow_claude_batch._airflow.lineage import LineageMixin
from airflow_claude_batch._airflow.rendering import HiddenValue, has_templates, is_data, render_messages
from airflow_claude_batch.exceptions import ConfigurationError

if TYPE_CHECKING:
    import jinja2

    from airflow_claude_batch._airflow.compat import BaseTrigger, Context
    from airflow_claude_batch._airflow.on_kill import RunningWork
    from airflow_claude_batch._airflow.options import SubmissionOptions

#: Parameters of the Messages API that authors may take for Airflow's ``params`` (which are the DAG's).
MISPLACED = frozenset(
    {"output_config", "stop_sequences", "thinking", "tool_choice", "tools", "cache_control", "service_tier"}
)


class SendMessageBatchOperator(LineageMixin, BaseOperator):
    """Send messages to Claude as message batches; every request is paid for once, whatever crashes.

    The XCom is the manifest: ``batch_ids``, ``counts``, ``results_path``, and ``responses`` with the rows themselves
    while they are small. Without ``wait_for_completion`` it is handed on as soon as everything is sent, for
    :class:`~airflow_claude_batch.sensors.MessageBatchSensor` to wait.

    The events of the task's outlet assets carry the counts and the cost, and so does its lineage (OpenLineage).

    A retry or a clear of the task goes on from what was sent and answered before: only requests without a final
    answer are sent.

    :param messages: (templated) a list, an upstream task's output, or the path or URI of a ``.jsonl`` or ``.jsonl.gz``
        file. An element is a prompt; ``{"role": …, "content": …}``; a list of such; ``{"key": …, "prompt" or
        "messages": …}`` with overrides ``system``, ``model``, ``max_tokens``, ``params``; or ``{"custom_id": …,
        "params": {…}}``. Data is never rendered as Jinja, what the author wrote literally is; a template string gives
        the native object.
    :param model: (templated) default: the connection's, else claude-opus-5-5.
    :param max_tokens: (templated) of each answer.
    :param system: (templated) the system prompt of every request that has none.
    :param request_params: (templated) further parameters of the Messages API for every request, such as ``thinking``.
        Airflow's own ``params`` are the DAG's and are not sent.
    :param output_schema: what every answer is to be: a pydantic model or another type that pydantic's ``TypeAdapter``
        takes, or a JSON Schema as a dict. Requests ask for it by ``output_config.format`` unless they have a format of
        their own. What the API does not take of it (bounds, lengths, patterns) is said in descriptions. When answers
        are landed they are validated against its JSON Schema (a model's own validators are not run, which
        ``read_rows(manifest, schema=Model)`` does): a row has the value in ``output``, or status ``invalid_output``
        with the reason in ``error`` and the answer in ``text``. Such rows were paid for and count as failed.
    :param repair_invalid: ask again, in the repair rounds, where the answer was ``invalid_output``; with twice the
        tokens, up to the model's limit, where it was cut off at ``max_tokens``. Each time is paid for: the row says in
        ``replaced`` what was paid before. Refusals are not asked again.
    :param claude_conn_id: (templated) a connection of type ``claude`` or ``anthropic``.
    :param results_path: (templated) folder or URI above all submissions; default: ``[claude_batch] results_path``, else
        ``claude_batch`` under AIRFLOW_HOME.
    :param wait_for_completion: wait for the batches and land the answers in this task.
    :param deferrable: wait in the triggerer, holding no worker. Default: ``[operators] default_deferrable``.
    :param poll_interval: the most seconds between two looks at a batch. Default: ``[claude_batch] poll_interval``, 60.
    :param timeout: how long an attempt may take from its start, waiting included.
    :param on_timeout: ``cancel`` the batches or ``leave`` them running. What was answered is landed either way.
    :param cancel_on_kill: cancel the batches when the running or deferred task is killed by hand.
    :param repair_rounds: how often, within an attempt, requests that expired, went missing or met a server's error are
        sent again. Refused ones are not.
    :param allow_failed: how many rows may end without an answer before the task fails: a whole number of them, or a
        share of all as a float.
    :param reuse_answers: False makes a clear of the task start a new submission that pays for everything again.
    :param on_lost: what to do when the API gives no way to know what became of a batch: ``stop`` with an error, or
        ``resend`` its requests at the risk of paying for them twice.
    :param max_cost: US dollars; nothing is sent when the submission may cost more, every answer taken at its full
        ``max_tokens``. ``[claude_batch] max_cost_per_submission`` bounds it for the deployment.
    :param deduplicate: send identical requests once, and give every row that asked the one answer.
    :param canary: send one request alone, and stop when it is refused, before all others are.
    :param warm_cache: send one request alone, so that the others find the prompt cache written.
    :param cache_system: mark the system prompt for the prompt cache, for one hour.
    :param delete_batches: delete the batches at the API once all their rows are landed (with ``wait_for_completion``;
        in the two-task form it is the sensor's).
    :param results_format: ``parquet`` lands a ``results.parquet`` too, which the manifest then names; needs the extra
        ``parquet``. In the two-task form it is the sensor's.
    :param dry_run: check every element and estimate the cost, and send nothing. The manifest's status is ``dry_run``;
        the sensor skips it.
    """

    template_fields: Sequence[str] = (
        "messages",
        "model",
        "max_tokens",
        "system",
        "request_params",
        "claude_conn_id",
        "results_path",
    )
    template_fields_renderers = {"request_params": "json"}  # noqa: RUF012  # Airflow reads a plain class attribute
    ui_color = "#f0e6dc"

    def __init__(
        self,
        *,
        messages: Any,
        model: str | None = None,
        max_tokens: int | str = 4096,
        system: str | list[Any] | None = None,
        request_params: Mapping[str, Any] | None = None,
        output_schema: Any = None,
        repair_invalid: bool = False,
        claude_conn_id: str = "claude_default",
        results_path: str | None = None,
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        poll_interval: float | None = None,
        timeout: timedelta = timedelta(hours=25),
        on_timeout: Literal["cancel", "leave"] = "cancel",
        cancel_on_kill: bool = True,
        repair_rounds: int = 1,
        allow_failed: float = 0,
        reuse_answers: bool = True,
        on_lost: Literal["stop", "resend"] = "stop",
        max_cost: float | str | Decimal | None = None,
        deduplicate: bool = False,
        canary: bool = False,
        warm_cache: bool = False,
        cache_system: bool = False,
        delete_batches: bool = False,
        results_format: Literal["jsonl", "parquet"] = "jsonl",
        dry_run: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.messages = messages
        self.model = model
        self.max_tokens = max_tokens
        self.system = system
        self.request_params = request_params
        self.output_schema = output_schema
        self.repair_invalid = repair_invalid
        self.claude_conn_id = claude_conn_id
        self.results_path = results_path
        self.wait_for_completion = wait_for_completion
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.on_timeout = on_timeout
        self.cancel_on_kill = cancel_on_kill
        self.repair_rounds = repair_rounds
        self.allow_failed = allow_failed
        self.reuse_answers = reuse_answers
        self.on_lost = on_lost
        self.max_cost = max_cost
        self.deduplicate = deduplicate
        self.canary = canary
        self.warm_cache = warm_cache
        self.cache_system = cache_system
        self.delete_batches = delete_batches
        self.results_format = results_format
        self.estimate_only = dry_run  # BaseOperator.dry_run is a method
        self._running_work: RunningWork | None = None
        self._renders = False
        self._check_arguments()

    def execute(self, context: Context) -> dict[str, Any]:
        """Send, and wait if so asked."""
        return self._run(context, event=None)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Go on after a deferral. Safe to be called twice with the same event."""
        return self._run(context, event=event or {})

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on also when Airflow's own deferral timeout has fired: what was answered is to be landed."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            return self.execute_complete(context)

    def on_kill(self) -> None:
        """Send nothing more, and cancel what is open, when the task is killed while a worker runs it."""
        if self._running_work is not None:
            self._running_work.kill(cancel=self.cancel_on_kill)

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Render what the author wrote; leave data alone, and keep prompts out of the UI."""
        if self._renders:  # what lies within a field: its values may be the same objects as another field's
            return self._rendered(content, context, jinja_env, seen_oids)
        self._renders = True
        try:
            if content is self.messages and content is not None and not _is_plain(content):
                return render_messages(self, content, context, jinja_env, seen_oids)
            rendered = content if self._is_data(content) else self._rendered(content, context, jinja_env, seen_oids)
        finally:
            self._renders = False
        return (
            HiddenValue(rendered, "the system prompt") if content is self.system and content is not None else rendered
        )

    def options(self) -> SubmissionOptions:
        """Return the arguments as they are now, frozen, for the layers below."""
        from airflow_claude_batch._airflow.options import SubmissionOptions

        timeout = self.timeout
        if self.execution_timeout is not None:
            # Airflow ends the task's process then. Ours comes first, so that on_timeout takes effect.
            timeout = min(timeout, self.execution_timeout * 0.9)
        return SubmissionOptions(
            task_id=self.task_id,
            messages=self.messages,
            model=self.model,
            max_tokens=self.max_tokens,
            system=self.system,
            request_params=self.request_params,
            output_schema=self.output_schema,
            repair_invalid=self.repair_invalid,
            claude_conn_id=self.claude_conn_id,
            results_path=self.results_path,
            wait_for_completion=self.wait_for_completion,
            deferrable=self.deferrable,
            poll_interval=self.poll_interval,
            timeout=timeout,
            on_timeout=self.on_timeout,
            cancel_on_kill=self.cancel_on_kill,
            repair_rounds=self.repair_rounds,
            allow_failed=self.allow_failed,
            reuse_answers=self.reuse_answers,
            on_lost=self.on_lost,
            max_cost=self.max_cost,
            deduplicate=self.deduplicate,
            canary=self.canary,
            warm_cache=self.warm_cache,
            cache_system=self.cache_system,
            delete_batches=self.delete_batches,
            results_format=self.results_format,
            dry_run=self.estimate_only,
        )

    def _run(self, context: Context, event: dict[str, Any] | None) -> dict[str, Any]:
        from airflow_claude_batch._airflow.run_operator import run_submission
        from airflow_claude_batch._airflow.task_run import TaskRun
        from airflow_claude_batch.hooks import ClaudeHook

        run = TaskRun(
            context=context,
            hook=ClaudeHook(self.claude_conn_id),
            make_trigger=_make_trigger,
            set_running_work=self._set_running_work,
            record_manifest=self.record_manifest,
        )
        return run_submission(self.options(), run, event=event)

    def _set_running_work(self, work: RunningWork) -> None:
        self._running_work = work

    def _rendered(self, content: Any, *how: Any) -> Any:
        return content if _is_plain(content) else super().render_template(content, *how)

    def _is_data(self, content: Any) -> bool:
        names = [name for name in self.template_fields if getattr(self, name) is content]
        return any(is_data(self, name) for name in names)

    def _check_arguments(self) -> None:
        """Refuse at parse time what can be known then.

        :raises ConfigurationError: names the argument and what it may be.
        """
        check_choice(self, "on_timeout", ("cancel", "leave"))
        check_choice(self, "on_lost", ("stop", "resend"))
        check_choice(self, "results_format", ("jsonl", "parquet"))
        check_allow_failed(self)
        check_timeout(self)
        check_rounds(self)
        check_poll_interval(self)
        check_output_schema(self)
        if self.max_cost is not None:
            amount(f"{self.task_id}: max_cost", self.max_cost)
        if self.repair_invalid and (self.output_schema is None or not self.repair_rounds):
            raise ConfigurationError(f"{self.task_id}: repair_invalid needs an output_schema and repair_rounds above 0")
        dag = self.get_dag()
        misplaced = MISPLACED.intersection(self.params) - set(dag.params if dag else ())
        if misplaced:
            raise ConfigurationError(
                f"{self.task_id}: {', '.join(sorted(misplaced))} in params: these are Airflow's DAG params, which "
                "are not sent. Use request_params for parameters of the Messages API."
            )


def _make_trigger(claude_conn_id: str, **kwargs: Any) -> BaseTrigger:
    from airflow_claude_batch.triggers import MessageBatchTrigger  # its import takes long, and few runs defer

    return MessageBatchTrigger(claude_conn_id, **kwargs)


def _is_plain(content: Any) -> bool:
    """Whether it is a text in which nothing is to be rendered, such as a path."""
    return isinstance(content, str) and not has_templates(content)
