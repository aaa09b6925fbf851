"""Find the folder of a submission: on a disk, or in any store that Airflow's object storage reaches."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow_claude_batch._airflow import settings
from airflow_claude_batch._airflow.check_arguments import check_results_path
from airflow_claude_batch._airflow.compat import AirflowNotFoundException, ObjectStoragePath
from airflow_claude_batch._airflow.storage_providers import install_remedy
from airflow_claude_batch.api.redaction import shorten
from airflow_claude_batch.batch.land.place import Place, find_place, id_of_names
from airflow_claude_batch.exceptions import ConfigurationError, InputError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.compat import TaskInstanceKey
    from airflow_claude_batch.batch.storage import Folder, LocalFolder, ObjectFolder

#: Characters that names may keep, beside letters and digits: run ids such as ``manual__2026-11-22T09:00:00+00:00``.
_SAFE_CHARACTERS = ":+~@=,"
#: The longest file name that disks accept, in bytes. A quoted letter of another script takes six or nine.
_MAX_NAME_BYTES = 255


def results_root(results_path: str | None) -> str:
    """Return the folder above all submissions: the task's, else the deployment's, else one under AIRFLOW_HOME.

    :raises ConfigurationError: it is not the same place for every process.
    """
    if results_path:
        check_results_path("results_path", results_path)
        return results_path
    if configured := settings.results_path():
        check_results_path("[claude_batch] results_path", configured)
        return configured
    home = os.path.expandvars(os.environ.get("AIRFLOW_HOME", "~/airflow"))  # as Airflow itself finds it
    check_results_path("AIRFLOW_HOME", home)
    return str(Path(home).expanduser() / "claude_batch")


def is_default_root(results_path: str | None) -> bool:
    """Return True if neither the task nor the deployment names the folder above all submissions."""
    return not (results_path or settings.results_path())


def submission_folder(results_path: str | None, ti: TaskInstanceKey, loop: str | None = None) -> Folder:
    """Return a task instance's folder, the same for each try.

    It is ``<root>/<dag_id>/<run_id>/<task_id>[/<map_index>][/<loop>]``.

    :param loop: the iteration of a loop that the task instance belongs to, from :func:`.compat.loop_iteration`.
    :raises ConfigurationError: ``results_path`` cannot be right, or no installed provider serves it.
    """
    return folder_at(folder_of_place(results_root(results_path), place_of_task(ti, loop)))


def place_of_task(ti: TaskInstanceKey, loop: str | None = None) -> Place:
    """Return the names of a task instance's folder.

    :param loop: as in :func:`submission_folder`.
    """
    return Place(ti.dag_id, ti.run_id, ti.task_id, -1 if ti.map_index is None else ti.map_index, loop)


def history_folder(root: str | None, ti: TaskInstanceKey) -> Folder:
    """Return the folder of what a task remembers from run to run: ``<root>/<dag_id>/_history/<task_id>``.

    :param root: the folder above all submissions, None for the deployment's.
    :raises ConfigurationError: it cannot be right, or no installed provider serves it.
    """
    names = (_path_segment(ti.dag_id), "_history", _path_segment(ti.task_id))
    return folder_at("/".join([results_root(root).rstrip("/"), *names]))


def spending_folder(day: str) -> Folder:
    """Return the folder with the spending of one day. For "", the folder above those of all days.

    It is ``<root>/_spending/<day>``. Tasks with a ``results_path`` of their own use it too: there is one budget.
    Submissions have their files one level below, so that no name of a DAG or a run can collide with it.

    :raises ConfigurationError: the deployment's results folder cannot be right, or no installed provider serves it.
    """
    return folder_at("/".join([results_root(None).rstrip("/"), "_spending", *filter(None, [day])]))


def sender_history_folder(folder: Folder, id_: str) -> Folder | None:
    """Return the history of the task that has sent a submission. None if it cannot be told from the folder's names.

    Of the instances of a mapped task only the first one has a history, because all of them share one.

    :param folder: the submission's folder.
    :param id_: the submission's id.
    :raises ConfigurationError: no installed provider serves the URI.
    """
    found = place_of(folder, id_)
    if found is None or found[1].map_index > 0:
        return None
    root, place = found
    names = (_path_segment(place.dag_id), "_history", _path_segment(place.task_id))
    return folder_at("/".join([root, *names]))


def place_of(folder: Folder, id_: str) -> tuple[str, Place] | None:
    """Return the folder above all submissions, and the names below it that belong to a submission's task instance.

    None if the folder's names do not have them: long names are shortened.

    :param id_: the submission's id. It tells which of the folder's names are those of the task.
    """
    return find_place(folder.uri(""), id_)


def folder_of_place(root: str, place: Place) -> str:
    """Return the path or URI of the folder of a task instance's submission.

    :param root: the folder above all submissions.
    """
    names = [place.dag_id, place.run_id, place.task_id]
    if place.map_index >= 0:
        names.append(str(place.map_index))
    if place.loop is not None:
        names.append(place.loop)
    return "/".join([root.rstrip("/"), *map(_path_segment, names)])


def submission_id(ti: TaskInstanceKey, loop: str | None = None) -> str:
    """Return the submission's id: the same for each try of a task instance, and unique to the task instance.

    :param loop: as in :func:`submission_folder`.
    """
    return id_of_names(ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index), *([] if loop is None else [loop]))


def check_below_roots(folder: Folder, results_paths: Iterable[str | None]) -> str:
    """Check that a folder that came by XCom is below the deployment's ``results_path``, or one of an author's.

    Return that ``results_path``.

    Without this, anyone who can write an XCom could make the sensor write answers into any folder.

    :raises InputError: it is not.
    """
    roots = list(dict.fromkeys(map(results_root, (*results_paths, None))))
    for root in roots:
        if _is_below(folder, folder_at(root)):
            return root
    raise InputError(
        f"batch names a folder that is not below the results_path: {folder.uri('')}.",
        f"Nothing was landed. The API keeps the answers for 29 days. The folder may be below {' or '.join(roots)}.",
        "If an operator has sent it with another results_path, give the sensor the same one.",
    )


def _is_below(folder: Folder, root: Folder) -> bool:
    from airflow_claude_batch.batch.storage import LocalFolder

    if isinstance(folder, LocalFolder) and isinstance(root, LocalFolder):
        path, above = folder.path.resolve(), root.path.resolve()  # without .. and symbolic links
        return path != above and path.is_relative_to(above)
    name, above_name = folder.uri("").rstrip("/"), root.uri("").rstrip("/")
    segments = name.removeprefix(above_name).split("/")
    return name.startswith(f"{above_name}/") and not {"", ".", ".."}.intersection(segments[1:])


def folder_at(uri: str) -> LocalFolder | ObjectFolder:
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

    A path on a disk becomes absolute: ObjectStoragePath of Airflow 3.0 takes a relative one for one below ``/``.

    :raises ConfigurationError: no installed provider serves the URI.
    """
    try:
        path = ObjectStoragePath(uri if "://" in uri else str(Path(uri).expanduser().absolute()))
        _ = path.fs
    except (ValueError, ImportError) as error:
        raise _unreachable(uri, error, install_remedy(uri)) from error
    except AirflowNotFoundException as error:
        raise _unreachable(
            uri, error, "Create that connection, or name another one before the @ of the URI."
        ) from error
    except Exception as error:  # secrets backends and the clients of stores raise errors of their own
        raise _unreachable(uri, error, "Check the connection before the @ of the URI, and where it is kept.") from error
    return path


def _unreachable(uri: str, error: Exception, remedy: str) -> ConfigurationError:
    reason = str(error).partition("\n")[0].rstrip(".")
    return ConfigurationError(
        f"{_shown(uri)} cannot be reached: {shorten(reason, 200)}.", "Nothing was sent or landed now.", remedy
    )


def _shown(uri: str) -> str:
    """Return a URI without a password, and not too long for one line. The name of a connection stays."""
    shown = re.sub(r"(?<=://)[^/@]*:[^/@]*@", "***@", uri)
    return shown if len(shown) <= 70 else f"{shown[:67]}..."


def folder_of_file(uri: str) -> tuple[Folder, str]:
    """Split the path or URI of a file into its folder and its name."""
    parent, slash, name = uri.rpartition("/")
    return folder_at(parent or slash or "."), name


def _path_segment(name: str) -> str:
    """Quote a name as one path segment that cannot leave its folder."""
    quoted = quote(name, safe=_SAFE_CHARACTERS)
    if len(quoted) > _MAX_NAME_BYTES:
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        return f"{quoted[: _MAX_NAME_BYTES - len(digest) - 1]}~{digest}"
    return quoted.replace(".", "%2E") if not quoted.strip(".") else quoted
