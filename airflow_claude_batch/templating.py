"""How ``messages`` are rendered: what the author wrote is a template, data is not, and neither is shown in the UI."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

    from airflow_claude_batch._compat import BaseOperator, Context

MARKS = ("{{", "{%", "{#")


class Unshown:
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


def plain(value: Any) -> Any:
    """The value itself, whether it was rendered or given in a test."""
    return value.value if isinstance(value, Unshown) else value


def render_messages(
    task: BaseOperator,
    content: Any,
    context: Context,
    jinja_env: jinja2.Environment | None,
    seen_oids: set[int] | None,
) -> Unshown:
    """Render the ``messages`` field as a whole.

    A string is a template that gives a native object whatever the DAG's setting. A literal list is rendered element by
    element. What comes from another task, or is one of many mapped arguments, is data and stays as it is.
    """
    if isinstance(content, str):
        return Unshown(_native(task, content, context, jinja_env), "from a template")
    if hasattr(content, "resolve"):
        return Unshown(content.resolve(context), "from an upstream task")
    if _is_mapped(task) or id(content) in (seen_oids or ()):
        return Unshown(content, "a mapped argument")
    if not has_marks(content):
        return Unshown(content, "written in the DAG")
    return Unshown(_rendered(task, content, context, jinja_env), "written in the DAG")


def _rendered(task: BaseOperator, content: Any, context: Context, jinja_env: jinja2.Environment | None) -> Any:
    """A copy of literal content with its strings rendered; prompts that look like numbers stay strings."""
    env = jinja_env or task.get_template_env()
    if isinstance(content, str):
        return env.from_string(content).render(_names(context)) if has_marks(content) else content
    if hasattr(content, "resolve"):
        return content.resolve(context)
    if isinstance(content, Mapping):
        return {key: _rendered(task, value, context, env) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_rendered(task, value, context, env) for value in content]
    return content


def _native(task: BaseOperator, content: str, context: Context, jinja_env: jinja2.Environment | None) -> Any:
    from jinja2.nativetypes import NativeEnvironment

    env = jinja_env or task.get_template_env()
    native = NativeEnvironment(undefined=env.undefined)
    native.globals.update(env.globals)
    native.filters.update(env.filters)
    return native.from_string(content).render(_names(context))


def _names(context: Context) -> dict[str, Any]:
    return dict(context)


def _is_mapped(task: BaseOperator) -> bool:
    return bool(getattr(task, "_BaseOperator__from_mapped", False))


def has_marks(content: Any) -> bool:
    """Whether anything in literal content is a template, or another task's output."""
    if isinstance(content, str):
        return any(mark in content for mark in MARKS)
    if isinstance(content, Mapping):
        return any(map(has_marks, content.values()))
    if isinstance(content, list | tuple):
        return any(map(has_marks, content))
    return hasattr(content, "resolve")
