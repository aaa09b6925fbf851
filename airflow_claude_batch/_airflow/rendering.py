"""Render ``messages``: what the author wrote is a template, data is not, and the UI shows neither."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

    from airflow_claude_batch._airflow.compat import BaseOperator, Context

TEMPLATE_MARKS = ("{{", "{%", "{#")


class HiddenValue:
    """A rendered value of which the UI shows only a summary, because it holds prompts.

    Airflow stores every rendered template field in its database and shows it. For values that are not JSON it calls
    ``serialize()`` or ``str()``.
    """

    def __init__(self, value: Any, origin: str) -> None:
        self.value = value
        self.origin = origin

    # Templates of the author's, such as map_index_template, use the value itself: its length, or an element.

    def __len__(self) -> int:
        return len(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.value)

    def __contains__(self, item: Any) -> bool:
        return item in self.value

    def __getitem__(self, key: Any) -> Any:
        return self.value[key]

    def serialize(self) -> str:
        """Return the summary that the UI shows."""
        return str(self)

    def __str__(self) -> str:
        size = f"{len(self.value):,}" if isinstance(self.value, Sized) else "an unknown number of"
        unit = "character" if isinstance(self.value, str) else "element"
        return f"{size} {unit}{'' if size == '1' else 's'} ({self.origin})"


class HiddenRows(HiddenValue):
    """A rendered manifest. The UI shows where its rows are, because a small manifest holds the rows themselves."""

    def __init__(self, value: Any) -> None:
        super().__init__(value, "from an upstream task")

    def __str__(self) -> str:
        if not isinstance(self.value, Mapping):
            return super().__str__()
        from airflow_claude_batch.batch.quantity import quantity  # not when a DAG is parsed

        count, path = self.value.get("request_count"), self.value.get("results_path")
        return f"{quantity(count, 'row')} in {path}" if isinstance(count, int) and path else "a manifest without rows"


def unwrap(value: Any) -> Any:
    """Return the value inside a HiddenValue, any other value as it is."""
    return value.value if isinstance(value, HiddenValue) else value


def render_messages(
    task: BaseOperator,
    field: str,
    content: Any,
    context: Context,
    jinja_env: jinja2.Environment | None,
    seen_oids: set[int] | None,
) -> HiddenValue:
    """Render the field ``messages`` or ``rows`` as a whole.

    A string is a template that gives a native object, whatever the DAG's setting. A literal list is rendered element by
    element. What another task returned, or what is one of many mapped arguments, is data and stays as it is.
    """
    if isinstance(content, str):
        return HiddenValue(render_object(task, content, context, jinja_env), "from a template")
    if _is_reference(content):
        return HiddenValue(content.resolve(context), "from an upstream task")
    if _is_mapped_argument(task, field) or id(content) in (seen_oids or ()):
        return HiddenValue(content, "a mapped argument")
    if not has_templates(content):
        return HiddenValue(content, "written in the DAG")
    return HiddenValue(_rendered(content, context, _native_environment(task, jinja_env)), "written in the DAG")


def render_object(task: BaseOperator, text: str, context: Context, jinja_env: jinja2.Environment | None) -> Any:
    """Render a template to the object that it names instead of its text, whatever the DAG's setting."""
    from jinja2.nativetypes import native_concat

    return _render(text, context, _native_environment(task, jinja_env), native_concat)


def render_text(task: BaseOperator, text: str, context: Context, jinja_env: jinja2.Environment | None) -> str:
    """Render a template to a text, whatever the DAG's setting: a prompt that looks like JSON must not become a dict."""
    from jinja2.compiler import CodeGenerator

    env = (jinja_env or task.get_template_env()).overlay()
    env.code_generator_class = CodeGenerator
    return str(_render(text, context, env, "".join))


def is_data(task: BaseOperator, field: str) -> bool:
    """Return True if another task gave the field to ``expand_kwargs``, which Airflow mistakes for the author's text.

    Airflow itself does not render what another task gives to ``expand``.
    """
    mapped = _mapped_operator(task)
    return mapped is not None and field not in mapped.partial_kwargs and _is_reference(mapped.expand_input.value)


def is_data_for_function(task: BaseOperator, argument: str) -> bool:
    """Return True if another task gave an argument of a decorated task's function to ``expand_kwargs``."""
    mapped = _mapped_operator(task)
    expanded = getattr(mapped, "op_kwargs_expand_input", None)
    return expanded is not None and argument not in mapped.partial_kwargs["op_kwargs"] and _is_reference(expanded.value)


def has_templates(content: Any) -> bool:
    """Return True if anything in literal content is a template, or another task's output."""
    if isinstance(content, str):
        return any(mark in content for mark in TEMPLATE_MARKS)
    if isinstance(content, Mapping):
        return any(map(has_templates, content.values()))
    if isinstance(content, list | tuple):
        return any(map(has_templates, content))
    return _is_reference(content)


def _rendered(content: Any, context: Context, env: jinja2.Environment) -> Any:
    """Return a copy of literal content with its strings rendered."""
    if isinstance(content, str):
        return _render(content, context, env, _text_or_container) if has_templates(content) else content
    if _is_reference(content):
        return content.resolve(context)
    if isinstance(content, Mapping):
        return {key: _rendered(value, context, env) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_rendered(value, context, env) for value in content]
    return content


def _native_environment(task: BaseOperator, jinja_env: jinja2.Environment | None) -> jinja2.Environment:
    """Return the task's own environment, changed so that expressions give objects and not text."""
    from jinja2.nativetypes import NativeCodeGenerator

    env = (jinja_env or task.get_template_env()).overlay()
    env.code_generator_class = NativeCodeGenerator
    return env


def _render(text: str, context: Context, env: jinja2.Environment, join: Callable[[Iterable[Any]], Any]) -> Any:
    template = env.from_string(text)
    return join(template.root_render_func(template.new_context(dict(context))))


def _text_or_container(values: Iterable[Any]) -> Any:
    """Join the values of a template within an element: a list or mapping stays one, everything else becomes text."""
    parts = list(values)
    if len(parts) == 1 and isinstance(parts[0], Mapping | list | tuple):
        return parts[0]
    return "".join(map(str, parts))


def _is_reference(content: Any) -> bool:
    """Return True if it stands for another task's output. (A path has a ``resolve`` as well.)"""
    return hasattr(content, "iter_references") and hasattr(content, "resolve")


def _is_mapped_argument(task: BaseOperator, field: str) -> bool:
    """Return True if a field was given to ``expand``, and not to ``partial``."""
    mapped = _mapped_operator(task)
    return mapped is not None and field not in mapped.partial_kwargs


def _mapped_operator(task: BaseOperator) -> Any:
    """Return the mapped operator that a task was made from, None if it is not mapped."""
    if not getattr(task, "_BaseOperator__from_mapped", False):
        return None
    dag = task.get_dag()
    mapped = dag.task_dict.get(task.task_id) if dag else None
    return mapped if hasattr(mapped, "partial_kwargs") else None
