"""Send messages to Claude as message batches: the operator.

What only a running task needs is imported within functions: a DAG file is parsed every few seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from airflow_claude_batch._airflow.check_arguments import (
    parse_approval_timeout,
    parse_direct_reserve,
    parse_poll_interval,
    parse_timeout,
)
from airflow_claude_batch._airflow.check_requests import DEFAULT_MAX_TOKENS, NotGiven, check_keywords, check_params
from airflow_claude_batch._airflow.compat import BaseOperator, TaskDeferralTimeout, default_deferrable
from airflow_claude_batch._airflow.lineage import LineageMixin
from airflow_claude_batch._airflow.links import ClaudeBatchLink
from airflow_claude_batch._airflow.rendering import HiddenValue, has_templates, is_data, render_messages, render_text
from airflow_claude_batch._airflow.source import Source

if TYPE_CHECKING:
    import jinja2

    from airflow_claude_batch._airflow.compat import BaseTrigger, Context, XComArg
    from airflow_claude_batch._airflow.on_kill import RunningWork
    from airflow_claude_batch._airflow.options import SubmissionOptions
    from airflow_claude_batch.answers import AnswerStore
    from airflow_claude_batch.elements import Element, Messages


#: What *Rendered Templates* shows of ``request_summary`` until the task runs.
_SHOWN_LATER = "known when the task runs"

#: Airflow's own arguments that may read ``params``, besides the templated ones.
PLACES_OF_PARAMS = (
    "map_index_template",
    "on_execute_callback",
    "on_failure_callback",
    "on_retry_callback",
    "on_skipped_callback",
    "on_success_callback",
    "_pre_execute_hook",
    "_post_execute_hook",
)


class SendMessageBatchOperator(LineageMixin, BaseOperator):
    """Send messages to Claude as message batches, and pay for each request once.

    A retry or a clear of the task continues from what was sent and answered before. Only requests without a final
    answer are sent again.

    The XCom is the manifest, a small dict with ``batch_ids``, ``counts``, ``cost`` and ``results_path``. Small results
    are in it as ``responses``. :func:`~airflow_claude_batch.rows.read_rows` reads the rows of a manifest. The task's
    outlet assets and OpenLineage get the counts and the cost.

    There are two forms. In one task (``wait_for_completion=True``) the operator sends, waits and lands the answers. In
    two tasks it sends and returns the manifest at once, and
    :class:`~airflow_claude_batch.sensors.MessageBatchSensor` waits and lands the answers.

    Example::

        SendMessageBatchOperator(
            task_id="label",
            messages=[
                {"key": 17, "prompt": "Is this review positive or negative? 'Great service!'"},
                {"key": 18, "prompt": "Is this review positive or negative? 'Never again.'"},
            ],
            model="claude-haiku-5-5",
            max_tokens=64,
            wait_for_completion=True,
            deferrable=True,
            max_cost=5,
        )

    Or of the rows of a table, a folder of files or a data frame, one request of each row::

        SendMessageBatchOperator(
            task_id="label",
            rows=SqlRows("warehouse", "SELECT id, title, body FROM tickets WHERE day = '{{ ds }}'"),
            key="id",
            prompt="Classify this ticket.\\n<title>{title}</title>\\n<body>{body}</body>",
            keep=["title"],
            output_schema=Label,
        )

    Arguments marked "templated" are rendered by Jinja. What another task returned is data and is never rendered.

    **What to send**: either ``messages``, or ``rows`` and ``prompt``

    :param messages: (templated) the requests: a list, an upstream task's output, or the path or URI of a ``.jsonl``
        file with an element on each line, packed with gzip or not. A template string gives the object that it names.
        Types are in ``airflow_claude_batch.elements``. An element is one of these:

        - a prompt, as a string
        - a message, ``{"role": "user", "content": …}``, or a list of messages
        - ``{"key": …, "prompt": …}`` or ``{"key": …, "messages": […]}``. The key is any JSON value, unique in the list,
          and comes back with the answer. Default: the position in the list, from 0. The mapping may override
          ``system``, ``model``, ``max_tokens`` and, in ``params``, any other parameter of the Messages API.
        - ``{"custom_id": …, "params": {…}}``, as the API itself takes it. It gets what it lacks, as all others do.

        An element's own values win over the arguments, those over ``request_params``, and those over the connection's.
        Contradictions are refused.
    :param rows: (templated) the source rows, one request of each: :class:`~airflow_claude_batch.sources.SqlRows`,
        :class:`~airflow_claude_batch.sources.FileRows`, a list of mappings, an upstream task's output, a data frame of
        pandas or polars, or a pyarrow table. Each row has the same columns.
    :param prompt: (templated) the prompt of each row: a text with ``{column}`` where a column's value goes. Values are
        put in as they are, once, and are never read as templates. Other braces stay, such as those of JSON; a name that
        is no column is refused. With spaces inside, ``{ name }`` is text; ``{{ name }}`` is Jinja's. NULL gives an
        empty text, numbers, dates and nested values are written as in JSON. Put tags around values,
        ``<body>{body}</body>``: then the model tells them from your instructions, whatever they say. ``system``, or the
        texts of its blocks, may have columns, too.
    :param key: the column, or the list of columns, that is the key of each row. Several columns give a mapping. The key
        is unique, and comes back with the answer. Default: the position of the row, which changes with the source.
    :param keep: columns that each landed row carries in ``input``, or ``"*"`` for all. Default: none.
    :param files: (templated) URIs of images and PDFs that go before the prompt, such as
        ``["s3://my_conn@bucket/{pdf_name}"]``. A path on the worker's disk stands in the template, not in the column.
    :param model: (templated) the model's id. Default: that of ``request_params``, else the connection's, else
        ``claude-opus-5-5``.
    :param max_tokens: (templated) the most tokens of each answer. Default: that of ``request_params``, else 4096.
    :param system: (templated) the system prompt of every request that has none: a string, or a list of content blocks.
    :param request_params: (templated) other parameters of the Messages API for every request, such as ``thinking``.
        ``params`` is Airflow's own: those are the DAG's and are not sent.
    :param output_schema: what every answer must be: a pydantic model or another type that pydantic's ``TypeAdapter``
        takes, or a JSON Schema as a dict or a JSON text, alone or inside ``{"type": "json_schema", "schema": {…}}``.
        Requests ask for it by ``output_config.format``, unless they have a format of their own. Constraints that the
        API does not support (bounds, lengths, patterns) are put into descriptions. Answers are validated against the
        JSON Schema and the formats in it. A valid one is in the row's ``output``. Another row has status
        ``invalid_output``, the reason in ``error`` and the answer in ``text``; it is billed, and it counts as failed.
        A model's own validators run in ``read_rows(manifest, schema=Model)``.
    :param deduplicate: send identical requests once, and give the answer to each of their rows. Default: False.
    :param canary: send one request first. If the API refuses it, stop before the others are sent. Default: False.
    :param cache_system: mark the system prompt for the prompt cache, for one hour. Needs ``system``. Default: False.
    :param warm_cache: send one request first, so that the others read the prompt cache that it wrote. Default: False.
    :param claude_conn_id: (templated) a connection of type ``claude`` or ``anthropic``. Default: ``claude_default``.

    ::

        SendMessageBatchOperator(task_id="label", messages=reviews(), system="Answer with one word.", cache_system=True)

    **Waiting**

    :param wait_for_completion: wait for the batches and land the answers in this task. Default: False.
    :param deferrable: wait in the triggerer, without occupying a worker. Default: ``[operators] default_deferrable``.
        In two tasks it counts for what the operator waits for: a full queue, or the first request alone.
    :param poll_interval: the longest time between two polls of a batch, in seconds or as a timedelta. A young batch is
        polled every 10 s. Default: ``[claude_batch] poll_interval``, else 60.
    :param timeout: how long one attempt may take from its start, waiting included, in seconds or as a timedelta.
        Default: 25 hours; the API ends a batch within 24. Nine tenths of ``execution_timeout``, if that is shorter.
    :param on_timeout: ``cancel`` the running batches at the timeout (the default), or ``leave`` them running. What was
        answered is landed either way, and the task fails. Or ``ask_directly``: ``direct_reserve`` before the timeout
        the batches are canceled, and what has no answer is asked through the Messages API, at full price: twice that of
        a batch. A worker is busy meanwhile. If its process is killed then, at most ``direct_concurrency`` requests are
        paid twice per kill. Needs ``wait_for_completion``; set ``max_cost`` beside it.
    :param direct_reserve: with ``ask_directly``, how long before the timeout that begins, in seconds or as a timedelta.
        It must be shorter than ``timeout``. Default: 30 minutes.
    :param direct_concurrency: with ``ask_directly``, how many requests are asked at the same time, 1 to 64. The rate
        limits that the API names in its responses slow it down. Default: 8.
    :param cancel_on_kill: cancel the running batches when a user ends the running or deferred task. Default: True.

    ::

        SendMessageBatchOperator(task_id="label", messages=reviews(), wait_for_completion=True, timeout=6 * 3600)

    **Money**

    :param max_cost: US dollars. Nothing is sent if the submission may cost more, with every answer as long as its
        ``max_tokens``. ``[claude_batch] max_cost_per_submission`` limits it for the deployment, and
        ``max_cost_per_day`` what all submissions of a day cost together. Default: no limit.
    :param approve_above: US dollars. If the submission may cost more, a person sees model, requests, expected and most
        cost in Airflow's UI (*Required Actions*), and approves or rejects it before it is sent. No worker is held
        meanwhile. An approval holds for these requests up to this amount: retries and clears do not ask again. Needs
        Airflow 3.1. Default: nobody is asked.
    :param approval_timeout: how long to wait for a person, in seconds or as a timedelta; it does not count for
        ``timeout``. Then it counts as rejected. Default: 24 hours. Nine tenths of ``execution_timeout``, if that is
        shorter.
    :param on_rejected: ``fail`` (the default) or ``skip`` the task after a rejection. A retry does not ask again, a
        clear does.
    :param sample: how many requests to send before a person is asked, 1,000 at most. They are chosen from all lengths
        and models. The question has their real cost, and their answers are kept. Default: 0.
    :param dry_run: check every element, estimate the cost, and send nothing. The manifest's status is ``dry_run``, and
        a sensor that gets it is skipped. Default: False.
    :param answer_store: (templated) an :class:`~airflow_claude_batch.answers.AnswerStore`: requests that earlier runs
        have asked are not sent, and take their answers from it. The estimate, ``max_cost`` and the canary leave them
        out. Default: ``[claude_batch] answer_store``; False for none.
    :param reuse_answers: continue from earlier answers after a clear, and look requests up in the answer store. False
        starts a new submission after a clear, which pays for everything again, and looks nothing up in any run. The new
        answers take the place of those in the store. A retry always continues. Default: True.

    ::

        SendMessageBatchOperator(task_id="how_much", messages=reviews(), max_cost=20, dry_run=True)

    **Failures**

    :param on_empty: if ``messages`` has no element, or ``rows`` no row, ``fail`` (the default), ``skip`` the task, or
        ``succeed`` with a manifest and a results file without rows.
    :param allow_failed: how many rows may end without an answer before the task fails: a number of rows (``5``), or a
        share of them (``0.05`` or ``"5%"``). So 1 is one row, and 1.0 is all of them. In two tasks the manifest hands
        it to the sensor. Default: 0.
    :param repair_rounds: how often one attempt sends requests again that expired, went missing or met a server error.
        Requests that the API refused are not sent again. Default: 1; 0 for never.
    :param repair_invalid: also send requests again whose answer was ``invalid_output``. If the answer was cut off at
        ``max_tokens``, the request gets twice as many, up to the model's limit. Each answer is billed; the row's
        ``replaced`` has the cost of the earlier ones. Needs ``output_schema`` and ``repair_rounds``. Default: False.
    :param on_lost: when the API no longer knows a batch: ``stop`` with an error (the default), or ``resend`` its
        requests, which may pay for them twice.

    ::

        SendMessageBatchOperator(task_id="label", messages=reviews(), on_empty="skip", allow_failed="1%")

    **Storage**

    :param results_path: (templated) the folder or URI above all submissions. Files are in
        ``<results_path>/<dag_id>/<run_id>/<task_id>[/<map_index>]/``. All workers must reach it, so it is an absolute
        path or a URI. Default: ``[claude_batch] results_path``, else ``claude_batch`` under AIRFLOW_HOME.
    :param results_format: ``jsonl`` (the default). Or ``parquet`` for a ``results.parquet`` with typed columns too, or
        ``csv`` for a ``results.csv`` for people and spreadsheets too; the manifest then names that file. Parquet needs
        the extra ``parquet``. In two tasks the manifest hands it to the sensor.
    :param delete_batches: delete the batches at the API once all their rows are landed. In two tasks the manifest hands
        it to the sensor. Default: False; the API deletes results after 29 days.

    ::

        SendMessageBatchOperator(task_id="label", messages=reviews(), results_path="s3://aws_default@my-bucket/batches")

    :raises ConfigurationError: an argument cannot be right. Raised when the DAG is parsed.
    :raises OutputSchemaError: the API does not support ``output_schema``. Raised when the DAG is parsed.
    """

    template_fields: Sequence[str] = (
        "messages",
        "rows",
        "prompt",
        "files",
        "model",
        "max_tokens",
        "system",
        "request_params",
        "claude_conn_id",
        "results_path",
        "answer_store",
        "request_summary",
    )
    template_fields_renderers = {"request_params": "json"}  # noqa: RUF012  # Airflow reads a plain class attribute
    operator_extra_links = (ClaudeBatchLink(),)
    ui_color = "#f0e6dc"
    #: False if ``messages`` come from a function.
    _messages_are_written = True

    def __init__(
        self,
        *,
        messages: Messages | XComArg | Sequence[Element | XComArg] | None = None,
        rows: Source | XComArg | Iterable[Mapping[str, Any]] | Any = None,
        prompt: str | None = None,
        key: str | Sequence[str] | None = None,
        keep: str | Sequence[str] = (),
        files: Sequence[str] = (),
        model: str | None = None,
        max_tokens: int | str | None = DEFAULT_MAX_TOKENS,
        system: str | list[Any] | None = None,
        request_params: Mapping[str, Any] | None = None,
        output_schema: Any = None,
        repair_invalid: bool = False,
        claude_conn_id: str = "claude_default",
        results_path: str | None = None,
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        poll_interval: float | timedelta | None = None,
        timeout: float | timedelta = timedelta(hours=25),
        on_timeout: Literal["cancel", "leave", "ask_directly"] = "cancel",
        direct_reserve: float | timedelta = timedelta(minutes=30),
        direct_concurrency: int = 8,
        cancel_on_kill: bool = True,
        repair_rounds: int = 1,
        allow_failed: float | str = 0,
        on_empty: Literal["fail", "skip", "succeed"] = "fail",
        answer_store: AnswerStore | Literal[False] | None = None,
        reuse_answers: bool = True,
        on_lost: Literal["stop", "resend"] = "stop",
        max_cost: float | str | Decimal | None = None,
        approve_above: float | str | Decimal | None = None,
        approval_timeout: float | timedelta = timedelta(hours=24),
        on_rejected: Literal["fail", "skip"] = "fail",
        sample: int = 0,
        deduplicate: bool = False,
        canary: bool = False,
        warm_cache: bool = False,
        cache_system: bool = False,
        delete_batches: bool = False,
        results_format: Literal["jsonl", "parquet", "csv"] = "jsonl",
        dry_run: bool = False,
        **kwargs: Any,
    ) -> None:
        check_keywords(kwargs)
        super().__init__(**kwargs)
        self.messages: Any = messages
        self.rows: Any = rows
        self.prompt = prompt
        self.key = key
        self.keep = keep
        self.files = files
        self.model = model
        # Airflow stores template fields as messages that take no subclass of int.
        self.max_tokens = int(max_tokens) if isinstance(max_tokens, NotGiven) else max_tokens
        self._has_default_max_tokens = isinstance(max_tokens, NotGiven)
        self.system = system
        self.request_params = request_params
        self.output_schema = output_schema
        self.repair_invalid = repair_invalid
        self.claude_conn_id = claude_conn_id
        self.results_path = results_path
        self.wait_for_completion = wait_for_completion
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.poll_interval = parse_poll_interval(self.task_id, poll_interval)
        self.timeout = parse_timeout(self.task_id, timeout)
        self.on_timeout = on_timeout
        self.direct_reserve = parse_direct_reserve(self.task_id, direct_reserve)
        self.direct_concurrency = direct_concurrency
        self.cancel_on_kill = cancel_on_kill
        self.repair_rounds = repair_rounds
        self.allow_failed = allow_failed
        self.on_empty = on_empty
        self.answer_store = answer_store
        self.reuse_answers = reuse_answers
        self.on_lost = on_lost
        self.max_cost = max_cost
        self.approve_above = approve_above
        self.approval_timeout = parse_approval_timeout(self.task_id, approval_timeout)
        self.on_rejected = on_rejected
        self.sample = sample
        self.deduplicate = deduplicate
        self.canary = canary
        self.warm_cache = warm_cache
        self.cache_system = cache_system
        self.delete_batches = delete_batches
        self.results_format = results_format
        self.estimate_only = dry_run  # BaseOperator.dry_run is a method
        self.request_summary = _SHOWN_LATER
        self._running_work: RunningWork | None = None
        self._rendering_field = False
        self._check_arguments()

    def execute(self, context: Context) -> dict[str, Any]:
        """Send the messages, and wait for the answers if ``wait_for_completion``. Return the manifest."""
        return self._run(context, event=None)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Continue after a deferral, with the trigger's event. Safe to call twice with the same event."""
        return self._run(context, event=event or {})

    def execute_answered(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Continue after a person has answered, or the time for that has passed. The event is Airflow's."""
        return self._run(context, event={}, answer=event or {})

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after a deferral. After Airflow's own deferral timeout too, so that answers are landed."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            return self.execute_complete(context)

    def on_kill(self) -> None:
        """Stop sending, and cancel the running batches if ``cancel_on_kill``, when the worker's process is killed."""
        if self._running_work is not None:
            self._running_work.kill(cancel=self.cancel_on_kill)

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Render what the author wrote. Leave data alone, and keep prompts out of the UI."""
        if content is self.request_summary:
            return self._summarize_requests()
        if self._rendering_field:  # a value within a field may be the same object as another field
            return self._render_text(content, context, jinja_env, seen_oids)
        self._rendering_field = True
        try:
            if content is self.messages and content is not None and not _is_literal_text(content):
                return render_messages(self, "messages", content, context, jinja_env, seen_oids)
            if content is self.rows and content is not None:
                return self._render_rows(content, context, jinja_env, seen_oids)
            if (
                content is self.prompt
                and isinstance(content, str)
                and has_templates(content)
                and not self._is_data(content)
            ):
                return render_text(self, content, context, jinja_env)
            rendered = content if self._is_data(content) else self._render_text(content, context, jinja_env, seen_oids)
        finally:
            self._rendering_field = False
        if content is self.system and content is not None:
            return HiddenValue(rendered, "the system prompt")
        return rendered

    def options(self) -> SubmissionOptions:
        """Return the arguments as they are now, frozen, for the code that runs the task."""
        from airflow_claude_batch._airflow.options import SubmissionOptions

        own: dict[str, Any] = {"timeout": self.timeout, "max_tokens": self.max_tokens, "dry_run": self.estimate_only}
        own["answer_store"] = _store_options(self.answer_store)
        if self.execution_timeout is not None:
            # Airflow ends the task's process then. Ours comes first, so that on_timeout takes effect.
            own["timeout"] = min(self.timeout, self.execution_timeout * 0.9)
            own["approval_timeout"] = min(self.approval_timeout, self.execution_timeout * 0.9)
        if self._has_default_max_tokens and self.max_tokens == DEFAULT_MAX_TOKENS:
            own["max_tokens"] = DEFAULT_MAX_TOKENS
        names = {field.name for field in fields(SubmissionOptions)} - own.keys()
        return SubmissionOptions(**{name: getattr(self, name) for name in names}, **own)

    def _run(
        self, context: Context, event: dict[str, Any] | None, answer: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        from airflow_claude_batch._airflow.map_index_label import without_broken_label
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
        with without_broken_label(context):
            return run_submission(self.options(), run, event=event, answer=answer)

    def _set_running_work(self, work: RunningWork) -> None:
        self._running_work = work

    def _summarize_requests(self) -> str:
        from airflow_claude_batch._airflow.request_summary import summarize_requests
        from airflow_claude_batch.hooks import ClaudeHook

        return summarize_requests(self.options(), ClaudeHook(self.claude_conn_id))

    def _render_rows(self, content: Any, context: Context, *arguments: Any) -> Any:
        """Render the arguments of a source. Other rows are data, or templates as ``messages`` are."""
        if isinstance(content, Source):
            return content.resolve(context)
        return render_messages(self, "rows", content, context, *arguments)

    def _render_text(self, content: Any, *arguments: Any) -> Any:
        return content if _is_literal_text(content) else super().render_template(content, *arguments)

    def _is_data(self, content: Any) -> bool:
        names = [name for name in self.template_fields if getattr(self, name) is content]
        return any(is_data(self, name) for name in names)

    def _check_arguments(self) -> None:
        """Check when the DAG is parsed what can be known then.

        :raises ConfigurationError: names the task, the argument and what it may be.
        """
        from airflow_claude_batch._airflow.check_operator import check_operator

        is_mapped = getattr(self, "_BaseOperator__from_mapped", False)
        check_operator(self.options(), is_written=self._messages_are_written and not is_mapped)
        if not self._may_read_params():
            dag = self.get_dag()
            names = (*self.template_fields, *PLACES_OF_PARAMS)
            fields = [getattr(self, name, None) for name in names]
            check_params(self.task_id, self.params, dag.params if dag else (), fields)

    def _may_read_params(self) -> bool:
        """Return True if code of the author's runs that may read ``params``."""
        return not type(self).__module__.startswith("airflow_claude_batch.")


def _store_options(store: Any) -> Any:
    """Return the options of an answer store, or whatever was given instead of one, to be checked."""
    return store.options() if hasattr(store, "options") else store


def _make_trigger(claude_conn_id: str, **kwargs: Any) -> BaseTrigger:
    from airflow_claude_batch.triggers import MessageBatchTrigger  # slow to import, and only a deferral needs it

    return MessageBatchTrigger(claude_conn_id, **kwargs)


def _is_literal_text(content: Any) -> bool:
    """Return True for a string without templates, such as a path."""
    return isinstance(content, str) and not has_templates(content)
