"""Makes one element of ``messages`` of each source row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

from airflow_claude_batch.batch.input.iterating import iterating
from airflow_claude_batch.batch.input.rows.column_names import short_name
from airflow_claude_batch.batch.input.rows.row_columns import (
    KeptEncoder,
    bind_key,
    choose_columns,
    is_encodable,
    not_unicode,
)
from airflow_claude_batch.batch.input.rows.row_errors import row_error, row_line
from airflow_claude_batch.batch.input.rows.source import RowSource, SourceRow
from airflow_claude_batch.batch.input.rows.system_template import SystemTemplate
from airflow_claude_batch.batch.input.rows.template import PromptTemplate
from airflow_claude_batch.batch.input.rows.values import ValueFormError, text_of
from airflow_claude_batch.exceptions import NOTHING_SENT, InvalidMessageError, SourceError

#: Makes the content blocks of the files of one source row.
RowBlocks = Callable[[SourceRow], list[dict[str, Any]]]
_BLANK_PROMPT: Final = "Leave such rows out in the query or the frame, or write text around the columns in the prompt."


class RowFiles(Protocol):
    """Files that go into the request of a row, before its text."""

    def bind(self, columns: Sequence[str]) -> RowBlocks:
        """Return the function that makes the content blocks of a row.

        It may raise InvalidMessageError or SourceError, which need not name the row.

        :raises InputError: the rows lack a column.
        """


class RowElements:
    """The elements of ``messages`` that source rows give: one each, in their order.

    An element has the fields ``prompt``, ``key`` if the rows have one, and ``system`` if its template names a column.
    While one is read, ``kept`` and ``place`` tell about its row. Each iteration reads the source anew.

    Example::

        elements = RowElements(source, prompt="Label: {title}", key="id", keep=["title"])
        for element in elements:
            element         # {"key": 7, "prompt": "Label: Late parcel"}
            elements.kept   # b'{"title":"Late parcel"}'
        elements.types      # {"title": "text"}

    :param prompt: template of the text.
    :param system: template of the system prompt: a text, or content blocks whose texts are templates.
    :param key: a column, or several, which give a mapping as the key. None: the position of the row is its key.
    :param keep: columns that the landed rows carry. ``"*"`` is all of them.
    :param files: files that go before the text.
    :raises InputError: from the iteration: a template, ``key`` or ``keep`` names a column that there is not.
    :raises InvalidMessageError: from the iteration: a row cannot be sent; names it, the column and the remedy.
    :raises SourceError: from the iteration: the rows, or the files of one, cannot be read now.
    """

    def __init__(
        self,
        source: RowSource,
        *,
        prompt: str,
        system: str | Sequence[Any] | None = None,
        key: str | Sequence[str] | None = None,
        keep: str | Sequence[str] = (),
        files: RowFiles | None = None,
    ) -> None:
        self._source = source
        self._prompt = PromptTemplate(prompt)
        self._system = None if system is None else SystemTemplate(system)
        self._key = key or None
        self._keep = keep or ()
        self._files = files
        self._kept: KeptEncoder | None = None
        self._last: tuple[int, SourceRow] = 0, {}
        #: The kept columns of the last row as a JSON object. None if nothing is kept.
        self.kept: bytes | None = None

    @property
    def types(self) -> dict[str, str]:
        """The kept columns in their order, each with the word for the type of its values until now."""
        return {} if self._kept is None else self._kept.types.words()

    @property
    def place(self) -> str:
        """Where the source has the last row. Empty if its number says all."""
        return self._source.place

    def __iter__(self) -> Iterator[dict[str, Any]]:
        make: Callable[[SourceRow], dict[str, Any]] | None = None
        self.kept = None
        with iterating(self._source) as rows:
            for index, row in enumerate(rows):
                if make is None:
                    make = self._bind(self._source.columns)
                yield self._element(index, row, make)
        if make is None and self._source.columns:  # a wrong name is found on a day without rows, too
            self._bind(self._source.columns)

    def _element(self, index: int, row: SourceRow, make: Callable[[SourceRow], dict[str, Any]]) -> dict[str, Any]:
        self._last = index, row
        try:
            element = make(row)
            self.kept = None if self._kept is None else self._kept.encode(row)
        except SourceError as error:
            first, *lines = str(error).split("\n")
            raise SourceError(row_line(index, self._source.place, first), *lines) from error.__cause__
        except (KeyError, ValueFormError, InvalidMessageError) as error:
            raise self._error(index, error) from None
        return element

    def _bind(self, columns: Sequence[str]) -> Callable[[SourceRow], dict[str, Any]]:
        """Check what the arguments name, and return the function that makes the element of a row.

        :raises InputError: the rows lack a column.
        """
        system = None if self._system is None else self._system.bind(columns)
        self._prompt.check(columns, needs_column=self._files is None and system is None)
        blocks_of = None if self._files is None else self._files.bind(columns)
        key_of = None if self._key is None else bind_key(choose_columns("key", self._key, columns))
        kept = choose_columns("keep", self._keep, columns)
        self._kept = KeptEncoder(kept) if kept else None
        text_of_row = self._prompt.bind(columns)

        def make(row: SourceRow) -> dict[str, Any]:
            element: dict[str, Any] = {} if key_of is None else {"key": key_of(row)}
            text = text_of_row(row)
            if not text or text.isspace():
                raise self._blank_prompt(columns)
            element["prompt"] = text if blocks_of is None else [*blocks_of(row), {"type": "text", "text": text}]
            if system is not None:
                element["system"] = system(row)
            return element

        return make

    def system_column(self) -> str | None:
        """Return a column of the last row that the system prompt has. None if that is the same for every row."""
        return None if self._system is None else next(iter(self._system.names(self._source.columns)), None)

    def broken_text(self) -> InvalidMessageError | None:
        """Return the error about a lone surrogate in what the last row sends. None if there is none.

        It is looked for only when a request was refused.
        """
        index, row = self._last
        names = [] if self._key is None else choose_columns("key", self._key, self._source.columns)
        system = () if self._system is None else self._system.names(self._source.columns)
        for name in (*names, *self._prompt.names(self._source.columns), *system):
            if not is_encodable(text_of(row[name])):
                return self._error(index, not_unicode(name))
        return None

    def _blank_prompt(self, columns: Sequence[str]) -> InvalidMessageError:
        names = [repr(short_name(name)) for name in self._prompt.names(columns)]
        blank = "" if not names else f", because {names[0]} is" if len(names) == 1 else ", because all its columns are"
        return InvalidMessageError(f"the prompt is blank{blank}.", NOTHING_SENT, _BLANK_PROMPT)

    def _error(self, index: int, error: KeyError | ValueFormError | InvalidMessageError) -> InvalidMessageError:
        """Name the row in an error about it."""
        if isinstance(error, InvalidMessageError):
            problem, *lines = str(error).split("\n")
        elif isinstance(error, ValueFormError):
            column = short_name(error.column or "")
            problem, lines = f"column {column!r} {error.problem}.", [NOTHING_SENT, error.remedy]
        else:
            problem = f"there is no column {short_name(str(error.args[0]))!r}."
            lines = [NOTHING_SENT, "Give every row the same columns, with None where a value is missing."]
        return row_error(index, self._source.place, problem, *lines)
