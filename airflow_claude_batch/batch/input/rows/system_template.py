"""The system prompt as a template: a text, or content blocks whose texts are templates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from airflow_claude_batch.batch.input.rows.source import SourceRow
from airflow_claude_batch.batch.input.rows.template import PromptTemplate

#: Makes the system prompt of a row. None for a row without one.
SystemOfRow = Callable[[SourceRow], str | list[Any] | None]


class SystemTemplate:
    """A system prompt in which ``{column}`` stands for the value of a column.

    >>> system = SystemTemplate([{"type": "text", "text": "Write in {language}."}]).bind(["language"])
    >>> system({"language": "French"})
    [{'type': 'text', 'text': 'Write in French.'}]

    :param system: a text, or a list of content blocks. What else is in a block stays as it is.
    """

    def __init__(self, system: str | Sequence[Any]) -> None:
        self._system = system

    def names(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Return the columns that it uses, in the order of their first use."""
        used = (name for _, template in self._templates() for name in template.names(columns))
        return tuple(dict.fromkeys(used))

    def bind(self, columns: Sequence[str]) -> SystemOfRow | None:
        """Check the template, and return the function that makes the system prompt of a row.

        :return: None if the system prompt is the same for every row.
        :raises InputError: braces in it look like a placeholder and are none.
        """
        texts = {number: template.bind(columns) for number, template in self._templates()}
        if not self.names(columns):
            return None
        if isinstance(self._system, str):
            return lambda row: texts[0](row) or None  # the API refuses an empty one
        blocks = self._system

        def system_of(row: SourceRow) -> list[Any] | None:
            filled = [
                {**block, "text": texts[number](row)} if number in texts else block
                for number, block in enumerate(blocks)
            ]
            return [block for block in filled if not isinstance(block, Mapping) or block.get("text", True)] or None

        return system_of

    def _templates(self) -> Iterator[tuple[int, PromptTemplate]]:
        """Yield the templates with the numbers of their blocks."""
        if isinstance(self._system, str):
            yield 0, PromptTemplate(self._system, name="system")
            return
        for number, block in enumerate(self._system):
            if isinstance(block, Mapping) and isinstance(block.get("text"), str):
                yield number, PromptTemplate(block["text"], name=f"system[{number}].text")
