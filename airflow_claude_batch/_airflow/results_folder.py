"""Where submissions keep their files: any place that Airflow's object storage reaches."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow_claude_batch._airflow import settings
from airflow_claude_batch._airflow.compat import ObjectStoragePath
from airflow_claude_batch.exceptions import ConfigurationError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.compat import TaskInstanceKey
    from airflow_claude_batch.batch.storage import Folder

#: What names may keep of an Airflow run id such as ``manual__2026-11-22T09:00:00+00:00``.
_PLAIN = ":+~@=,"
#: Bytes that disks take for one name; a letter of another script becomes six or nine of them.
_LONGEST = 255


def results_root(results_path: str | None) -> str:
    """The folder above all submissions: the task's, the deployment's, else one under AIRFLOW_HOME."""
    configured = results_path or settings.results_path()
    home = os.path.expandvars(os.environ.get("AIRFLOW_HOME", "~/airflow"))  # as Airflow itself finds it
    return configured or str(Path(home).expanduser() / "claude_batch")


def submission_folder(results_path: str | None, ti: TaskInstanceKey) -> Folder:
    """The folder of a task instance: ``<root>/<dag_id>/<run_id>/<task_id>[/<map_index>]``, the same for every try."""
    names = [ti.dag_id, ti.run_id, ti.task_id]
    if ti.map_index is not None and ti.map_index >= 0:
        names.append(str(ti.map_index))
    return folder_at("/".join([results_root(results_path).rstrip("/"), *map(_segment, names)]))


def submission_id(ti: TaskInstanceKey) -> str:
    """The same for every try of a task instance, and for no other task instance."""
    name = "\0".join((ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index)))
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def folder_at(uri: str) -> Folder:
    """A folder by path or URI, such as ``s3://aws_default@bucket/claude-batch``.

    :raises ConfigurationError: no installed provider serves the URI.
    """
    from airflow_claude_batch.batch.storage import LocalFolder, ObjectFolder

    if "://" not in uri:
        return LocalFolder(Path(uri).expanduser())
    path = object_path(uri)
    if path.protocol in ("file", "local"):
        return LocalFolder(Path(path.path))
    return ObjectFolder(path.fs, path.path, uri=uri)


def object_path(uri: str) -> ObjectStoragePath:
    """A path or URI whose storage can be reached from here.

    :raises ConfigurationError: no installed provider serves the URI.
    """
    try:
        path = ObjectStoragePath(uri)
        _ = path.fs
    except (ValueError, ImportError) as error:
        raise ConfigurationError(
            f"{uri} cannot be reached: {error}. Install the Airflow provider that serves it on every worker."
        ) from error
    return path


def folder_of_file(uri: str) -> tuple[Folder, str]:
    """The folder of a file, and the file's name in it."""
    parent, _, name = uri.rpartition("/")
    return folder_at(parent or "."), name


def _segment(name: str) -> str:
    """One path segment that cannot climb out of its folder."""
    quoted = quote(name, safe=_PLAIN)
    if len(quoted) > _LONGEST:
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        return f"{quoted[: _LONGEST - len(digest) - 1]}~{digest}"
    return quoted.replace(".", "%2E") if not quoted.strip(".") else quoted
