"""Arguments of tasks that are objects with templates in them, such as ``SqlRows`` and ``AnswerStore``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Any, ClassVar, Self

from airflow_claude_batch._airflow.compat import Context, ResolveMixin


class TemplatedArgument(ResolveMixin):
    """Base of such arguments. Nothing is read while a DAG is parsed.

    Airflow treats one as it treats the output of a task: it asks for the tasks that it refers to, and resolves it
    before the task runs. Without that, Airflow would not see an output inside of it, and would render it in place,
    which all mapped tasks and all runs of ``dag.test()`` share.
    """

    #: Attributes that are templates, or outputs of tasks.
    template_fields: ClassVar[Sequence[str]]

    def iter_references(self) -> Iterator[tuple[Any, str]]:
        """Yield the tasks whose outputs the argument needs, for Airflow, which makes them upstream tasks."""
        from airflow_claude_batch._airflow.compat import XComArg

        for name in self.template_fields:
            yield from XComArg.iter_xcom_references(getattr(self, name))

    def resolve(self, context: Context) -> Self:
        """Return a rendered copy, for Airflow, which calls this instead of rendering the argument itself."""
        task = context["task"]
        return self.rendered(lambda value: task.render_template(value, context))

    def rendered(self, render: Callable[[Any], Any]) -> Self:
        """Return a copy whose template fields are rendered."""
        argument = copy(self)
        for name in self.template_fields:
            setattr(argument, name, render(getattr(self, name)))
        return argument

    def serialize(self) -> str:
        """Return what Airflow stores and shows of the argument. It is the same each time that the DAG is parsed."""
        return repr(self)
