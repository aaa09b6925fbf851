"""The folders below a results folder. Those on a disk are read without Airflow, whose import takes seconds."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from airflow_claude_batch.batch.land.manifest import MANIFEST_FILE
from airflow_claude_batch.batch.storage import Folder, LocalFolder, ObjectFolder

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

#: Many times the largest manifest: it has some numbers for each model and an id for each message batch.
MAX_MANIFEST_BYTES: Final = 16 * 1024 * 1024


class ResultsTree(Protocol):
    """The folders below a results folder. Folders are named by their path below it, "" for itself."""

    @property
    def name(self) -> str:
        """The last name of the results folder."""

    def find(self) -> tuple[Sequence[str], Sequence[OSError]]:
        """Return the folders that have a manifest, sorted, and the errors of folders that cannot be listed.

        :raises OSError: the results folder cannot be listed.
        """

    def read_manifest(self, folder: str) -> bytes:
        """Return a folder's manifest.

        :raises OSError: it cannot be read.
        :raises ValueError: it is no file, or too large.
        """

    def uri(self, folder: str) -> str:
        """Return the path or URI of a folder."""

    def open_folder(self, folder: str) -> Folder:
        """Return a folder."""

    def check_file(self, folder: str, name: str) -> None:
        """Raise if a path on a disk does not lead to a file. To read from a pipe or a device might never end.

        :raises OSError: it leads nowhere.
        :raises ValueError: it leads to something else.
        """


def tree_at(root: str) -> ResultsTree:
    """Return the tree at a path or URI of a folder, or of a manifest.

    :raises ConfigurationError: no installed provider serves the URI.
    """
    parent, _, last = root.rpartition("/")
    if last == MANIFEST_FILE:
        root = parent or "."
    if "://" not in root:
        return DiskTree(str(Path(root).expanduser().absolute()))
    from airflow_claude_batch._airflow.results_folder import object_path

    path = object_path(root)
    if path.protocol in ("file", "local", ""):
        return DiskTree(path.path)
    return StoreTree(path.fs, path.path, root)


class DiskTree:
    """Folders on a disk."""

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/") or "/"

    @property
    def name(self) -> str:
        return self._root.rpartition("/")[2]

    def find(self) -> tuple[Sequence[str], Sequence[OSError]]:
        if not Path(self._root).is_dir():
            return [], []
        problems: list[OSError] = []
        # Links to other folders are not followed.
        found = [
            folder
            for folder, folders, files in os.walk(self._root, onerror=problems.append)
            if MANIFEST_FILE in files or MANIFEST_FILE in folders
        ]
        for problem in problems:
            problem.filename = self._below(str(problem.filename))
        return sorted(map(self._below, found)), problems

    def read_manifest(self, folder: str) -> bytes:
        # O_NONBLOCK: to open a pipe would wait for its other end.
        descriptor = os.open(self._path(folder, MANIFEST_FILE), os.O_RDONLY | os.O_NONBLOCK)
        try:
            size = _checked(_size_of_file(os.fstat(descriptor)))
            return os.read(descriptor, size)
        finally:
            os.close(descriptor)

    def uri(self, folder: str) -> str:
        return f"{self._root}/{folder}".rstrip("/")

    def open_folder(self, folder: str) -> Folder:
        return LocalFolder(Path(self.uri(folder)))

    def check_file(self, folder: str, name: str) -> None:
        _size_of_file(Path(self._path(folder, name)).stat())

    def _path(self, folder: str, name: str) -> str:
        return "/".join((self._root, folder, name))

    def _below(self, path: str) -> str:
        return path.removeprefix(self._root).strip("/")


class StoreTree:
    """Folders in an object store.

    :param base: path of the results folder within the file system.
    :param uri: the results folder as the user wrote it.
    """

    def __init__(self, fs: AbstractFileSystem, base: str, uri: str) -> None:
        self._fs = fs
        self._base = base.rstrip("/")
        self._uri = uri.rstrip("/")

    @property
    def name(self) -> str:
        return self._base.rpartition("/")[2]

    def find(self) -> tuple[Sequence[str], Sequence[OSError]]:
        files = (path.rpartition("/") for path in self._fs.find(self._base))
        return sorted(self._below(folder) for folder, _, name in files if name == MANIFEST_FILE), ()

    def read_manifest(self, folder: str) -> bytes:
        file = self.open_folder(folder).open(MANIFEST_FILE)
        if file is None:
            raise ValueError("it is not there any more")
        with file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
        _checked(len(data))
        return data

    def uri(self, folder: str) -> str:
        return f"{self._uri}/{folder}".rstrip("/")

    def open_folder(self, folder: str) -> Folder:
        return ObjectFolder(self._fs, f"{self._base}/{folder}", uri=self.uri(folder))

    def check_file(self, folder: str, name: str) -> None:
        """Accept every file: a store has nothing else."""

    def _below(self, path: str) -> str:
        # Some file systems list paths without the leading slash, others with one that they were not given.
        return path.lstrip("/").removeprefix(self._base.lstrip("/")).strip("/")


def _size_of_file(status: os.stat_result) -> int:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a file")
    return status.st_size


def _checked(size: int) -> int:
    if size > MAX_MANIFEST_BYTES:
        raise ValueError(f"it has more than {MAX_MANIFEST_BYTES:,} bytes")
    return size
