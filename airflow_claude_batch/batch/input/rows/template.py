r"""Prompt templates: a text in which ``{column}`` stands for the value of a column.

A placeholder is ``{``, the exact name of a column, ``}``. All other braces stay as they are: JSON, CSS, regular
expressions, LaTeX. But braces that look like a placeholder and are none are refused, because a misspelt name would go
to the model as it is, in each request:

=======================  ==========================================================================
``{titel}``              a name that no column has
``{}``, ``{0}``          placeholders of ``str.format`` by position, but not in ``\d{3}`` and ``x^{2}``
``{a.b}``, ``{a[0]}``    parts of a value
``{a!r}``, ``{a:>10}``   conversions; the latter if ``a`` is a column
=======================  ==========================================================================

A space after the first brace keeps both as text: ``{ titel }``. Values are never read as templates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from airflow_claude_batch.batch.input.rows.column_names import find_similar, list_columns, short_name
from airflow_claude_batch.batch.input.rows.source import SourceRow
from airflow_claude_batch.batch.input.rows.values import ValueFormError, text_of
from airflow_claude_batch.exceptions import NOTHING_SENT, InputError

_BRACES: Final = re.compile(r"\{([^{}]*)\}")
#: What Jinja replaces before the columns are known.
_JINJA: Final = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
#: A name, then what ``str.format`` reads after it.
_FIELD: Final = re.compile(
    r"(?P<name>[^.\[\]!:\n]+)(?P<part>(?:\.\w+|\[[^\[\]\n]*\])*)(?P<conversion>![rsa])?(?P<spec>(?::.*)?)"
)
#: A space after a colon: a mapping, or CSS, and no format.
_AFTER_COLON: Final = re.compile(r":\s")
#: Characters before braces with a number that are part of a regular expression or of LaTeX.
_BEFORE_COUNT: Final = frozenset("_)]}\\.^")
_GIVE_NAME: Final = "Write the name of a column in the braces."


class PromptTemplate:
    """A text that becomes the text of one request for each source row.

    >>> render = PromptTemplate("<t>{title}</t> {body}").bind(["id", "title", "body"])
    >>> render({"id": 7, "title": "Late", "body": "Where is {it}?"})
    '<t>Late</t> Where is {it}?'

    :param text: the template, after Jinja.
    :param name: the argument that it comes from, for errors.
    """

    def __init__(self, text: str, name: str = "prompt") -> None:
        self.text = text
        self.name = name

    def names(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Return the columns that the template uses, in the order of their first use."""
        known = frozenset(columns)
        used = (match[1] for match in _BRACES.finditer(self.text) if match[1] in known)
        return tuple(dict.fromkeys(used))

    def check_form(self) -> None:
        """Raise for placeholders that are wrong whatever the columns are. For a DAG that is being parsed.

        The text may still hold Jinja, which is left out.

        :raises InputError: names the placeholder, and the remedy.
        """
        for match in _BRACES.finditer(_JINJA.sub("x", self.text)):
            if problem := _wrong_form(match):
                raise self._error(match[1], *problem)

    def check(self, columns: Sequence[str], *, needs_column: bool = False) -> None:
        """Raise for braces that look like a placeholder and are none.

        :param needs_column: refuse a template without a placeholder, too.
        :raises InputError: names the placeholder, the columns that there are, and the remedy.
        """
        known, has_placeholder = frozenset(columns), False
        for match in _BRACES.finditer(self.text):
            if match[1] in known:
                has_placeholder = True
            elif problem := _wrong_form(match) or _wrong_name(match[1], columns):
                raise self._error(match[1], *problem)
        if needs_column and not has_placeholder:
            raise InputError(
                f"{self.name} names no column: the request of every row would be the same.",
                NOTHING_SENT,
                f"Write the name of a column in braces where its value belongs. {list_columns(columns)}",
            )

    def bind(self, columns: Sequence[str]) -> Callable[[SourceRow], str]:
        """Check the template, and return the function that makes the text of a row.

        The function raises KeyError for a row that lacks a column, and ValueFormError, with the column, for a value
        that has no form as text.

        :raises InputError: see :meth:`check`.
        """
        self.check(columns)
        pieces, names = self._split(columns)
        if not names:
            return lambda _row: self.text
        slots = tuple((2 * number + 1, name) for number, name in enumerate(names))

        def render(row: SourceRow) -> str:
            parts = pieces.copy()
            for position, name in slots:
                value = row[name]
                if type(value) is str:
                    parts[position] = value
                    continue
                try:
                    parts[position] = text_of(value)
                except ValueFormError as error:
                    error.column = name
                    raise
            return "".join(parts)

        return render

    def _split(self, columns: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the text with its placeholders at the odd positions, and the columns that belong there."""
        known = frozenset(columns)
        pieces: list[str] = []
        names: list[str] = []
        end = 0
        for match in _BRACES.finditer(self.text):
            if match[1] in known:
                pieces += (self.text[end : match.start()], "")
                names.append(match[1])
                end = match.end()
        return [*pieces, self.text[end:]], names

    def _error(self, inside: str, problem: str, remedy: str) -> InputError:
        shown = short_name(inside)
        as_text = f"{{ {shown.strip()} }}" if inside else "{ }"
        return InputError(
            f"{self.name}: {{{shown}}} {problem}.",
            NOTHING_SENT,
            remedy,
            f"To keep the braces as text, write a space after the first: {as_text}",
        )


def _wrong_form(match: re.Match[str]) -> tuple[str, str] | None:
    """Return what is wrong with braces whatever the columns are, and the remedy. None if nothing is."""
    inside = match[1]
    if not inside:
        return "has no name", _GIVE_NAME
    if inside.isdecimal():
        before = match.string[max(0, match.start() - 1) : match.start()]
        is_count = before.isalnum() or (before != "" and before in _BEFORE_COUNT)
        return None if is_count else ("is a position, but columns have names", _GIVE_NAME)
    field = _FIELD.fullmatch(inside)
    if field and field["conversion"] and (_is_name(field["name"]) or field["name"].isdecimal()):
        return f"has the conversion {field['conversion']}", _whole_columns("Convert the value")
    return None


def _wrong_name(inside: str, columns: Sequence[str]) -> tuple[str, str] | None:
    """Return what is wrong with braces that name no column, and the remedy. None if they are text."""
    field = _FIELD.fullmatch(inside)
    if field is None:
        return None
    is_column, is_mapping = field["name"] in columns, _AFTER_COLON.match(field["spec"]) is not None
    if not (is_column or _is_name(field["name"])) or is_mapping:
        return None
    if field["part"]:
        return "selects a part of a value", f"{_whole_columns('Select the part')} {list_columns(columns)}"
    if field["spec"]:
        return ("has a format", _whole_columns("Format the value")) if is_column else None
    similar = find_similar(inside, columns)
    hint = "" if similar is None else f"Did you mean {{{short_name(similar)}}}? "
    return "is no column of the rows", f"{hint}{list_columns(columns)}"


def _whole_columns(verb: str) -> str:
    return f"Only whole columns are replaced. {verb} in the query or the frame, under a name of its own."


def _is_name(text: str) -> bool:
    """Return True for one or more words with spaces or hyphens between. The first begins with a letter or ``_``."""
    words = re.split(r"[ -]+", text)
    return words[0].isidentifier() and all(f"_{word}".isidentifier() for word in words)
