"""``@task.claude_batch``: a function gives the messages, the task gives the manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from airflow_claude_batch._airflow.compat import DecoratedOperator, determine_kwargs, task_decorator_factory
from airflow_claude_batch._airflow.rendering import HiddenValue, is_data_for_function, unwrap
from airflow_claude_batch.operators import SendMessageBatchOperator

if TYPE_CHECKING:
    import jinja2

    from airflow_claude_batch._airflow.compat import Context, TaskDecorator


class ClaudeBatchDecoratedOperator(DecoratedOperator, SendMessageBatchOperator):
    """The operator whose messages are what a function returns or yields.

    The function is called when the messages are needed: not again when the task resumes after a deferral.
    """

    custom_operator_name = "@task.claude_batch"
    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(name for name in SendMessageBatchOperator.template_fields if name != "messages"),
    )
    template_fields_renderers = {  # noqa: RUF012  # Airflow reads a plain class attribute
        **DecoratedOperator.template_fields_renderers,
        **SendMessageBatchOperator.template_fields_renderers,
    }

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Sequence[Any] | None = None,
        op_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if "messages" in kwargs:
            raise TypeError("@task.claude_batch takes its messages from the function: return or yield them")
        super().__init__(python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, messages=None, **kwargs)

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Render as the operator does, and keep what the function is called with out of the UI: prompts come of it."""
        if not content or (content is not self.op_args and content is not self.op_kwargs):
            return super().render_template(content, context, jinja_env, seen_oids)
        if content is self.op_kwargs:
            seen_oids = {
                *(seen_oids or ()),
                *(id(value) for name, value in content.items() if is_data_for_function(self, name)),
            }
        return HiddenValue(super().render_template(content, context, jinja_env, seen_oids), "given to the function")

    def execute(self, context: Context) -> dict[str, Any]:
        """Call the function and send what it gives."""
        self.messages = _Returned(self, context)
        return SendMessageBatchOperator.execute(self, context)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Go on after a deferral."""
        self.messages = _Returned(self, context)
        return SendMessageBatchOperator.execute_complete(self, context, event)


class _Returned:
    """What the function gives, each time that it is asked for."""

    def __init__(self, task: ClaudeBatchDecoratedOperator, context: Context) -> None:
        self._task = task
        self._context = context

    def __iter__(self) -> Iterator[Any]:
        from airflow_claude_batch._airflow.read_messages import elements

        function, args, named = self._task.python_callable, unwrap(self._task.op_args), unwrap(self._task.op_kwargs)
        kwargs = determine_kwargs(function, args, {**self._context, **named})
        return iter(elements(function(*args, **kwargs)))


def claude_batch_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Make a function the source of a message batch's messages; takes the operator's arguments.

    :param python_callable: the function; Airflow gives it.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=ClaudeBatchDecoratedOperator, **kwargs
    )
