"""Makes content blocks of the files that source rows name: images and PDFs, put before the prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow_claude_batch.batch.input.foreign_types import is_array, is_missing
from airflow_claude_batch.batch.input.rows.file_contents import (
    LARGEST_REQUEST,
    MOST_PAGES,
    FileContents,
    FileStore,
    UnreadFileError,
    read_contents,
)
from airflow_claude_batch.batch.input.rows.file_uris import RowFileError, check_template, check_uri
from airflow_claude_batch.batch.input.rows.source import SourceRow
from airflow_claude_batch.batch.input.rows.template import PromptTemplate
from airflow_claude_batch.batch.input.rows.values import json_of
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import (
    NOTHING_SENT,
    ConfigurationError,
    InputError,
    InvalidMessageError,
    SourceError,
)

#: Characters of an error's first line: the row and its place come before it.
_LINE: Final = 78
_EXAMPLE: Final = 'Write a list of URIs with columns: files=["s3://my_conn@bucket/{name}.pdf"].'

#: Makes the content blocks of one source row.
RowBlocks = Callable[[SourceRow], list[dict[str, Any]]]


def check_files(files: Any) -> None:
    """Check ``files`` when a DAG is parsed: a list of templates of URIs. They may still hold Jinja.

    :raises ConfigurationError: it is something else.
    :raises InputError: braces in it look like a placeholder and are none.
    """
    if not isinstance(files, list | tuple) or not files:
        remedy = 'Put the text into a list: files=["{uri}"].' if isinstance(files, str) else _EXAMPLE
        raise ConfigurationError(f"files must be a list of texts, not {_shown_type(files)}.", NOTHING_SENT, remedy)
    for number, text in enumerate(files):
        if not isinstance(text, str):
            raise ConfigurationError(
                f"files[{number}] must be a text, not {_shown_type(text)}.", NOTHING_SENT, _EXAMPLE
            )
        try:
            check_template(text)
        except RowFileError as error:
            raise ConfigurationError(f"files[{number}]: {error.sentence()}", NOTHING_SENT, error.remedy) from None
        PromptTemplate(text, name=f"files[{number}]").check_form()


def _shown_type(value: Any) -> str:
    return "None" if value is None else "an empty list" if value in ([], ()) else f"of type {type(value).__name__}"


class FileBlocks:
    """Makes the content blocks of the files that a source row names.

    ``templates`` are URIs with columns of the row. The files' bytes go into the request in base64. Each template gives
    the block of one file, in the order of the templates. One that is exactly ``"{column}"`` gives a block for each URI
    of a column that holds lists.

    A template gives no block if one of its columns is NULL or blank, so a row may have no file at all. A file that a
    row names must be there.

    Only the files of one row are in memory. Those that the next row names too are not read again.

    Example::

        blocks = FileBlocks(["s3://my_conn@bucket/{name}.pdf"], store).bind(["name", "title"])
        blocks({"name": "a", "title": "Invoice"})  # [{"type": "document", "source": {"type": "base64", …}}]

    :param store: storage that the files are read from.
    """

    def __init__(self, templates: Sequence[str], store: FileStore) -> None:
        self._templates = templates
        self._store = store

    def bind(self, columns: Sequence[str]) -> RowBlocks:
        """Return the function that makes the blocks of a row with these columns.

        It raises :class:`.InvalidMessageError` if a file cannot be sent: the first line names the template and its
        columns. It raises :class:`.SourceError` if the storage failed, so that the task is tried again.

        :raises InputError: a template names a column that the rows do not have, or is no URI.
        """
        try:
            check_files(self._templates)  # what Jinja or another task made of them
        except ConfigurationError as error:
            raise InputError(*str(error).split("\n")) from None
        bound = [_BoundTemplate.of(text.strip(), number, columns) for number, text in enumerate(self._templates)]
        return _RowFiles(bound, self._store).blocks


@dataclass(frozen=True, slots=True)
class _BoundTemplate:
    """A template of a URI, for rows with certain columns.

    :param written: what the author wrote before the first column.
    """

    name: str
    columns: tuple[str, ...]
    written: str
    is_column: bool
    fill: Callable[[SourceRow], str]

    @classmethod
    def of(cls, text: str, number: int, columns: Sequence[str]) -> _BoundTemplate:
        template = PromptTemplate(text, name=f"files[{number}]")
        fill, used = template.bind(columns), template.names(columns)
        starts = [text.index(f"{{{column}}}") for column in used]
        return cls(
            name=template.name,
            columns=used,
            written=text[: min(starts, default=len(text))],
            is_column=[f"{{{column}}}" for column in used] == [text],
            fill=fill,
        )

    def uris(self, row: SourceRow) -> list[str]:
        """Return the URIs of a row's files.

        :raises RowFileError: one of them is none that the row may name.
        """
        values = [row[column] for column in self.columns]
        lists = [value for value in values if isinstance(value, list | tuple) or is_array(value)]
        if lists:
            uris = [self._listed(value) for value in self._items(lists[0]) if not _is_blank(value)]
        else:
            uris = [] if any(map(_is_blank, values)) else [self.fill(row).strip()]
        for uri in uris:
            check_uri(uri, self.written)
        return uris

    def _items(self, value: Any) -> Sequence[Any]:
        if not self.is_column:
            raise RowFileError(
                "the column holds a list", 'Only a template of one column takes lists: files=["{uris}"].'
            )
        return list(json_of(value))

    @staticmethod
    def _listed(value: Any) -> str:
        if isinstance(value, str):
            return value.strip()
        raise RowFileError(f"the list holds a value of type {type(value).__name__}", "Give a list of URIs, as texts.")

    def error(self, error: RowFileError) -> InvalidMessageError | SourceError:
        """Build the error about a file, in three lines. The row is named by the code that reads it."""
        columns = ", ".join(f"{column:.20}" for column in self.columns[:1])
        which = f"{self.name} ({columns}): " if columns else f"{self.name}: "
        kind = SourceError if isinstance(error, UnreadFileError) else InvalidMessageError
        return kind(f"{which}{error.sentence(_LINE - len(which))}", NOTHING_SENT, error.remedy)


class _RowFiles:
    """Reads the files of one row after the other, and holds those of the last row."""

    def __init__(self, templates: Sequence[_BoundTemplate], store: FileStore) -> None:
        self._templates = templates
        self._store = store
        self._held: dict[str, FileContents] = {}

    def blocks(self, row: SourceRow) -> list[dict[str, Any]]:
        """Return the blocks of a row's files."""
        named = list(self._named(row))
        uris = {uri for _, uri in named}
        self._held = {uri: contents for uri, contents in self._held.items() if uri in uris}
        size = pages = 0
        blocks = []
        for template, uri in named:
            try:
                contents = self._contents(uri)
                size, pages = size + len(contents.data), pages + contents.pages
                _check_sum(size, pages)
            except RowFileError as error:
                raise template.error(error) from error.__cause__
            blocks.append(contents.block())
        return blocks

    def _named(self, row: SourceRow) -> Iterator[tuple[_BoundTemplate, str]]:
        for template in self._templates:
            try:
                uris = template.uris(row)
            except RowFileError as error:
                raise template.error(error) from None
            for uri in uris:
                yield template, uri

    def _contents(self, uri: str) -> FileContents:
        if uri not in self._held:
            self._held[uri] = read_contents(uri, self._store)
        return self._held[uri]


def _check_sum(size: int, pages: int) -> None:
    if size > LARGEST_REQUEST:
        raise RowFileError(
            f"the files of the row have more than {LARGEST_REQUEST:,} bytes in base64", "Give fewer or smaller files."
        )
    if pages > MOST_PAGES:
        raise RowFileError(
            f"the PDFs of the row have {quantity(pages, 'page')}, and {MOST_PAGES} are allowed", "Give fewer."
        )


def _is_blank(value: Any) -> bool:
    """Return True for NULL, however a source writes it, and for a text without a character."""
    return value is None or (isinstance(value, str) and not value.strip()) or is_missing(value)
