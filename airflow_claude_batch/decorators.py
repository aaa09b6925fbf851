"""Send the messages that a function returns or yields: ``@task.claude_batch``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from airflow_claude_batch._airflow.check_rows import check_function_input
from airflow_claude_batch._airflow.compat import DecoratedOperator, determine_kwargs, task_decorator_factory
from airflow_claude_batch._airflow.rendering import HiddenValue, is_data_for_function, unwrap
from airflow_claude_batch.operators import SendMessageBatchOperator

if TYPE_CHECKING:
    import jinja2

    from airflow_claude_batch._airflow.compat import Context, TaskDecorator


class ClaudeBatchDecoratedOperator(DecoratedOperator, SendMessageBatchOperator):
    """The operator whose messages are what a function returns or yields.

    The function is called when the messages are needed, and not again when the task resumes after a deferral.
    """

    custom_operator_name = "@task.claude_batch"
    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(name for name in SendMessageBatchOperator.template_fields if name not in ("messages", "rows")),
    )
    template_fields_renderers = {  # noqa: RUF012  # Airflow reads a plain class attribute
        **DecoratedOperator.template_fields_renderers,
        **SendMessageBatchOperator.template_fields_renderers,
    }

    _messages_are_written = False

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Sequence[Any] | None = None,
        op_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        for name in ("messages", "rows"):
            if name in kwargs:
                raise TypeError(f"@task.claude_batch takes no {name}. Let the function return or yield them.")
        super().__init__(python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, messages=None, **kwargs)
        check_function_input(self.options())

    def _may_read_params(self) -> bool:
        """Return True if the function takes ``params`` or all of the context, or asks for the context."""
        parameters = inspect.signature(self.python_callable).parameters.values()
        names = getattr(getattr(self.python_callable, "__code__", None), "co_names", ())
        takes = any(each.name in ("params", "dag_run") or each.kind is each.VAR_KEYWORD for each in parameters)
        return takes or "get_current_context" in names

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Render as the operator does. Keep the function's arguments out of the UI: prompts are made of them."""
        if not content or (content is not self.op_args and content is not self.op_kwargs):
            return super().render_template(content, context, jinja_env, seen_oids)
        if content is self.op_kwargs:
            seen_oids = {
                *(seen_oids or ()),
                *(id(value) for name, value in content.items() if is_data_for_function(self, name)),
            }
        return HiddenValue(super().render_template(content, context, jinja_env, seen_oids), "given to the function")

    def execute(self, context: Context) -> dict[str, Any]:
        """Send what the function returns or yields. Return the manifest."""
        self._set_input(context)
        return SendMessageBatchOperator.execute(self, context)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Continue after a deferral, with the trigger's event."""
        self._set_input(context)
        return SendMessageBatchOperator.execute_complete(self, context, event)

    def _set_input(self, context: Context) -> None:
        """Let the requests come from the function: rows if there is a prompt for them, else messages."""
        function = _Function(self, context)
        if self.prompt is None:
            self.messages = _FunctionMessages(function)
            return
        from airflow_claude_batch._airflow.read_rows import FunctionRows

        self.rows = FunctionRows(function, function.name)


class _Function:
    """The function of a task, with the arguments that Airflow gives it."""

    def __init__(self, task: ClaudeBatchDecoratedOperator, context: Context) -> None:
        self._task = task
        self._context = context
        #: What it returns, for errors.
        self.name = f"what {getattr(task.python_callable, '__name__', 'the function')} returned"

    def __call__(self) -> Any:
        function, args, named = self._task.python_callable, unwrap(self._task.op_args), unwrap(self._task.op_kwargs)
        return function(*args, **determine_kwargs(function, args, {**self._context, **named}))


class _FunctionMessages:
    """The messages that a function returns or yields. Each iteration calls it."""

    def __init__(self, function: _Function) -> None:
        self._function = function

    def __iter__(self) -> Iterator[Any]:
        from airflow_claude_batch._airflow.read_messages import iter_elements

        return iter(iter_elements(self._function(), name=self._function.name))


def claude_batch_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Send the messages that a function returns or yields as message batches.

    The task's output is the manifest. The function may take Airflow's context variables as arguments, as any TaskFlow
    function does, and may be mapped.

    Example::

        @task.claude_batch(model="claude-haiku-5-5", max_tokens=256, wait_for_completion=True)
        def summarize(articles: list[dict]):
            for article in articles:
                yield {"key": article["id"], "prompt": f"Summarize in one sentence: {article['body']}"}

        summarize(articles())

    With ``prompt`` the function returns or yields source rows: mappings, a data frame, ``SqlRows`` or ``FileRows``::

        @task.claude_batch(prompt="Summarize in one sentence: {body}", key="id", wait_for_completion=True)
        def summarize(day: str):
            return SqlRows("warehouse", "SELECT id, body FROM articles WHERE day = %s", parameters=[day])

    :param python_callable: the function. Airflow gives it.
    :param kwargs: every argument of :class:`~airflow_claude_batch.operators.SendMessageBatchOperator` except
        ``messages`` and ``rows``.
    :raises TypeError: one of these was given.
    :raises ConfigurationError: ``key``, ``keep`` or ``files`` is given without ``prompt``.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=ClaudeBatchDecoratedOperator, **kwargs
    )
