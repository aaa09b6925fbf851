"""How ``messages`` are rendered: what the author wrote is a template, data is not, and neither is shown in the UI."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sized
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

    from airflow_claude_batch._airflow.compat import BaseOperator, Context

MARKS = ("{{", "{%", "{#")


class HiddenValue:
    """A rendered value of which the UI shows only a summary: prompts do not belong there.

    Airflow stores every rendered template field in its database and shows it; for values that are not plain JSON it
    asks ``serialize()`` or ``str()``.
    """

    def __init__(self, value: Any, origin: str) -> None:
        self.value = value
        self.origin = origin

    def serialize(self) -> str:
        """What the UI shows."""
        return str(self)

    def __str__(self) -> str:
        size = f"{len(self.value):,}" if isinstance(self.value, Sized) else "an unknown number of"
        return f"{size} {'characters' if isinstance(self.value, str) else 'elements'} ({self.origin})"


def unwrap(value: Any) -> Any:
    """The value itself, whether it was rendered or given in a test."""
    return value.value if isinstance(value, HiddenValue) else value


def render_messages(
    task: BaseOperator,
    content: Any,
    context: Context,
    jinja_env: jinja2.Environment | None,
    seen_oids: set[int] | None,
) -> HiddenValue:
    """Render the ``messages`` field as a whole.

    A string is a template that gives a native object whatever the DAG's setting. A literal list is rendered element by
    element. What comes from another task, or is one of many mapped arguments, is data and stays as it is.
    """
    if isinstance(content, str):
        return HiddenValue(render_object(task, content, context, jinja_env), "from a template")
    if _is_reference(content):
        return HiddenValue(content.resolve(context), "from an upstream task")
    if _is_mapped_argument(task) or id(content) in (seen_oids or ()):
        return HiddenValue(content, "a mapped argument")
    if not has_templates(content):
        return HiddenValue(content, "written in the DAG")
    return HiddenValue(_rendered(content, context, _environment(task, jinja_env)), "written in the DAG")


def render_object(task: BaseOperator, text: str, context: Context, jinja_env: jinja2.Environment | None) -> Any:
    """Render a template that gives the object it names, and not its text, whatever the DAG's setting."""
    from jinja2.nativetypes import native_concat

    return _render(text, context, _environment(task, jinja_env), native_concat)


def _rendered(content: Any, context: Context, env: jinja2.Environment) -> Any:
    """A copy of literal content with its strings rendered."""
    if isinstance(content, str):
        return _render(content, context, env, _text_or_object) if has_templates(content) else content
    if _is_reference(content):
        return content.resolve(context)
    if isinstance(content, Mapping):
        return {key: _rendered(value, context, env) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_rendered(value, context, env) for value in content]
    return content


def _environment(task: BaseOperator, jinja_env: jinja2.Environment | None) -> jinja2.Environment:
    """The task's own environment, as far as one that leaves values as they are can be."""
    from jinja2.nativetypes import NativeCodeGenerator

    env = (jinja_env or task.get_template_env()).overlay()
    env.code_generator_class = NativeCodeGenerator
    return env


def _render(text: str, context: Context, env: jinja2.Environment, join: Callable[[Iterable[Any]], Any]) -> Any:
    template = env.from_string(text)
    return join(template.root_render_func(template.new_context(dict(context))))


def _text_or_object(values: Iterable[Any]) -> Any:
    """A template within an element: a list or mapping stays one, all else is text, also what looks like a number."""
    parts = list(values)
    if len(parts) == 1 and isinstance(parts[0], Mapping | list | tuple):
        return parts[0]
    return "".join(map(str, parts))


def _is_reference(content: Any) -> bool:
    """Whether it stands for another task's output. (A path has a ``resolve`` as well.)"""
    return hasattr(content, "iter_references") and hasattr(content, "resolve")


def is_data(task: BaseOperator, field: str) -> bool:
    """Whether another task gave a field to ``expand_kwargs``: Airflow takes it for what the author wrote.

    What another task gives to ``expand``, Airflow leaves alone by itself.
    """
    mapped = _mapped(task)
    return mapped is not None and field not in mapped.partial_kwargs and _is_reference(mapped.expand_input.value)


def is_data_for_function(task: BaseOperator, argument: str) -> bool:
    """The same for an argument of a decorated task's function."""
    mapped = _mapped(task)
    expanded = getattr(mapped, "op_kwargs_expand_input", None)
    return expanded is not None and argument not in mapped.partial_kwargs["op_kwargs"] and _is_reference(expanded.value)


def _is_mapped_argument(task: BaseOperator) -> bool:
    """Whether ``messages`` was given to ``expand``, and not to ``partial``."""
    mapped = _mapped(task)
    return mapped is not None and "messages" not in mapped.partial_kwargs


def _mapped(task: BaseOperator) -> Any:
    """The mapped operator that a task comes of; None if it is not mapped."""
    if not getattr(task, "_BaseOperator__from_mapped", False):
        return None
    dag = task.get_dag()
    mapped = dag.task_dict.get(task.task_id) if dag else None
    return mapped if hasattr(mapped, "partial_kwargs") else None


def has_templates(content: Any) -> bool:
    """Whether anything in literal content is a template, or another task's output."""
    if isinstance(content, str):
        return any(mark in content for mark in MARKS)
    if isinstance(content, Mapping):
        return any(map(has_templates, content.values()))
    if isinstance(content, list | tuple):
        return any(map(has_templates, content))
    return _is_reference(content)
