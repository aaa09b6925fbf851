"""Find the files of ``FileRows``: one file, those of a folder, or those that a pattern names."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from fsspec.utils import glob_translate

from airflow_claude_batch._airflow.check_arguments import wrong_path
from airflow_claude_batch._airflow.compat import ObjectStoragePath
from airflow_claude_batch._airflow.results_folder import object_path
from airflow_claude_batch.batch.input.rows.columns import shown_path
from airflow_claude_batch.batch.input.rows.file_rows import FileRowSource
from airflow_claude_batch.batch.input.rows.row_file import PARQUET, SUFFIXES, RowFile, format_of, storage_error
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import NOTHING_SENT, ConfigurationError, EmptyInputError, InputError

log = logging.getLogger(__name__)

_PATTERN: Final = re.compile(r"[*?\[]")
_PASSWORD: Final = re.compile(r"(?<=://)[^/@]*:[^/@]*@")
#: Clients of object stores read ahead in blocks, of 50 MB by default for S3.
_BLOCK_BYTES: Final = 4 * 1024 * 1024
_OBJECT_STORES: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})
_REMEDY: Final = (
    "Give an absolute path that all workers share, or a URI such as s3://aws_default@my-bucket/day=2026-11-29/."
)


class _Place(NamedTuple):
    """A file or a folder in a storage, and the pattern below the folder.

    :param uri: the file or folder for errors, without a password.
    :param pattern: what follows the folder, empty for none.
    """

    fs: Any
    path: str
    uri: str
    pattern: str = ""

    @property
    def given(self) -> str:
        """What the author wrote, for errors."""
        return shown_path(f"{self.uri}/{self.pattern}" if self.pattern else self.uri)

    def uri_of(self, path: str) -> str:
        return f"{self.uri}/{self.relative(path)}".rstrip("/")

    def relative(self, path: str) -> str:
        """Return a path below the folder. Some storages begin paths with a slash where the folder has none."""
        return path.partition(self.path)[2].strip("/")


def open_files(path: Any) -> FileRowSource:
    """Return the rows of files.

    :param path: the path or URI of a file or a folder, or a pattern with ``*``, ``?``, ``[…]`` or ``**``.
    :raises ConfigurationError: it is no absolute path or URI. While iterating: no installed provider serves it.
    """
    text = str(path) if isinstance(path, ObjectStoragePath | os.PathLike) else path
    text = text.strip() if isinstance(text, str) else text
    _check(text)
    return FileRowSource(partial(_files, text))


def _check(path: Any) -> None:
    if path == "":
        raise InputError("rows: path is an empty text.", NOTHING_SENT, "Check the template that gives it.")
    reason = wrong_path(path)
    if reason is None and _root_of_pattern(path).endswith("://"):
        reason = "a pattern cannot stand for the bucket or host"
    if reason:
        shown = f"{_PASSWORD.sub('***@', path)!r:.40}" if isinstance(path, str) else f"of type {type(path).__name__}"
        raise ConfigurationError(f"rows: path is {shown}: {reason}.", NOTHING_SENT, _REMEDY)


def _files(path: str) -> Sequence[RowFile]:
    """List the files.

    :raises EmptyInputError: there is no file.
    :raises InputError: there are files, but none with rows, or their formats differ.
    """
    place = _place_of(path)
    try:
        names = _names(place)
    except Exception as error:  # stores' libraries have errors of their own
        raise storage_error(place.given, error) from error
    if names is None:
        _check_format(place)
        return [RowFile(place.uri, _opener(place.fs, place.path))]
    return [RowFile(place.uri_of(name), _opener(place.fs, name)) for name in _of_one_format(place, names)]


def _place_of(path: str) -> _Place:
    """Split a path into the folder that it names and the pattern below it. A name that exists is no pattern."""
    place = _place(path)
    root = _root_of_pattern(path)
    try:
        place.fs.invalidate_cache()  # most clients cache listings, and another task may have written since
        if not root or _type(place) is not None:
            return place
    except Exception as error:  # stores' libraries have errors of their own
        raise storage_error(place.given, error) from error
    return _place(root)._replace(pattern=path.removeprefix(root))


def _root_of_pattern(path: str) -> str:
    """Return the folder above a pattern, with its slash. Empty if there is no pattern."""
    found = _PATTERN.search(path)
    return path[: path.rindex("/", 0, found.start()) + 1] if found else ""


def _place(path: str) -> _Place:
    found = object_path(path)
    shown = _PASSWORD.sub("***@", path) if "://" in path else found.path
    return _Place(found.fs, found.path.rstrip("/") or "/", shown.rstrip("/"))


def _type(place: _Place) -> str | None:
    """Return ``file`` or ``directory``, None if there is nothing. ``fs.exists`` takes every error for nothing."""
    try:
        return str(place.fs.info(place.path)["type"])
    except (FileNotFoundError, NotADirectoryError):
        return None


def _names(place: _Place) -> Mapping[str, int] | None:
    """Return the paths of the files in the folder, or that the pattern names, with their sizes. None for a file."""
    kind = _type(place)
    if kind == "file" or (kind is None and not place.pattern and format_of(place.path)):
        return None  # opening a missing file says that there is none
    if kind is None:
        return {}
    if not place.pattern:
        return _below(place.fs, place.path)
    names: dict[str, int] = {}
    for name, info in _matches(place).items():
        names |= _below(place.fs, name) if info["type"] == "directory" else {name: info["size"]}
    return names


def _matches(place: _Place) -> dict[str, Mapping[str, Any]]:
    """Return the files and folders that the pattern names."""
    pattern = place.pattern.rstrip("/")
    if _is_object_store(place.fs):
        return place.fs.glob(f"{place.path}/{pattern}", detail=True)  # type: ignore[no-any-return]  # fsspec: no types
    depth = -1 if "**" in pattern else pattern.count("/") + 1
    matches = re.compile(glob_translate(pattern)).match
    return {info["name"]: info for info in _walk(place.fs, place.path, depth) if matches(place.relative(info["name"]))}


def _below(fs: Any, folder: str) -> dict[str, int]:
    """Return the files in a folder and those below it, with their sizes."""
    found = fs.find(folder, detail=True).values() if _is_object_store(fs) else _walk(fs, folder)
    return {info["name"]: info["size"] for info in found if info["type"] != "directory"}


def _walk(fs: Any, folder: str, depth: int = -1) -> Iterator[Mapping[str, Any]]:
    """Yield what is in a folder and below it. Walks of fsspec leave out the folders that they may not read.

    :param depth: how many levels, -1 for all.
    """
    for info in fs.ls(folder, detail=True):
        yield info
        if info["type"] == "directory" and depth != 1:
            yield from _walk(fs, info["name"], depth - 1)


def _is_object_store(fs: Any) -> bool:
    return not _OBJECT_STORES.isdisjoint([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol)


def _of_one_format(place: _Place, names: Mapping[str, int]) -> list[str]:
    """Return the files with rows, in the order of their names.

    :raises InputError: there is none, or their formats differ.
    """
    shown = _shown(place, names)
    files = [name for name in shown if format_of(name)]
    others = [name for name in shown if not format_of(name) and names[name]]
    if not files:
        raise _nothing_error(place, others)
    first = files[0]
    if odd := next((name for name in files if format_of(name) != format_of(first)), None):
        raise InputError(
            f"rows: {place.given} has files of two formats: {format_of(first)} and {format_of(odd)}.",
            f"{NOTHING_SENT} Such as {place.uri_of(first)} and {place.uri_of(odd)}.",
            "Name the files of one of them by a pattern, such as *.parquet.",
        )
    log.info("Reading rows of %s in %s.%s", quantity(len(files), "file"), place.given, _skipped(place, others))
    return files


#: What FileRows is not for.
_DOCUMENTS: Final = "PDFs and images go in with files=, by names that rows have: rows=[{'name': 'a.pdf'}, …]."


def _nothing_error(place: _Place, others: list[str]) -> InputError:
    if others:
        return InputError(
            f"rows: no file in {place.given} has a suffix that names rows.",
            f"{NOTHING_SENT} It has {quantity(len(others), 'other file')}, such as {place.relative(others[0])}.",
            f"Rows are read from {SUFFIXES}. {_DOCUMENTS}",
        )
    return EmptyInputError(
        f"rows: there is no file at {place.given}.",
        f"{NOTHING_SENT} Names that begin with _ or . are left out.",
        "Check the path. If there may be none, set on_empty='skip', or on_empty='succeed' for a manifest without rows.",
    )


def _skipped(place: _Place, others: list[str]) -> str:
    if not others:
        return ""
    return f" Left out: {quantity(len(others), 'file')} of other suffixes, such as {place.relative(others[0])}."


def _shown(place: _Place, names: Mapping[str, int]) -> list[str]:
    """Leave out what writers hide, such as ``_SUCCESS`` and ``_temporary``, unless the pattern names hidden ones."""
    if any(map(_is_hidden, place.pattern.split("/"))):
        return sorted(names)
    return sorted(name for name in names if not any(map(_is_hidden, place.relative(name).split("/"))))


def _is_hidden(name: str) -> bool:
    return name.startswith(("_", "."))


def _check_format(place: _Place) -> None:
    if not format_of(place.path):
        raise InputError(
            f"rows: {place.given} has no suffix that names rows.",
            NOTHING_SENT,
            f"Rows are read from {SUFFIXES}. Of other files, return or yield rows from a function "
            f"(@task.claude_batch). {_DOCUMENTS}",
        )


def _opener(fs: Any, path: str) -> Callable[[], Any]:
    """Return what opens a file.

    A Parquet file is read at many places: reading ahead in an object store would be waste.
    """
    options: dict[str, Any] = {"block_size": _BLOCK_BYTES}
    if _is_object_store(fs) and format_of(path) == PARQUET:
        options["cache_type"] = "none"
    return partial(fs.open, path, "rb", **options)
