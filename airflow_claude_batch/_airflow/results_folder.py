"""Find the folder of a submission: on a disk, or in any store that Airflow's object storage reaches."""

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

#: Characters that names may keep, beside letters and digits: run ids such as ``manual__2026-11-22T09:00:00+00:00``.
_SAFE_CHARACTERS = ":+~@=,"
#: The longest file name that disks accept, in bytes. A quoted letter of another script takes six or nine.
_MAX_NAME_BYTES = 255


def results_root(results_path: str | None) -> str:
    """Return the folder above all submissions: the task's, else the deployment's, else one under AIRFLOW_HOME."""
    configured = results_path or settings.results_path()
    home = os.path.expandvars(os.environ.get("AIRFLOW_HOME", "~/airflow"))  # as Airflow itself finds it
    return configured or str(Path(home).expanduser() / "claude_batch")


def submission_folder(results_path: str | None, ti: TaskInstanceKey) -> Folder:
    """Return a task instance's folder, the same for each try: ``<root>/<dag_id>/<run_id>/<task_id>[/<map_index>]``."""
    names = [ti.dag_id, ti.run_id, ti.task_id]
    if ti.map_index is not None and ti.map_index >= 0:
        names.append(str(ti.map_index))
    return folder_at("/".join([results_root(results_path).rstrip("/"), *map(_path_segment, names)]))


def submission_id(ti: TaskInstanceKey) -> str:
    """Return the submission's id: the same for each try of a task instance, and unique to the task instance."""
    name = "\0".join((ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index)))
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def folder_at(uri: str) -> Folder:
    """Return the folder at a path or URI, such as ``s3://aws_default@bucket/claude-batch``.

    :raises ConfigurationError: no installed provider serves the URI.
    """
    from airflow_claude_batch.batch.storage import LocalFolder, ObjectFolder

    if "://" not in uri:
        return LocalFolder(Path(uri).expanduser(), mode=settings.results_mode())
    path = object_path(uri)
    if path.protocol in ("file", "local"):
        return LocalFolder(Path(path.path), mode=settings.results_mode())
    return ObjectFolder(path.fs, path.path, uri=uri)


def object_path(uri: str) -> ObjectStoragePath:
    """Return the object at a path or URI, once its storage's client is made.

    :raises ConfigurationError: no installed provider serves the URI.
    """
    try:
        path = ObjectStoragePath(uri)
        _ = path.fs
    except (ValueError, ImportError) as error:
        raise ConfigurationError(
            f"{uri} cannot be reached: {error}.",
            "Nothing was sent or landed.",
            "Install the Airflow provider that serves this URI on every worker.",
        ) from error
    return path


def folder_of_file(uri: str) -> tuple[Folder, str]:
    """Split the path or URI of a file into its folder and its name."""
    parent, _, name = uri.rpartition("/")
    return folder_at(parent or "."), name


def _path_segment(name: str) -> str:
    """Quote a name as one path segment that cannot leave its folder."""
    quoted = quote(name, safe=_SAFE_CHARACTERS)
    if len(quoted) > _MAX_NAME_BYTES:
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        return f"{quoted[: _MAX_NAME_BYTES - len(digest) - 1]}~{digest}"
    return quoted.replace(".", "%2E") if not quoted.strip(".") else quoted
